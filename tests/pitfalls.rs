//! Each pitfall of `docs/PITFALLS.md` names tests: there must be at least one, and all must exist.
//! So must those that the promises of `docs/RELIABILITY.md` name, and those of the patches in
//! `tests/canaries`, each of which puts a known fault back, and must still apply.
//! `scripts/canaries.sh` runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How many pitfalls have a section.
const PITFALLS: usize = 44;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a file has this test: a function with `#[test]` above it, or made one by a macro that
/// says so.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let heads = [format!("fn {name}("), format!("fn {name}<SHORT>(")];
    let found = lines
        .iter()
        .position(|line| heads.iter().any(|head| line.starts_with(head)));
    found.is_some_and(|at| {
        let above = lines[..at].iter().rev();
        lines[at].contains("<SHORT>")
            || above
                .take_while(|line| line.starts_with('#') || line.starts_with("//"))
                .any(|line| *line == "#[test]")
    })
}

/// A section of the page.
struct Pitfall<'a> {
    number: usize,
    /// What stands in each of its three parts.
    parts: [&'a str; 3],
}

/// What begins each part of a section.
const PARTS: [&str; 3] = [
    "\n\n**What goes wrong.** ",
    "\n\n**What oread does.** ",
    "\n\n**Tests.**\n\n",
];

/// All sections of the page, `## 7. Events lie` and so on, each with its three parts.
fn pitfalls(page: &str) -> Vec<Pitfall<'_>> {
    let sections = page.split("\n## ").skip(1);
    let parse = |section| {
        let (title, wrong) = split(section, PARTS[0]);
        let (wrong, answer) = split(wrong, PARTS[1]);
        let (answer, tests) = split(answer, PARTS[2]);
        let (number, title) = split(title, ". ");
        assert!(!title.is_empty() && !title.contains('\n'), "{title}");
        Pitfall {
            number: number.parse().unwrap(),
            parts: [wrong, answer, tests],
        }
    };
    sections.map(parse).collect()
}

fn split<'a>(text: &'a str, at: &str) -> (&'a str, &'a str) {
    let halves = text.split_once(at);
    halves.unwrap_or_else(|| panic!("{at:?} is missing in: {text}"))
}

#[test]
fn every_pitfall_names_tests_that_are_there() {
    let page = read("docs/PITFALLS.md");
    let pitfalls = pitfalls(&page);
    assert_eq!(pitfalls.len(), PITFALLS);
    let mut last = 0;
    for Pitfall { number, parts } in pitfalls {
        assert!(number > last, "the order of the page: {number}");
        last = number;
        assert!(parts.iter().all(|part| !part.is_empty()), "{number}");
        let mut tests = parts[2].trim().lines().peekable();
        assert!(tests.peek().is_some(), "pitfall {number}");
        for line in tests {
            let test = line.strip_prefix("- `").and_then(|t| t.strip_suffix('`'));
            let test = test.unwrap_or_else(|| panic!("pitfall {number}: no test: {line}"));
            let (file, name) = split(test, "::");
            assert!(
                has_test(&read(file), name),
                "pitfall {number}: {file} has no test {name}"
            );
        }
    }
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let page = read("docs/RELIABILITY.md");
    let named: Vec<(&str, &str)> = page
        .split('`')
        .filter(|part| part.starts_with("tests/") || part.starts_with("src/"))
        .filter_map(|part| part.split_once("::"))
        .collect();
    assert!(named.len() > 50, "{} are named", named.len());
    for (file, name) in named {
        assert!(has_test(&read(file), name), "{file} has no test {name}");
    }
    let canaries = canaries().len();
    assert!(
        page.contains(&format!("has {canaries} patches")),
        "{canaries}"
    );
}

#[test]
fn a_function_without_the_attribute_is_no_test() {
    let text = "#[test]\nfn one() {}\n\nfn two() {}\n    fn three<SHORT>() {\n";
    assert!(has_test(text, "one") && has_test(text, "three"));
    assert!(!has_test(text, "two") && !has_test(text, "on"));
}

/// The patches, with their names.
fn canaries() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/canaries");
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| {
            let text = read(&format!("tests/canaries/{name}"));
            (name, text)
        })
        .collect()
}

#[test]
fn every_canary_names_its_pitfall_and_the_tests_that_catch_it() {
    let page = read("docs/PITFALLS.md");
    let numbers = pitfalls(&page).into_iter().map(|pitfall| pitfall.number);
    let mut without: BTreeSet<usize> = numbers.collect();
    let all = without.clone();
    for (name, patch) in canaries() {
        let (head, _) = patch.split_once("\n--- ").unwrap();
        let (about, tests) = head.split_once('\n').unwrap();
        let pitfall: usize = name[..2].parse().unwrap();
        if pitfall > 0 {
            assert!(about.ends_with(&format!(" (pitfall {pitfall}).")), "{name}");
            assert!(all.contains(&pitfall), "{name}");
            without.remove(&pitfall);
        }
        for test in tests.lines() {
            let named = test.strip_prefix("Caught by: ").unwrap();
            let (file, test) = named.split_once(' ').unwrap();
            let (file, test) = source_of(file, test);
            assert!(has_test(&read(&file), test), "{name}: {named}");
        }
    }
    // The page says which have none, and no others.
    let (_, said) = page.split_once("without a canary: ").unwrap();
    let (said, _) = said.split_once('.').unwrap();
    let said: BTreeSet<usize> = said.split(", ").map(|n| n.parse().unwrap()).collect();
    assert_eq!(without, said);
}

/// The source file of a test that a canary names, and the test's own name.
fn source_of<'a>(file: &str, test: &'a str) -> (String, &'a str) {
    match (file, test.rsplit_once("::")) {
        ("lib", Some(("reactor::tests::simulated", test))) => {
            ("src/reactor/tests/simulated.rs".to_owned(), test)
        }
        ("simulated_relay", Some((module, test))) => (format!("tests/relay/{module}.rs"), test),
        _ => (format!("tests/{file}.rs"), test),
    }
}

/// The tests that do nothing but run a function under a range of seeds.
fn searches(file: &str) -> Vec<String> {
    let text = read(file);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let calls = lines.windows(2).filter(|two| {
        let call = two[1].strip_prefix("check(0..");
        call.is_some_and(|call| call.ends_with(");") && !call.contains('|'))
            && two[0].starts_with("fn ")
    });
    let name = |two: &[&str]| two[0][3..].split('(').next().unwrap().to_owned();
    calls.map(name).collect()
}

#[test]
fn every_search_is_named_by_a_canary() {
    let heads: String = canaries().into_iter().map(|(_, patch)| patch).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = 0;
    for below in ["", "relay"] {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if below.is_empty() && !name.starts_with("simulated") {
                continue;
            }
            for search in searches(&format!("tests/{below}/{name}")) {
                found += 1;
                let named = heads.lines().any(|line| {
                    let caught = line.starts_with("Caught by: ");
                    caught && line.rsplit([' ', ':']).next() == Some(&search)
                });
                assert!(
                    named,
                    "nothing shows that {search} of {name} finds anything"
                );
            }
        }
    }
    assert!(found > 10, "{found} are found");
}

/// What a hunk takes for granted: lines of the file as it is, but for the two at either end that
/// `patch -F2` lets differ.
fn old_lines(hunk: &str) -> Vec<&str> {
    let lines: Vec<&str> = hunk.lines().skip(1).collect();
    let is_context = |line: &&&str| line.is_empty() || line.starts_with(' ');
    let before = lines.iter().take_while(is_context).count();
    let after = lines.iter().rev().take_while(is_context).count();
    let kept = &lines[before.min(2)..lines.len() - after.min(2)];
    let old = kept.iter().filter(|line| !line.starts_with('+'));
    old.map(|line| line.get(1..).unwrap_or("")).collect()
}

#[test]
fn every_canary_still_applies() {
    for (name, patch) in canaries() {
        for file in patch.split("\n--- a/").skip(1) {
            let (path, hunks) = file.split_once('\n').unwrap();
            let text = read(path);
            let lines: Vec<&str> = text.lines().collect();
            for hunk in hunks.split("\n@@ ").skip(1) {
                let old = old_lines(hunk);
                assert!(!old.is_empty(), "{name}: a hunk without a place");
                let found = lines.windows(old.len()).filter(|place| **place == old[..]);
                assert!(found.count() > 0, "{name} no longer applies to {path}");
            }
        }
    }
}
