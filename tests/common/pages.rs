//! Takes the Go programs out of the two pages, and builds them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds all programs into one folder, and gives it; says why, and gives `None`, where that can't
/// be.
pub(crate) fn build() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/seeds");
    let pages = std::env::var_os("OREAD_TEST_PAGES").map_or_else(beside, PathBuf::from);
    let Some(programs) = programs(&pages) else {
        println!("skipped: the pages are not in {}", pages.display());
        return None;
    };
    if !Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        println!("skipped: there is no Go to build the programs");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    for (name, source) in programs {
        // Each has a `main` of its own, so each has its own folder.
        let own = folder.join(format!("{name}.d"));
        fs::create_dir_all(&own).unwrap();
        let file = own.join("main.go");
        let target = folder.join(name);
        if target.exists() && fs::read_to_string(&file).is_ok_and(|built| built == source) {
            continue;
        }
        fs::write(&file, source).unwrap();
        let output = Command::new("go")
            .args(["build", "-o"])
            .args([&target, &file])
            .env("GO111MODULE", "off")
            .env("CGO_ENABLED", "0")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Some(folder)
}

/// The programs by name, if the pages are there.
fn programs(pages: &Path) -> Option<Vec<(&'static str, String)>> {
    let mut blocks = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(pages)
        .ok()?
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        blocks.extend(go_blocks(&fs::read_to_string(file).unwrap()));
    }
    let find = |mark: &str, of: &str| -> String {
        let block = blocks
            .iter()
            .find(|block| block.contains(mark) && block.contains(of));
        block
            .unwrap_or_else(|| panic!("no program with {mark:?} and {of:?}"))
            .clone()
    };
    let fixed_server = find("var body [4]byte", "package main");
    // Two are shown only as the function that changed: the rest is that of the program before it.
    let main = fixed_server.find("func main()").unwrap();
    let handler = fixed_server.find("func handleConnection").unwrap();
    let line_server = format!(
        "package main\n\nimport (\n\t\"bufio\"\n\t\"fmt\"\n\t\"net\"\n)\n\n{}\n{}",
        &fixed_server[main..handler],
        find("rb.ReadLine()", "func handleConnection")
    );
    let line_client = format!(
        "package main\n\nimport (\n\t\"bufio\"\n\t\"fmt\"\n\t\"net\"\n\t\"os\"\n)\n\n{}",
        find("net.Dial(\"tcp\"", "rd.ReadLine()")
    );
    Some(vec![
        ("echo-server", find("net.Listen(", "[128]byte")),
        ("echo-client", find("net.Dial(", "[512]byte")),
        ("fixed-server", fixed_server.clone()),
        ("fixed-client", find("net.Dial(", "[]byte(\"abcd\")")),
        ("line-server", line_server),
        ("line-client", line_client),
        ("udp-server", find("net.ListenUDP(", "package main")),
        ("udp-client", find("net.DialUDP(", "package main")),
    ])
}

/// The text of each block that is marked as Go.
fn go_blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if matches!(line.trim(), "```go" | "```golang") {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .collect();
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}
