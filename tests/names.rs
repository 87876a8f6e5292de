//! Names that stand for several addresses. Each test has a table of names of its own, `/etc/hosts`
//! of a mount namespace; where there is none to be had the tests say so. The real binary is run.
#![cfg(all(feature = "cli", target_os = "linux"))]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cli::{Client, Server};

/// A command that runs the program where `/etc/hosts` is another one, for as long as this lives.
struct Names {
    hosts: PathBuf,
}

impl Names {
    /// Names as in a hosts(5) file; `None` without namespaces.
    fn new(test: &str, table: &str) -> Option<Names> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let hosts = folder.join(format!("hosts-{test}-{}", std::process::id()));
        fs::write(&hosts, table).unwrap();
        let names = Names { hosts };
        let tried = names.command("true").output();
        if tried.is_ok_and(|output| output.status.success()) {
            return Some(names);
        }
        println!("skipped: there is no mount namespace to be had (unshare -rm)");
        None
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["-rm", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(&self.hosts)
            .arg(program)
            .env_remove("RUST_LOG");
        command
    }

    fn oread(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_oread"));
        command.args(arguments);
        command
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // It is in the folder for such files, and its name is nobody else's.
        let _ = fs::remove_file(&self.hosts);
    }
}

/// The server is on one of the two, and then on the other one: whichever is tried first, once it
/// refuses.
#[test]
fn each_address_of_a_name_is_tried_and_a_refusal_is_one_line() {
    let Some(names) = Names::new("two", "127.0.0.1 two\n127.0.0.2 two\n") else {
        return;
    };
    for udp in [&[] as &[&str], &["--udp"]] {
        let mut refusals = Vec::new();
        for ip in ["127.0.0.1", "127.0.0.2"] {
            let server = Server::start_at(&format!("{ip}:0"), &[]);
            let address = format!("two:{}", server.tcp().port());
            let mut client = Client::run(names.oread(&[&["connect", &address], udp].concat()));
            client.say(b"one\ntwo\n");
            assert_eq!(client.hear_line(), "one\n");
            assert_eq!(client.hear_line(), "two\n");
            let (code, rest, said) = client.finish();
            assert_eq!((code, rest.len()), (Some(0), 0), "{said}");
            refusals.push(said);
            server.stop();
        }
        refusals.sort();
        assert_eq!(refusals[0], "");
        let end = ": connection refused, nothing listens there\n";
        let line = &refusals[1];
        assert!(line.ends_with(end) && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn when_no_address_of_a_name_answers_the_last_one_is_told() {
    let Some(names) = Names::new("none", "127.0.0.1 none\n127.0.0.2 none\n") else {
        return;
    };
    // A port of both that was free a moment ago.
    let port = {
        let server = Server::start_at("127.0.0.1:0", &[]);
        server.tcp().port()
    };
    let address = format!("none:{port}");
    for udp in [&[] as &[&str], &["--udp"]] {
        let mut client = Client::run(names.oread(&[&["connect", &address], udp].concat()));
        client.say(b"one\n");
        let (code, output, said) = client.end();
        assert_eq!((code, output.len()), (Some(1), 0), "{said}");
        assert_eq!(said.matches("connection refused").count(), 2, "{said}");
        assert!(
            said.contains("oread: error: can't connect to 127.0.0."),
            "{said}"
        );
    }
}

/// `localhost` is ::1 too, often on machines that have no IPv6.
#[test]
fn an_address_of_a_name_that_is_not_ours_is_passed_over_but_not_all_of_them() {
    let table = "127.0.0.1 some\n203.0.113.1 some\n203.0.113.1 alien\n198.51.100.1 alien\n";
    let Some(names) = Names::new("alien", table) else {
        return;
    };
    let server = Server::run(names.oread(&["serve", "--tcp", "some:0", "--json"]));
    assert_eq!(server.listening.len(), 1);
    assert_eq!(server.tcp().ip().to_string(), "127.0.0.1");
    assert_eq!(server.stop().code, Some(0));

    let output = names
        .oread(&["serve", "--tcp", "alien:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is not an address of this machine"), "{said}");
}

#[test]
fn a_name_that_other_machines_reach_needs_the_flag_for_udp() {
    let Some(names) = Names::new("public", "203.0.113.1 public\n") else {
        return;
    };
    let output = names.oread(&["serve", "public:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("UDP on public:0, which is 203.0.113.1:0, is open"),
        "{said}"
    );
}

#[test]
fn a_name_that_stands_for_nothing_is_exit_code_1() {
    // RFC 6761: .invalid never resolves.
    for command in ["serve", "connect"] {
        let mut oread = cli::oread(command);
        let output = oread.arg("nosuch.invalid:9999").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("can't resolve the name nosuch.invalid"),
            "{said}"
        );
    }
}
