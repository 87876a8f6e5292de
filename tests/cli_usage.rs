//! What the program says when it is asked for in a wrong way, and where it says it. The real binary
//! is run.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn oread(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oread"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs each line's arguments, and expects exit code 2, the words on stderr and nothing on stdout.
fn refused(table: &[(&str, &str)]) {
    for (arguments, words) in table {
        let output = oread(&arguments.split_whitespace().collect::<Vec<_>>());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "oread {arguments}: {said}");
        assert!(
            said.starts_with("oread: error: "),
            "oread {arguments}: {said}"
        );
        assert!(said.contains(words), "oread {arguments}: {said}");
        assert!(
            output.stdout.is_empty(),
            "oread {arguments} wrote to stdout"
        );
    }
}

#[test]
fn text_that_is_no_address_is_refused() {
    refused(&[
        ("serve nonsense", "the port is missing; write nonsense:9999"),
        ("serve 9999", "the host is missing; write 127.0.0.1:9999"),
        ("serve :9999", "the host is missing"),
        (
            "serve 127.0.0.1:65536",
            "the port must be a number from 0 to 65535",
        ),
        ("serve 300.0.0.1:80", "not an IPv4 address"),
        ("serve ::1", "an IPv6 address goes in brackets"),
        ("serve --tcp a/b:1", "not an address"),
        ("serve unix:/run/x.sock", "--unix PATH"),
        ("connect /run/x.sock", "written unix:/run/x.sock"),
        ("connect --bind unix:/x 127.0.0.1:9", "not a Unix socket"),
        ("load udp://unix:/x", "not a Unix socket"),
        ("load ./x.sock", "written unix:./x.sock"),
        ("load --source 127.0.0.1 unix:/x", "--source"),
        ("serve --udp 127.0.0.1", "the port is missing"),
        ("connect 127.0.0.1", "the port is missing"),
        ("connect 127.0.0.1:0", "nothing listens on port 0"),
        ("connect --bind nonsense", "'--bind <ADDR>'"),
        ("connect --bind 127.0.0.1", "write 127.0.0.1:0"),
        ("connect http://127.0.0.1:9999/", "write 127.0.0.1:9999"),
        ("connect udp:127.0.0.1:9", "write --udp 127.0.0.1:9"),
        ("connect udp://127.0.0.1:9", "write --udp 127.0.0.1:9"),
        ("load --udp 127.0.0.1:9", "write udp://HOST:PORT as"),
        ("load 127.0.0.1:9 --udp", "write udp://HOST:PORT as"),
        ("doctor --udp=127.0.0.1:9", "write udp://HOST:PORT as"),
        ("load --tcp 127.0.0.1:9", "write HOST:PORT as the target"),
        ("serve --port 7", "as in 127.0.0.1:7"),
        (
            "connect --udp --bind [::1]:0 127.0.0.1:9",
            "one is IPv4 and one is IPv6",
        ),
    ]);
}

#[test]
fn a_framing_that_is_none_is_refused() {
    refused(&[
        ("serve --framing csv", "'--framing <FRAMING>'"),
        ("serve --framing fixed:0", "fixed"),
        ("serve --framing fixed:many", "fixed"),
        ("serve --framing length:u24", "u16"),
        ("connect --framing csv", "raw"),
    ]);
}

#[test]
fn a_maximum_that_does_not_fit_the_framing_is_refused() {
    refused(&[
        ("serve --framing length:u8 --max-frame 256", "255 bytes"),
        (
            "serve --framing length:u16le --max-frame 64KiB",
            "65,535 bytes",
        ),
        ("serve --framing fixed:100 --max-frame 99", "fixed:100"),
        ("connect --framing length:u8 --max-frame 256", "255 bytes"),
    ]);
}

#[test]
fn sizes_counts_and_durations_of_0_are_refused() {
    refused(&[
        ("serve --max-frame 0", "must be at least 1 byte"),
        ("serve --high-water 0KiB", "must be at least 1 byte"),
        ("serve --max-pending 0", "must be at least 1 byte"),
        ("serve --max-connections 0", "must be at least 1"),
        ("serve --backlog 0", "must be at least 1"),
        ("serve --threads 0", "must be at least 1"),
        ("serve --keepalive 10h", "at most 32767s"),
        (
            "serve --unix /x --unix /y --unix /x",
            "unix:/x is given twice",
        ),
        ("serve --frame-timeout 1s", "--framing raw"),
        ("serve --udp-rate 0", "or off for no cap"),
        ("serve --udp-rate-per-source 0", "must be at least 1"),
        ("serve --udp-repeat-rate 0", "must be at least 1"),
        ("serve --idle-timeout 0s", "must be more than 0"),
        ("serve --write-timeout 0s", "must be more than 0"),
        ("serve --stats 0s", "must be more than 0"),
        ("connect --timeout 0s", "must be more than 0"),
    ]);
}

#[test]
fn values_of_no_sense_are_refused_with_an_example() {
    refused(&[
        ("serve --max-frame big", "64KiB"),
        ("serve --max-frame 4GiB", "less than 4GiB"),
        ("serve --max-connections lots", "10k"),
        ("serve --backlog 3g", "at most 2,147,483,647"),
        ("serve --threads 1025", "at most 1,024"),
        (
            "serve --threads 4 --max-connections 3",
            "--max-connections 3 is under --threads 4",
        ),
        ("serve --idle-timeout 5", "250ms"),
        ("serve --drain-timeout 25days", "at most 24 days"),
        ("serve --high-water 2GiB", "over --max-pending 1 GiB"),
    ]);
}

#[test]
fn a_load_that_can_t_be_meant_is_refused() {
    refused(&[
        ("load -R 0.0001", "more than three digits"),
        ("load -r 1.5/s", "must be a whole number"),
        ("load --churn 0.4", "must be a whole number"),
        ("load -c 1.7", "must be a whole number"),
        ("load -n 10,000", "a count has no commas; write 10000"),
        ("load 127.0.0.1:0", "nothing listens on port 0"),
        ("load 127.0.0.1:x", "from 1 to 65535"),
        ("connect 127.0.0.1:x", "from 1 to 65535"),
        ("load --source fe80::1", "only with a scope"),
        ("doctor --source 10.0.0.0/4", "or 10.0.0.0 for"),
        ("load --slo lost<1%", "no target begins with udp://"),
        ("load --slo p100<1s", "write max"),
        ("load --slo valid<1", "valid stands alone"),
        ("load --hdr -", "--hdr takes a file"),
        (r"load --message a\q", r#""\q" is no escape"#),
        (r"load --message a\x4", "for a backslash"),
        (
            "load -c 1000 --lifetime 500ms -r 1999",
            "tip: add --connect-rate 2000",
        ),
        ("load --color sometimes", "[possible values: auto, always"),
        ("load --json same --hdr same", "the same file, same"),
        (
            "load --message hi udp://127.0.0.1:9",
            "--message and --message-file are for streams",
        ),
    ]);
}

#[test]
fn udp_that_other_machines_reach_needs_the_flag() {
    refused(&[
        ("serve 0.0.0.0:0", "--allow-public-udp"),
        ("serve 0.0.0.0:0", "--tcp 0.0.0.0:0"),
        ("serve [::]:0", "reflection"),
        ("serve --udp 0.0.0.0:0", "a loop"),
        ("serve --udp -- 192.0.2.1:0", "--allow-public-udp"),
        (
            "serve --tcp 127.0.0.1:0 --udp [2001:db8::1]:0",
            "[2001:db8::1]:0",
        ),
    ]);
}

#[test]
fn unknown_options_and_those_that_exclude_each_other_are_refused() {
    refused(&[
        ("serve --no-such-option", "--no-such-option"),
        ("serve --framin lines", "--framing"),
        ("serve -q -v", "cannot be used with"),
        ("connect 127.0.0.1:1 127.0.0.1:2", "127.0.0.1:2"),
        ("connect --udp --framing lines", "cannot be used with"),
        ("connect --udp --max-frame 1k", "cannot be used with"),
        ("connect --udp --timeout 1s", "cannot be used with"),
        ("connect --wait 1s", "--udp"),
        ("serve --tcp --udp-rate 5", "--udp-rate is about UDP"),
        ("serve --tcp --udp-rate-per-source off", "is about UDP"),
        ("serve --tcp --udp-repeat-rate off", "is about UDP"),
        ("serve --tcp --allow-public-udp", "is about UDP"),
        ("sing", "sing"),
    ]);
}

#[test]
fn options_of_other_tools_get_what_to_write_here() {
    refused(&[
        ("load --port 7101", "write host:port as the target"),
        ("load --host=127.0.0.1", "write host:port as the target"),
        ("doctor -p7101", "write host:port as the target"),
        ("load -u 127.0.0.1:9", "write udp://HOST:PORT as the target"),
        ("load --clients 5", "-c is the number of connections"),
        ("load --concurrency 5", "-c is the number"),
        ("load --rps 5", "-R is the rate"),
        ("load --time 5s", "-d is the duration"),
        ("load -D 5s", "-d is the duration"),
        ("load --timeout 5s", "--message-timeout is for answers"),
        ("load --url http://127.0.0.1:9", "as in `oread load"),
        ("load -c -50", "none takes a negative one"),
        ("load --version", "`oread --version`"),
        ("serve -p 7", "as in `oread serve 127.0.0.1:9999`"),
        ("serve -l", "as in `oread serve 127.0.0.1:9999`"),
        ("connect -l", "`oread serve` listens"),
        ("connect -u 127.0.0.1:9", "write --udp"),
        ("connect 127.0.0.1 7101", "write 127.0.0.1:7101"),
        ("load -c 5 127.0.0.1 7101", "write 127.0.0.1:7101"),
        (
            "doctor --slo p99<5ms",
            "an option of `oread load`; leave it",
        ),
        ("doctor --hdr x", "an option of `oread load`; leave it"),
        (
            "doctor --metrics 127.0.0.1:0",
            "an option of `oread load`; leave it",
        ),
    ]);
}

#[test]
fn nobody_is_told_to_pass_an_option_as_an_address() {
    for command in ["serve", "connect", "load", "find", "doctor"] {
        let said = String::from_utf8(oread(&[command, "--nonsense"]).stderr).unwrap();
        assert!(
            said.contains("'--nonsense' found") && !said.contains("as a value"),
            "{said}"
        );
    }
}

#[test]
fn without_a_command_the_help_goes_to_stderr() {
    let output = oread(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        output.stdout.is_empty() && said.contains("serve") && said.contains("connect"),
        "{said}"
    );
}

#[test]
fn help_and_version_go_to_stdout() {
    for (arguments, words) in [
        (["--help"].as_slice(), "serve"),
        (&["--version"], concat!("oread ", env!("CARGO_PKG_VERSION"))),
        (&["serve", "--help"], "[default: 127.0.0.1:9999]"),
        (&["help"], "serve"),
        (&["load", "--help"], "143 ended by SIGTERM"),
        (&["load", "--help"], "oread load -c 10k --idle -d 1h"),
        (&["load", "-h"], "leave out the line a second"),
        (&["find", "--help"], "the highest rate at which that holds"),
        (&["doctor", "-h"], "Log errors only"),
        (&["help", "connect"], "[default: 10s "),
        (&["connect", "-h"], "[default: 10s "),
    ] {
        let output = oread(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            String::from_utf8(output.stdout).unwrap().contains(words),
            "{arguments:?}"
        );
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_reader_of_the_help_who_has_left_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_oread"))
        .args(["serve", "--help"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_shell_s_completions_know_the_commands_and_their_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = oread(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        // fish has names of options without their dashes.
        for word in ["serve", "doctor", "completions", "drain-timeout"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    refused(&[("completions tcsh", "bash, elvish, fish, powershell, zsh")]);
}

#[test]
fn bash_completes_by_the_script() {
    let script = "source <(\"$0\" completions bash) && COMP_WORDS=(oread serve --drain) && \
                  COMP_CWORD=2 && _oread oread --drain serve && echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_oread")])
        .output();
    let Ok(output) = output else {
        println!("skipped: there is no bash");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "--drain-timeout\n", "{output:?}");
}

#[test]
fn each_command_has_a_manual_page_which_the_main_one_names() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages/man1");
    let _ = fs::remove_dir_all(folder.parent().unwrap());
    let output = oread(&["man", folder.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty());
    let main = String::from_utf8(oread(&["man"]).stdout).unwrap();
    assert_eq!(main, fs::read_to_string(folder.join("oread.1")).unwrap());
    let head = concat!("\"oread ", env!("CARGO_PKG_VERSION"), "\"");
    let mut pages = 1;
    for line in main.lines().filter(|line| line.starts_with("oread\\-")) {
        let Some(name) = line.strip_suffix("(1)") else {
            continue;
        };
        let name = name.replace('\\', "");
        let page = fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {name} 1  {head}")), "{page}");
        pages += 1;
    }
    assert_eq!((pages, fs::read_dir(&folder).unwrap().count()), (8, 8));
}

#[test]
fn manual_pages_that_cannot_be_written_are_an_error_with_its_place() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-folder");
    fs::write(&file, "").unwrap();
    let output = oread(&["man", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("can't write manual pages into") && said.contains("no-folder: "),
        "{said}"
    );
}
