//! The program at Unix sockets: `oread serve --unix`, and `oread connect unix:` to it.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cli::{Client, Server, oread};

/// A path of the test's own for a socket, in a folder that is there.
fn path(test: &str) -> String {
    let name = format!("oread-{test}-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    path.to_str().unwrap().to_owned()
}

fn serve(arguments: &[&str]) -> Server {
    let mut command = oread("serve");
    command.arg("--json").args(arguments);
    Server::run(command)
}

#[test]
fn a_server_at_a_unix_socket_answers_and_takes_its_file_away() {
    let path = path("serve");
    let address = format!("unix:{path}");
    let server = serve(&["--unix", &path, "--unix-mode", "600"]);
    assert_eq!(server.listening.len(), 1, "it's alone");
    assert_eq!(server.listening[0]["transport"], "unix");
    assert_eq!(server.listening[0]["address"], address.as_str());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = Client::start(&address, &[]);
    client.say(b"one\ntwo\n");
    assert_eq!(client.hear_line(), "one\n");
    assert_eq!(client.hear_line(), "two\n");
    let (code, rest, said) = client.finish();
    assert_eq!((code, rest.len(), said.as_str()), (Some(0), 0, ""));
    assert_eq!(server.stop().code, Some(0));
    assert!(!fs::exists(&path).unwrap());
}

#[test]
fn several_threads_share_a_unix_socket_beside_tcp() {
    let name = format!("@oread-threads-{}", std::process::id());
    let arguments = ["--tcp", "127.0.0.1:0", "--unix", &name, "--threads", "3"];
    let server = serve(&arguments);
    assert_eq!(server.listening.len(), 2);
    for address in [server.tcp().to_string(), format!("unix:{name}")] {
        for _ in 0..10 {
            let mut client = Client::start(&address, &[]);
            client.say(b"hello\n");
            assert_eq!(client.hear_line(), "hello\n");
            assert_eq!(client.finish().0, Some(0));
        }
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_last_of_several_threads_removes_the_file() {
    for round in 0..4 {
        let path = path(&format!("shared-{round}"));
        let server = serve(&["--unix", &path, "--threads", "3"]);
        assert!(fs::exists(&path).unwrap());
        assert_eq!(server.stop().code, Some(0));
        assert!(!fs::exists(&path).unwrap());
    }
}

#[test]
fn a_unix_socket_is_loaded_and_needs_no_ports() {
    let path = path("load");
    let server = serve(&["--unix", &path]);
    let address = format!("unix:{path}");
    let output = oread("load")
        .args([
            &address, "-c", "10", "-d", "1s", "--json", "-", "--warmup", "0s",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.to_string().contains(&address), "{report}");
    assert!(!said.contains("local ports"), "{said}");
    let output = oread("doctor").args([&*address, "-c", "10"]).output();
    let table = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(!table.contains("local ports"), "{table}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn what_does_not_work_at_a_unix_socket_is_one_line() {
    let path = path("nobody");
    let address = format!("unix:{path}");
    let connect = |arguments: &[&str]| {
        let mut client = Client::start(&address, arguments);
        client.take_stdin();
        let (code, _, said) = client.end();
        (code, said)
    };
    let (code, said) = connect(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing listens there"), "{said}");
    let (code, said) = connect(&["--udp"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("a Unix socket has no ports"), "{said}");
    let server = serve(&["--unix", &path]);
    let output = oread("serve").args(["--unix", &path]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("it is in use"), "{said}");
    assert_eq!(server.stop().code, Some(0));
}
