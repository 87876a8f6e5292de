//! The table of pitfalls in `docs/PITFALLS.md` names tests: each must be there, and each pitfall must have one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

/// How many pitfalls have a row. Numbers are left out for those whose tests are still to be
/// written.
const PITFALLS: usize = 39;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a file has this test: a function with `#[test]` above it, or made one by a macro that says so.
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

#[test]
fn every_pitfall_names_tests_that_are_there() {
    let page = read("docs/PITFALLS.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| #"))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert_eq!(rows.len(), PITFALLS);
    let mut last = 0;
    for row in &rows {
        let number: usize = row[0].trim().parse().unwrap();
        assert!(number > last, "the order of the table: {number}");
        last = number;
        let tests: Vec<&str> = row
            .last()
            .unwrap()
            .split('`')
            .filter(|part| part.contains("::"))
            .collect();
        assert!(!tests.is_empty(), "pitfall {number}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            assert!(
                has_test(&read(file), name),
                "pitfall {number}: {file} has no test {name}"
            );
        }
    }
}

#[test]
fn a_function_without_the_attribute_is_no_test() {
    let text = "#[test]\nfn one() {}\n\nfn two() {}\n    fn three<SHORT>() {\n";
    assert!(has_test(text, "one") && has_test(text, "three"));
    assert!(!has_test(text, "two") && !has_test(text, "on"));
}
