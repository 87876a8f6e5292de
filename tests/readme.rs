//! What the README says is so: its code is the examples' text, its files are there, its options
//! exist, and its errors are those that the program gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

const PAGES: [&str; 7] = [
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/EMBEDDING.md",
    "docs/LOAD.md",
    "docs/LOAD-REFERENCE.md",
    "docs/PITFALLS.md",
    "docs/SOAK.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
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
fn the_code_is_that_of_the_examples() {
    let page = read("README.md");
    let quoted = blocks(&page)
        .into_iter()
        .filter(|(language, _)| *language == "rust")
        .map(|(_, lines)| lines.join("\n") + "\n");
    let examples = ["examples/embed.rs", "examples/own_loop.rs"].map(read);
    assert!(quoted.eq(examples), "quote the examples anew");
}

#[test]
fn every_file_that_is_named_is_there() {
    for page in PAGES {
        let text = read(page);
        let named = text
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|part| part.split("::").next().unwrap());
        let linked = text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap());
        let folder = root().join(page);
        let folder = folder.parent().unwrap();
        for path in linked.filter(|path| !path.starts_with("http") && !path.starts_with('#')) {
            assert!(folder.join(path).exists(), "{page} links to {path}");
        }
        let of_ours = ["src/", "tests/", "docs/", "examples/", "benches/", ".ci/"];
        // In the last section of that page, another library's.
        let others = ["src/adapters/tcp.rs", "src/node.rs"];
        for path in named.filter(|path| of_ours.iter().any(|start| path.starts_with(start))) {
            if page == "docs/EMBEDDING.md" && others.contains(&path) {
                continue;
            }
            assert!(root().join(path).exists(), "{page} names {path}");
        }
    }
}

#[test]
fn every_example_is_listed_with_about_its_length() {
    let page = read("README.md");
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("the README doesn't list the example {name}"));
        let said = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        let said: usize = said.parse().unwrap();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(
            said.abs_diff(lines) * 10 <= lines,
            "{name} has {lines} lines, the README says {said}"
        );
    }
}

#[test]
fn every_callback_and_every_limit_of_the_tables_is_there() {
    let page = read("README.md");
    let (handler, limits) = (read("src/handler.rs"), read("src/limits.rs"));
    let callbacks: Vec<&str> = handler
        .split("    fn ")
        .skip(1)
        .map(|rest| rest.split('(').next().unwrap())
        .filter(|name| name.starts_with("on_"))
        .collect();
    for name in callbacks {
        assert!(page.contains(&format!("| `{name}` |")), "no {name}");
    }
    let table = page.split("### What bounds what").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    for name in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
    {
        assert!(limits.contains(&format!("pub {name}: ")), "no limit {name}");
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
    fn every_option_exists() {
        let page = read("README.md");
        let helps = ["serve", "connect", "load", "doctor"].map(help).concat();
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
                "the README names {option}"
            );
        }
    }

    #[test]
    fn every_command_of_the_load_page_has_the_options_that_it_uses() {
        let page = read("docs/LOAD.md");
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
        assert!(commands >= 20, "{commands} commands are shown");
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
        let page = read("README.md");
        let section = page.split("### Bad input").nth(1).unwrap();
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
