//! The soak is a script that runs for as long as it is told: `scripts/soak.sh`. Here its checks are
//! tested, and it runs for 20 s where that is asked for: `cargo test --test soak -- --ignored`.
#![cfg(feature = "cli")]
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

/// The interpreter, if it is there and new enough for the scripts (`asyncio.timeout` came with
/// 3.11).
fn python() -> Option<Command> {
    let new_enough = "import sys; sys.exit(sys.version_info < (3, 11))";
    let tried = Command::new("python3").args(["-c", new_enough]).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("skipped: there is no Python 3.11");
        return None;
    }
    let mut command = Command::new("python3");
    // No compiled files beside the sources.
    command.arg("-B").current_dir(env!("CARGO_MANIFEST_DIR"));
    Some(command)
}

/// Runs it, and panics with what it said if it fails.
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_check_of_the_soak_can_fail() {
    let Some(mut python) = python() else { return };
    succeed(python.args([
        "-m",
        "unittest",
        "discover",
        "--start-directory",
        "scripts/soak",
    ]));
}

#[test]
#[ignore = "takes a minute, and loads the machine meanwhile"]
fn a_short_soak_holds() {
    let Some(mut python) = python() else { return };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    succeed(
        python
            .arg("scripts/soak/soak.py")
            .args(["--oread", env!("CARGO_BIN_EXE_oread")])
            .args(["--seconds", "20", "--connections", "200", "--rate", "1000"])
            .arg("--out")
            .arg(&out),
    );
}
