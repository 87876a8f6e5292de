//! What the pages say is so: their code is that of the programs, the files and headings that they
//! name are there, and so are the options, and the errors are those that the program gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages in the root and in `docs`, by their paths from the root.
fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for folder in ["", "docs/"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                pages.push(format!("{folder}{name}"));
            }
        }
    }
    assert!(pages.len() >= 9, "{pages:?}");
    pages
}

/// The lines of a page that are in no fenced block.
fn prose(page: &str) -> Vec<&str> {
    let mut inside = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    });
    lines.collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(page) {
        let Some((_, title)) = line.split_once("# ").filter(|_| line.starts_with('#')) else {
            continue;
        };
        let kept = title.to_lowercase();
        let kept = kept.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c => (c.is_alphanumeric() || "-_".contains(c)).then_some(c),
        });
        let anchor: String = kept.collect();
        assert!(anchors.insert(anchor), "two headings are {title:?}");
    }
    anchors
}

/// The fenced blocks of a page: their language, and their lines.
fn blocks(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                blocks.push((language, Vec::new()));
            }
            None if inside => blocks.last_mut().unwrap().1.push(line),
            None => {}
        }
    }
    assert!(!inside, "a block is not closed");
    blocks
}

#[test]
fn the_first_two_commands_load_and_test() {
    let page = read("README.md");
    let shell: Vec<_> = blocks(&page)
        .into_iter()
        .filter(|(language, _)| *language == "sh")
        .collect();
    assert_eq!(shell[0].1, ["cargo run --release -- load"]);
    assert_eq!(shell[1].1, ["cargo test"]);
}

#[test]
fn the_readme_is_short_and_its_code_is_the_least_example() {
    let page = read("README.md");
    assert!(page.lines().count() <= 180);
    let quoted: Vec<String> = blocks(&page)
        .into_iter()
        .filter(|(language, _)| *language == "rust")
        .map(|(_, lines)| lines.join("\n") + "\n")
        .collect();
    assert_eq!(quoted, [read("examples/embed.rs")]);
}

/// Whether a block's text is in a file, but for the indentation: in pieces, one behind the other,
/// where lines `// ...` stand for what is left out.
fn quotes(block: &[&str], file: &str) -> bool {
    let lines: Vec<&str> = file.lines().map(str::trim).collect();
    let block: Vec<&str> = block.iter().map(|line| line.trim()).collect();
    let mut rest = &lines[..];
    block.split(|line| *line == "// ...").all(|piece| {
        // Empty lines around what is left out are the page's own.
        let begin = piece.iter().position(|line| !line.is_empty());
        let Some(begin) = begin else { return true };
        let end = piece.iter().rposition(|line| !line.is_empty()).unwrap() + 1;
        let piece = &piece[begin..end];
        let found = rest.windows(piece.len()).position(|lines| lines == piece);
        found
            .inspect(|at| rest = &rest[at + piece.len()..])
            .is_some()
    })
}

#[test]
fn what_is_left_out_of_a_quotation_is_marked() {
    let file = "one\n  two\nthree\nfour\n";
    for good in [
        "two\nthree",
        "one\n// ...\n\nthree",
        "one\n// ...\nfour\n// ...",
    ] {
        assert!(quotes(&good.lines().collect::<Vec<_>>(), file), "{good}");
    }
    for bad in ["one\nthree", "two\n// ...\none", "five"] {
        assert!(!quotes(&bad.lines().collect::<Vec<_>>(), file), "{bad}");
    }
}

/// The programs that the guide quotes are tests, each in a file of its own.
#[test]
fn the_guide_s_code_is_that_of_its_programs_and_of_each_of_them() {
    let page = read("docs/EMBEDDING.md");
    let mut programs: Vec<(PathBuf, String)> = fs::read_dir(root().join("tests/embedding"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("peers.rs"))
        .chain([root().join("examples/embed.rs")])
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    let all = programs.clone();
    let mut quoted = 0;
    for (language, block) in blocks(&page) {
        // rustdoc doesn't compile what it ignores: a block without that word would be a program.
        assert!(language != "rust", "what is quoted is rust,ignore");
        if language == "rust,ignore" {
            let source = all.iter().find(|(_, text)| quotes(&block, text));
            let (source, _) =
                source.unwrap_or_else(|| panic!("no program has\n{}", block.join("\n")));
            programs.retain(|(path, _)| path != source);
            quoted += 1;
        }
    }
    assert!(quoted >= 20, "{quoted} blocks");
    let unused: Vec<&PathBuf> = programs.iter().map(|(path, _)| path).collect();
    assert!(unused.is_empty(), "nothing is quoted of {unused:?}");
}

#[test]
fn every_file_and_heading_that_is_named_is_there() {
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        let named = text
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|part| part.split("::").next().unwrap());
        let own_anchors = anchors(&text);
        let folder = root().join(&page);
        let folder = folder.parent().unwrap();
        let prose = prose(&text).join("\n");
        let linked = prose
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap());
        for link in linked.filter(|link| !link.starts_with("http")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = folder.join(path);
            assert!(target.exists(), "{page} links to {link}");
            links += 1;
            if heading.is_empty() {
                continue;
            }
            let has = match path {
                "" => own_anchors.contains(heading),
                _ => anchors(&fs::read_to_string(target).unwrap()).contains(heading),
            };
            assert!(has, "{page} links to {link}: no such heading");
        }
        let of_ours = [
            "src/",
            "tests/",
            "docs/",
            "examples/",
            "benches/",
            "scripts/",
            ".ci/",
        ];
        // In the last section of that page, another library's.
        let others = ["src/adapters/tcp.rs", "src/node.rs"];
        let named = named.map(|path| path.split(' ').next().unwrap());
        let named = named.filter(|path| of_ours.iter().any(|start| path.starts_with(start)));
        for path in named.filter(|path| !path.contains('*')) {
            if page == "docs/EMBEDDING.md" && others.contains(&path) {
                continue;
            }
            assert!(root().join(path).exists(), "{page} names {path}");
        }
    }
    assert!(links > 50, "{links} links");
}

#[test]
fn what_is_added_often_touches_few_files() {
    let page = read("CONTRIBUTING.md");
    for (walk, most) in [
        ("## Add a framing", 5),
        ("## Add a limit with its option", 4),
    ] {
        let (_, section) = page.split_once(&format!("\n{walk}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let is_step = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
        let steps: Vec<&str> = section.lines().filter(is_step).collect();
        assert!((2..=most).contains(&steps.len()), "{walk}: {steps:?}");
        for step in steps {
            let file = step.split('`').nth(1).unwrap();
            assert!(root().join(file).is_file(), "{walk}: {step}");
        }
    }
}

#[test]
fn a_heading_s_anchor_is_that_of_github() {
    let page = "# What's *new*?\n```sh\n# no heading\n```\n## Hold 10,000 of `a_b`\n";
    let expected = ["hold-10000-of-a_b", "whats-new"].map(str::to_owned);
    assert!(anchors(page).into_iter().eq(expected));
}

#[test]
fn every_example_is_listed_with_about_its_length() {
    let page = read("docs/EMBEDDING.md");
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("the page doesn't list the example {name}"));
        let said = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        let said: usize = said.parse().unwrap();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(
            said.abs_diff(lines) * 10 <= lines,
            "{name} has {lines} lines, the page says {said}"
        );
    }
}

/// The rows of the table under a heading.
fn table<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1).collect()
}

#[test]
fn the_tables_have_every_callback_and_every_limit_and_no_others() {
    let page = read("docs/EMBEDDING.md");
    let (handler, limits) = (read("src/handler.rs"), read("src/limits.rs"));
    let callbacks: BTreeSet<&str> = handler
        .split("    fn ")
        .skip(1)
        .map(|rest| rest.split('(').next().unwrap())
        .filter(|name| name.starts_with("on_"))
        .collect();
    let told = table(&page, "## The callbacks");
    let told: BTreeSet<&str> = told
        .iter()
        .map(|row| row.split('`').nth(1).unwrap())
        .collect();
    assert_eq!(told, callbacks);

    let (_, fields) = limits.split_once("pub struct Limits {").unwrap();
    let fields: BTreeSet<&str> = fields
        .split("\n}")
        .next()
        .unwrap()
        .split("    pub ")
        .skip(1)
        .map(|rest| rest.split(':').next().unwrap())
        .collect();
    let rows = table(&page, "## What bounds what");
    let bounds: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .collect();
    let missing: Vec<&&str> = fields.difference(&bounds).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    for row in rows {
        let bound = row.split(" | ").nth(1).unwrap();
        for name in bound.split('`').skip(1).step_by(2) {
            assert!(
                fields.contains(name) || name == "on_data",
                "no limit {name}"
            );
        }
    }
}

#[cfg(feature = "cli")]
mod program {
    use std::process::{Command, Output, Stdio};

    use super::{blocks, read};

    fn oread(arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_oread"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The words of a text that look like options.
    fn options(text: &str) -> impl Iterator<Item = &str> {
        text.split([' ', '`', '\n'])
            .map(|word| word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
            .filter(|word| word.starts_with("--"))
    }

    /// Whether a help lists an option: alone, or with what it takes behind it.
    fn lists(help: &str, option: &str) -> bool {
        help.split([' ', '\n', ','])
            .any(|word| word.trim_end_matches("...") == option)
    }

    fn help(command: &str) -> String {
        String::from_utf8(oread(&[command, "--help"]).stdout).unwrap()
    }

    #[test]
    fn every_option_that_is_named_exists() {
        let page = read("README.md") + &read("docs/SERVE.md") + &read("SECURITY.md");
        let helps = ["serve", "connect", "load", "find", "doctor"]
            .map(help)
            .concat();
        // Those of cargo.
        let others = [
            "--release",
            "--path",
            "--bench",
            "--example",
            "--open",
            "--cfg",
        ];
        for option in options(&page) {
            assert!(
                lists(&helps, option) || others.contains(&option),
                "the pages name {option}"
            );
        }
    }

    #[test]
    fn every_option_of_serve_and_connect_is_in_the_reference() {
        let page = read("docs/SERVE.md");
        let (_, reference) = page.split_once("\n## Options\n").unwrap();
        let (reference, _) = reference.split_once("\n## ").unwrap();
        let (serve, connect) = reference.split_once("| of `oread connect` |").unwrap();
        for (command, table) in [("serve", serve), ("connect", connect)] {
            let help = help(command);
            let told: Vec<&str> = options(table).collect();
            let lines = help
                .lines()
                .filter(|line| line.trim_start().starts_with('-'));
            let listed: Vec<&str> = lines
                .filter_map(|line| options(line).next())
                .filter(|option| *option != "--help")
                .collect();
            assert!(listed.len() >= 8, "{command} lists {listed:?}");
            for option in listed {
                assert!(told.contains(&option), "the page lacks {command} {option}");
            }
            for option in told {
                assert!(lists(&help, option), "oread {command} has no {option}");
            }
        }
    }

    #[test]
    fn every_framing_is_in_the_table_of_framings_and_in_the_help() {
        let page = read("docs/SERVE.md");
        let helps = ["serve", "connect", "load"].map(help);
        for (form, meaning) in oread::Framing::FORMS {
            assert!(
                page.contains(&format!("\n| `{form}` | ")),
                "the page lacks {form}"
            );
            // The help breaks its lines where the terminal ends.
            for help in &helps {
                let words: Vec<&str> = help.split_whitespace().collect();
                let all = words.join(" ");
                assert!(all.contains(&format!("{form} ({meaning})")), "{help}");
            }
        }
    }

    #[test]
    fn every_command_that_is_shown_has_the_options_that_it_uses() {
        let page = read("docs/LOAD.md") + &read("docs/SERVE.md");
        let mut commands = 0;
        for line in page
            .lines()
            .filter_map(|line| line.strip_prefix("$ oread "))
        {
            let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
            let help = help(command);
            for option in options(rest.split('|').next().unwrap()) {
                assert!(lists(&help, option), "oread {line}: no {option}");
            }
            commands += 1;
        }
        assert!(commands >= 30, "{commands} commands are shown");
    }

    #[test]
    fn every_option_of_a_load_is_in_its_reference_and_no_other() {
        let page = read("docs/LOAD-REFERENCE.md");
        let section = page.split("\n## Options").nth(1).unwrap();
        let table = section.split("\n### ").next().unwrap();
        let help = help("load");
        for option in options(table) {
            assert!(lists(&help, option), "the reference names {option}");
        }
        let listed = help.lines().filter_map(|line| {
            let line = line.trim_start();
            line.starts_with('-')
                .then(|| options(line).next())
                .flatten()
        });
        for option in listed.filter(|option| *option != "--help") {
            let names = |row: &str| row.starts_with('|') && options(row).any(|name| name == option);
            assert!(table.lines().any(names), "the reference has no {option}");
        }
    }

    /// Every field of an object and of the objects in it; not those that are named by what they
    /// count.
    fn fields(value: &serde_json::Value, into: &mut Vec<String>) {
        if let Some(object) = value.as_object() {
            for (name, inner) in object {
                into.push(name.clone());
                if name != "errors" {
                    fields(inner, into);
                }
            }
        }
        for inner in value.as_array().into_iter().flatten() {
            fields(inner, into);
        }
    }

    #[test]
    fn every_field_of_the_json_report_is_described() {
        let page = read("docs/LOAD-REFERENCE.md");
        let reference = page.split("## The JSON report").nth(1).unwrap();
        let run = ["load", "-n", "10", "-c", "2", "-q", "--slo", "max<1h"];
        let output = oread(&[&run[..], &["--json", "-"]].concat());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut named = Vec::new();
        fields(&report, &mut named);
        assert!(named.len() > 80, "{named:?}");
        for name in named {
            assert!(
                reference.contains(&format!("`{name}`")),
                "{name} is not described"
            );
        }
    }

    /// The section's commands end at once, so they are run and what they say is compared.
    #[test]
    fn bad_input_is_told_in_these_words() {
        let page = read("docs/SERVE.md");
        let section = page.split("\n## Errors\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let (_, lines) = blocks(section).remove(0);
        let mut commands = 0;
        for shown in lines.join("\n").split("$ oread ").skip(1) {
            let (arguments, words) = shown.split_once('\n').unwrap();
            let output = oread(&arguments.split(' ').collect::<Vec<_>>());
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said.trim_end(), words.trim_end(), "oread {arguments}");
            assert!(matches!(output.status.code(), Some(1 | 2)));
            commands += 1;
        }
        assert!(commands >= 4);
    }
}
