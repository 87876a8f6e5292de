//! The architecture, read from the sources: who may import whom, where the system's names may
//! stand, and how long things may be. A test, so that it stays true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floor that each part of the library is on. Imports go down, or sideways without a circle.
const FLOORS: [(&str, u8); 28] = [
    ("compose", 30),
    ("echo", 30),
    ("reactor", 30),
    ("sim", 31),
    ("handler", 22),
    ("context", 21),
    ("acceptor", 20),
    ("handle", 20),
    ("timers", 20),
    ("link", 10),
    ("address", 0),
    ("buffer", 0),
    ("clock", 0),
    ("error", 0),
    ("escape", 0),
    ("framing", 0),
    ("limits", 0),
    ("memory", 0),
    ("net", 0),
    ("nonblocking", 0),
    ("options", 0),
    ("rate", 0),
    ("readiness", 0),
    ("stats", 0),
    ("table", 0),
    ("timer", 0),
    ("token", 0),
    ("lib", 255),
];

/// The floor of each part of the program, `src/bin/oread`. It is a crate of its own, so that of the
/// library it knows the public names alone. Imports go down.
const PROGRAM_FLOORS: [(&str, u8); 8] = [
    ("main", 6),
    ("commands", 5),
    ("serve", 4),
    ("connect", 4),
    ("load", 4),
    ("system", 2),
    ("values", 1),
    ("failure", 0),
];

/// The floor of each room of `load`, the largest command.
const LOAD_FLOORS: [(&str, u8); 11] = [
    ("load", 6),
    ("find", 5),
    ("control", 4),
    ("generator", 3),
    ("report", 3),
    ("preflight", 3),
    ("options", 2),
    ("count", 1),
    ("exchange", 1),
    ("clock", 0),
    ("mix", 0),
];

/// The program's folders whose files must import each other without a circle too.
const WITHOUT_CIRCLES_INSIDE: [&str; 12] = [
    "connect",
    "load",
    "load/control",
    "load/exchange",
    "load/find",
    "load/generator",
    "load/options",
    "load/preflight",
    "load/report",
    "serve",
    "system",
    "values",
];

/// Lines that a function may have, from its `fn` to its closing brace.
const LONGEST_FUNCTION: usize = 70;
/// Lines that a file may have before its tests.
const LONGEST_FILE: usize = 600;
/// The program's folder in `src`.
const PROGRAM: &str = "bin/oread/";

/// One file of `src`: its path below it, and its lines without tests.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    /// The part of the library or of the program that the file belongs to.
    fn part(&self) -> &str {
        let path = self.path.strip_prefix(PROGRAM).unwrap_or(&self.path);
        let first = path.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    /// The names of a program's module, from the crate's root down.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix(PROGRAM).unwrap();
        path.trim_end_matches(".rs").split('/').collect()
    }

    /// What a line of the program imports by `crate::`, `self::` or `super::`: names from the
    /// crate's root down.
    fn program_imports<'a>(&'a self, line: &'a str) -> Vec<Vec<&'a str>> {
        let paths = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        let resolve = |path: &'a str| {
            let mut names: Vec<&str> = path.split("::").collect();
            let start = match names.remove(0) {
                "crate" => Vec::new(),
                "self" => self.module(),
                "super" => {
                    names.insert(0, "super");
                    self.module()
                }
                _ => return None,
            };
            let resolved = names.iter().fold(start, |mut at, &name| {
                match name {
                    "super" => drop(at.pop()),
                    name => at.push(name),
                }
                at
            });
            Some(resolved)
        };
        paths
            .filter(|path| path.contains("::"))
            .filter_map(resolve)
            .collect()
    }

    /// The lines that are code, with their numbers: no comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().enumerate();
        lines
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap()))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    /// Panics for the first line of code that has one of `words`.
    fn assert_without(&self, words: &[&str], why: &str) {
        for (number, line) in self.code() {
            for word in words {
                assert!(
                    !line.contains(word),
                    "src/{}:{number} names {word}: {why}\n{line}",
                    self.path
                );
            }
        }
    }
}

fn sources() -> Vec<Source> {
    let mut sources = with_simulated();
    sources.retain(|source| !source.path.contains("/simulated"));
    sources
}

/// The sources, and with them what only simulated runs of the program use.
fn with_simulated() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            // Tests in files of their own: `mod tests;` and what only tests use.
            let is_of_tests = name.ends_with("/tests.rs") || name == "link/script.rs";
            if name.contains("/tests/") {
                continue;
            }
            if name.ends_with(".rs") && !is_of_tests {
                sources.push(Source {
                    path: name.to_owned(),
                    lines: without_tests(&fs::read_to_string(&path).unwrap()),
                });
            }
        }
    }
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn library() -> Vec<Source> {
    let all = sources().into_iter();
    all.filter(|source| !source.path.starts_with("bin/"))
        .collect()
}

/// The program without its fuzz tests, which see all of it.
fn program() -> Vec<Source> {
    let all = sources().into_iter();
    let program: Vec<_> = all
        .filter(|source| source.path.starts_with(PROGRAM) && !source.path.ends_with("/fuzz.rs"))
        .collect();
    assert!(program.len() > 20, "the program was not found");
    program
}

/// The lines up to `#[cfg(test)] mod tests {`, which is at the end of a file.
fn without_tests(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1] == "mod tests {");
    let lines = &lines[..end.unwrap_or(lines.len())];
    lines.iter().map(|&line| line.to_owned()).collect()
}

/// The names after each `crate::` in a line.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn floor(part: &str) -> u8 {
    let found = FLOORS.iter().find(|(name, _)| *name == part);
    found
        .unwrap_or_else(|| panic!("src/{part} is on no floor: add it to FLOORS"))
        .1
}

/// The room of `load` that a module is in; its own file is above them all.
fn room<'a>(names: &[&'a str]) -> &'a str {
    names[usize::from(names.len() > 1)]
}

/// Whether a module of the program may import another.
fn is_at_or_below(import: &[&str], from: &[&str]) -> bool {
    let program = |part: &str| {
        let found = PROGRAM_FLOORS.iter().find(|(name, _)| *name == part);
        let add = || panic!("src/{PROGRAM}{part} is on no floor: add it to PROGRAM_FLOORS");
        found.unwrap_or_else(add).1
    };
    let load = |room: &str| {
        let found = LOAD_FLOORS.iter().find(|(name, _)| *name == room);
        let add = || panic!("src/{PROGRAM}load/{room} is on no floor: add it to LOAD_FLOORS");
        found.unwrap_or_else(add).1
    };
    if import[0] != from[0] {
        program(import[0]) < program(from[0])
    } else if from[0] == "load" {
        let (import, from) = (room(import), room(from));
        import == from || load(import) < load(from)
    } else {
        true
    }
}

/// Takes away whatever needs nothing that is left, and whatever nothing left needs, until nothing
/// is left: a circle would stay.
fn assert_without_circle(mut needs: BTreeMap<String, BTreeSet<String>>) {
    while !needs.is_empty() {
        let before = needs.len();
        let left: BTreeSet<String> = needs.keys().cloned().collect();
        needs
            .values_mut()
            .for_each(|on| on.retain(|part| left.contains(part)));
        let needed: BTreeSet<String> = needs.values().flatten().cloned().collect();
        needs.retain(|part, on| !on.is_empty() && needed.contains(part));
        assert!(needs.len() < before, "a circle among {needs:#?}");
    }
}

#[test]
fn imports_go_down_only() {
    for source in library() {
        let from = source.part();
        let own = floor(from);
        for (number, line) in source.code() {
            for import in imports(line).filter(|import| *import != from) {
                assert!(
                    floor(import) <= own,
                    "src/{}:{number} imports {import}, which is above it",
                    source.path
                );
            }
        }
    }
}

#[test]
fn imports_go_round_in_no_circle() {
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in library() {
        let from = source.part();
        let needs = needs.entry(from.to_owned()).or_default();
        for (_, line) in source.code() {
            needs.extend(
                imports(line)
                    .filter(|import| *import != from)
                    .map(str::to_owned),
            );
        }
    }
    assert_without_circle(needs);
}

#[test]
fn imports_of_the_program_go_down_only() {
    for source in program() {
        let from = source.module();
        for (number, line) in source.code() {
            for import in source.program_imports(line) {
                assert!(
                    is_at_or_below(&import, &from),
                    "src/{}:{number} imports {}, which is not below it",
                    source.path,
                    import.join("::")
                );
            }
        }
    }
}

#[test]
fn imports_of_the_program_go_round_in_no_circle() {
    let sources = program();
    // A file, with the files in a folder of its name.
    let unit = |names: &[&str]| {
        let is_open = |depth: &usize| WITHOUT_CIRCLES_INSIDE.contains(&&*names[..*depth].join("/"));
        let depth = (1..names.len()).take_while(is_open).count() + 1;
        names[..depth].join("/")
    };
    let units: BTreeSet<String> = sources.iter().map(|s| unit(&s.module())).collect();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let module = source.module();
        let from = unit(&module);
        // The file of a folder's name stands above the files in the folder.
        let mut inner = from.as_str();
        while let Some((folder, _)) = inner.rsplit_once('/') {
            let above = needs.entry(folder.to_owned()).or_default();
            above.insert(inner.to_owned());
            inner = folder;
        }
        let needs = needs.entry(from.clone()).or_default();
        let imports = source
            .code()
            .flat_map(|(_, line)| source.program_imports(line));
        for import in imports {
            // What no file has the name of is in the file of the folder's name.
            let ends = (1..=import.len()).rev();
            let mut files = ends.map(|end| unit(&import[..end]));
            let import = files.find(|file| units.contains(file)).unwrap();
            if import != from {
                needs.insert(import);
            }
        }
    }
    assert_without_circle(needs);
}

#[test]
fn only_net_names_the_sockets_and_the_poll() {
    for source in library() {
        if source.part() == "net" {
            continue;
        }
        source.assert_without(
            &[
                "mio::net",
                "mio::Poll",
                "mio::Events",
                "mio::Token",
                "mio::Waker",
                "mio::Registry",
            ],
            "another network could not stand in for mio's",
        );
        // What a foreign source is, and what it is polled for, is mio's own word on it. lib.rs
        // exports mio whole.
        let may = ["context.rs", "lib.rs"].contains(&source.path.as_str());
        if !may {
            source.assert_without(&["mio::"], "only net.rs and context.rs may");
        }
    }
}

#[test]
fn only_net_reads_the_time_and_draws_chance() {
    for source in library() {
        if !["net", "sim"].contains(&source.part()) {
            source.assert_without(
                &["Instant::now", "SystemTime", ".elapsed()", "RandomState"],
                "a simulated system could not tell another time, or follow its seed",
            );
        }
    }
}

#[test]
fn one_file_asks_which_of_mio_s_backends_there_is() {
    for source in library() {
        if source.path != "net/poll2.rs" {
            source.assert_without(
                &["mio_unsupported_force_poll_poll"],
                "net/poll2.rs has what depends on it",
            );
        }
    }
}

#[test]
fn the_state_machine_knows_neither_the_network_nor_the_time() {
    for source in library() {
        if source.part() == "link" {
            source.assert_without(
                &[
                    "mio",
                    "std::net",
                    "crate::net",
                    "Instant",
                    "Duration",
                    "crate::clock",
                ],
                "the state machine is tested fault by fault because it knows neither",
            );
        }
    }
}

#[test]
fn what_decides_for_a_generator_knows_neither_the_reactor_nor_a_clock() {
    let deciding = [
        "dialing", "flow", "flows", "meter", "plan", "schedule", "timeline",
    ];
    let mut found = 0;
    for source in program() {
        let Some(path) = source.path.strip_prefix("bin/oread/load/generator/") else {
            continue;
        };
        let file = path.split('/').next().unwrap().trim_end_matches(".rs");
        if deciding.contains(&file) && !path.ends_with("tests.rs") {
            found += 1;
            source.assert_without(
                &[
                    "Context",
                    "Connection<",
                    "Output",
                    "Instant",
                    "Epoch",
                    "Clock",
                ],
                "the plan is told, and says: `drive` executes it",
            );
        }
    }
    assert!(found > 8, "{found} files were found");
}

#[test]
fn only_nonblocking_reads_what_is_blocked_and_what_is_interrupted() {
    for source in library() {
        if source.part() != "nonblocking" {
            source.assert_without(
                &[
                    "WouldBlock",
                    "ErrorKind::Interrupted",
                    "EAGAIN",
                    "EWOULDBLOCK",
                ],
                "`nonblocking::Outcome` says it",
            );
        }
    }
}

#[test]
fn no_part_of_the_library_sleeps_exits_or_touches_signals() {
    for source in library() {
        // A simulation shows the run that failed: it's for tests.
        if source.part() != "sim" {
            source.assert_without(
                &[
                    "thread::sleep",
                    "thread::spawn",
                    "process::exit",
                    "signal(",
                    "println!",
                ],
                "an embedder decides about these",
            );
        }
    }
}

#[test]
fn no_function_and_no_file_is_too_long_to_be_read() {
    for source in with_simulated() {
        let count = source.lines.len();
        assert!(
            count <= LONGEST_FILE,
            "src/{} has {count} lines",
            source.path
        );
        for (number, line) in source.code() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let is_function = code.split("fn ").next().is_some_and(|before| {
                code.contains("fn ")
                    && before
                        .split_whitespace()
                        .all(|word| ["const", "async"].contains(&word) || word.starts_with("pub"))
            });
            if !is_function || line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            let semicolon = format!("{})", " ".repeat(indent));
            let body = &source.lines[number - 1..];
            let length = body
                .iter()
                .skip(1)
                .position(|l| *l == close || (l.starts_with(&semicolon) && l.ends_with(';')));
            let length = length.map_or(body.len(), |lines| lines + 2);
            assert!(
                length <= LONGEST_FUNCTION,
                "src/{}:{number}: a function of {length} lines",
                source.path
            );
        }
    }
}

#[test]
fn a_handler_within_another_one_hears_all_that_it_would_hear_by_itself() {
    let sources = sources();
    let callbacks = |path: &str| -> BTreeSet<String> {
        let source = sources.iter().find(|source| source.path == path).unwrap();
        let names = source.code().filter_map(|(_, line)| {
            let name = line.trim_start().strip_prefix("fn on_")?;
            Some(name.split('(').next().unwrap().to_owned())
        });
        names.collect()
    };
    for (inner, outer) in [
        ("echo.rs", "bin/oread/serve/server.rs"),
        ("handler.rs", "sim/traced.rs"),
    ] {
        let inner = callbacks(inner);
        assert!(inner.len() > 5, "{inner:?}");
        let deaf: Vec<_> = inner.difference(&callbacks(outer)).cloned().collect();
        assert!(deaf.is_empty(), "src/{outer} does not pass on {deaf:?}");
    }
}
