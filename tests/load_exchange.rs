//! `oread load` against servers that answer with something else than an echo, each of which counts
//! for itself what it was asked.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load::cli::oread;
use load::{Report, tcp};

/// What a server counts.
#[derive(Default)]
struct Books {
    connections: AtomicU64,
    questions: AtomicU64,
    wrong: AtomicU64,
    /// Questions of each connection that has ended.
    ended: Mutex<Vec<u64>>,
    /// The first ones that were asked.
    first: Mutex<Vec<String>>,
}

impl Books {
    fn number(&self, of: impl Fn(&Books) -> &AtomicU64) -> u64 {
        of(self).load(Ordering::SeqCst)
    }
}

/// A server whose questions are lines. `answer` says what it answers to the so-manyth of all, and
/// whether it hangs up then.
fn lines(
    greeting: &'static str,
    answer: impl Fn(u64, &str) -> (Vec<u8>, bool) + Send + Sync + 'static,
) -> (String, Arc<Books>) {
    let books = Arc::new(Books::default());
    let kept = Arc::clone(&books);
    let address = tcp(move |mut stream, _| {
        books.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(greeting.as_bytes());
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut asked) = (String::new(), 0);
        while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
            let number = books.questions.fetch_add(1, Ordering::SeqCst);
            asked += 1;
            let mut first = books.first.lock().unwrap();
            if first.len() < 20 {
                first.push(line.trim_end().to_owned());
            }
            drop(first);
            let (said, hangs_up) = answer(number, line.trim_end());
            if stream.write_all(&said).is_err() {
                break;
            }
            if hangs_up {
                let _ = stream.shutdown(Shutdown::Write);
                break;
            }
            line.clear();
        }
        books.ended.lock().unwrap().push(asked);
    });
    (address, kept)
}

fn run(address: &str, arguments: &[&str]) -> Report {
    let all: Vec<&str> = [address]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let report = Report::of(&all);
    report.assert_balanced();
    report
}

/// Waits for it.
fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What it has sent in all.
fn asked(report: &Report) -> u64 {
    report.messages("sent") + report.messages("unmeasured")
}

#[test]
fn answers_that_are_lines_end_where_they_end_and_are_counted_one_by_one() {
    let (address, books) = lines("", |number, _| {
        (format!("answer {number}\n").into_bytes(), false)
    });
    let arguments = [
        "-c",
        "3",
        "-n",
        "600",
        "--message",
        "hello {sequence}\\n",
        "--answer",
        "lines",
    ];
    for depth in ["1", "5"] {
        let before = books.number(|it| &it.questions);
        let report = run(&address, &[&arguments[..], &["--depth", depth]].concat());
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        assert_eq!(report.messages("echoed"), 600);
        assert_eq!(books.number(|it| &it.questions) - before, asked(&report));
        assert_eq!(
            report.messages("verified"),
            0,
            "nobody said what they must hold"
        );
        assert!(
            report.value["not_checked"]
                .as_str()
                .unwrap()
                .contains("--expect")
        );
    }
    let first = books.first.lock().unwrap();
    assert!(first.iter().any(|line| line == "hello 0"), "{first:?}");
}

#[test]
fn answers_without_what_is_expected_are_counted_the_first_is_shown_and_exit_5() {
    let (address, books) = lines("", |number, _| match number % 10 {
        9 => (b"ERR busy\n".to_vec(), false),
        _ => (b"OK\n".to_vec(), false),
    });
    let message = [
        "-c",
        "4",
        "-n",
        "1000",
        "--message",
        "x\\n",
        "--answer",
        "lines",
    ];
    for expect in [["--expect", "OK"], ["--expect-regex", "^OK\\n$"]] {
        let before = books.number(|it| &it.questions);
        let report = run(&address, &[&message[..], &expect].concat());
        let after = books.number(|it| &it.questions);
        let wrong = (before..after).filter(|number| number % 10 == 9).count() as u64;
        assert_eq!(report.exit_code(), 5);
        assert_eq!(report.messages("mismatched"), wrong);
        assert_eq!(report.error("answer not as expected"), wrong);
        assert_eq!(report.messages("echoed"), 1000);
        let shown = report.value["connections"]["corrupt_answer"]
            .as_str()
            .unwrap();
        assert!(shown.contains("ERR busy"), "{shown}");
    }
}

#[test]
fn questions_without_answers_are_counted_as_what_they_are() {
    let (address, books) = lines("", |_, _| (Vec::new(), false));
    let message = ["-c", "2", "--message", "x\\n", "--answer", "none"];
    for traffic in [
        &["-n", "5000"][..],
        &["-R", "2k", "-d", "500ms"],
        &["-n", "300", "--per-connection", "1"],
        &["-n", "300", "--per-connection", "7"],
    ] {
        let before = books.number(|it| &it.questions);
        let report = run(&address, &[&message[..], traffic].concat());
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        assert_eq!(report.messages("one_way"), report.messages("sent"));
        assert_eq!(report.messages("echoed"), 0);
        assert!(report.value["rate"]["reached"].as_f64().unwrap() > 0.0);
        // The connections have ended, so all of it has arrived.
        let asked = asked(&report);
        until(|| books.number(|it| &it.questions) - before == asked);
    }
}

#[test]
fn what_comes_unasked_is_told_but_where_no_answer_is_awaited() {
    let (address, _) = lines("220 hello\n", |_, _| (b"fine\nand more\n".to_vec(), false));
    let message = ["-c", "2", "-n", "50", "--message", "x\\n"];
    let report = run(&address, &[&message[..], &["--answer", "none"]].concat());
    assert_eq!(
        (report.exit_code(), report.number("bytes", "surplus")),
        (0, 0)
    );
    let slow = ["--answer", "lines", "--think", "20ms"];
    let report = run(&address, &[&message[..], &slow].concat());
    assert!(report.number("bytes", "surplus") > 0, "{}", report.value);
    let warnings = report.value["warnings"].to_string();
    assert!(warnings.contains("--greeting"), "{warnings}");
    assert!(!warnings.contains("--verify off"), "{warnings}");
}

#[test]
fn a_server_that_speaks_first_and_a_login_come_before_what_is_measured() {
    let (address, books) = lines("220 ready\r\n", |_, line| {
        let said = match line {
            line if line.starts_with("USER u") => "331 go on\r\n",
            "PASS secret" => "230 welcome\r\n",
            "NOOP" => "200 fine\r\n",
            _ => "500 what?\r\n",
        };
        (said.as_bytes().to_vec(), false)
    });
    let session = std::env::temp_dir().join(format!("oread-session-{}", std::process::id()));
    std::fs::write(
        &session,
        "answer lines\ngreeting\nexpect 220\nsend USER u{flow}\\r\\nexpect 331\n\
         send PASS secret\\r\\n\nexpect 230\nrepeat\nsend NOOP\\r\\n\nexpect 200\n"
            .replace("\\r\\nexpect 331", "\\r\\n\nexpect 331"),
    )
    .unwrap();
    let report = run(
        &address,
        &[
            "-c",
            "3",
            "-n",
            "300",
            "--session",
            session.to_str().unwrap(),
        ],
    );
    std::fs::remove_file(session).unwrap();
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    assert_eq!(
        (report.messages("echoed"), report.messages("verified")),
        (300, 300)
    );
    assert_eq!(report.connections("confirmed"), 3);
    // Two questions of each login, and what was measured.
    assert_eq!(books.number(|it| &it.questions), 6 + 300);
    let report = run(
        &address,
        &[
            "-c",
            "2",
            "-n",
            "100",
            "--greeting",
            "lines",
            "--message",
            "NOOP\\r\\n",
            "--answer",
            "lines",
            "--expect",
            "200",
        ],
    );
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    assert_eq!(report.messages("verified"), 100);
}

#[test]
fn each_connection_has_its_messages_and_then_another_takes_its_place() {
    for messages in [1, 3] {
        let (address, books) = lines("", |_, _| (b"fine\n".to_vec(), false));
        let count = messages.to_string();
        let report = run(
            &address,
            &[
                "-c",
                "4",
                "-n",
                "400",
                "--message",
                "x\\n",
                "--answer",
                "lines",
                "--per-connection",
                &count,
            ],
        );
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        assert_eq!(report.messages("echoed"), 400);
        assert_eq!(report.messages("unmeasured"), 0, "the first is one of them");
        let dialed = report.connections("dialed");
        until(|| books.ended.lock().unwrap().len() as u64 == dialed);
        let ended = books.ended.lock().unwrap().clone();
        assert_eq!(ended.iter().sum::<u64>(), 400);
        assert!(ended.iter().all(|asked| *asked <= messages), "{ended:?}");
        let whole = ended.iter().filter(|asked| **asked == messages).count();
        assert!(whole as u64 >= 400 / messages - 4, "{ended:?}");
        assert_eq!(report.connections("lost"), 0);
    }
}

#[test]
fn a_server_that_hangs_up_is_dialed_again_where_that_is_asked_for() {
    let hangs_up = |number, _: &str| (b"fine\n".to_vec(), number % 7 == 6);
    let message = [
        "-c",
        "2",
        "-n",
        "200",
        "--message",
        "x\\n",
        "--answer",
        "lines",
    ];
    let (address, books) = lines("", hangs_up);
    let report = run(&address, &[&message[..], &["--reconnect"]].concat());
    // What it sends next crosses the server's end on its way.
    let lost = report.messages("lost");
    assert_eq!(report.messages("echoed") + lost, 200, "{}", report.value);
    assert!(lost <= report.connections("lost"));
    assert_eq!(
        books.number(|it| &it.connections),
        report.connections("established")
    );
    assert!(report.connections("lost") >= 200 / 7 - 2);
    let (address, _) = lines("", hangs_up);
    let report = run(&address, &message);
    assert_eq!((report.exit_code(), report.connections("missing")), (4, 2));
}

/// A server of HTTP: a length, chunks, an error, and a last answer in turn.
fn http() -> (String, Arc<Books>) {
    let books = Arc::new(Books::default());
    let kept = Arc::clone(&books);
    let address = tcp(move |mut stream, _| {
        books.connections.fetch_add(1, Ordering::SeqCst);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
            if line == "\r\n" {
                let number = books.questions.fetch_add(1, Ordering::SeqCst);
                let is_last = number % 11 == 10;
                let said = match number % 11 {
                    3 => {
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                    }
                    5 => "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
                    10 => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                };
                let wrong = u64::from(number % 11 == 5);
                books.wrong.fetch_add(wrong, Ordering::SeqCst);
                if stream.write_all(said.as_bytes()).is_err() || is_last {
                    break;
                }
            }
            line.clear();
        }
    });
    (address, kept)
}

#[test]
fn a_server_of_http_is_asked_by_its_url_and_its_refusals_are_counted() {
    let (address, books) = http();
    let report = run(
        &format!("http://{address}/a?b=c"),
        &["-c", "3", "-n", "500"],
    );
    assert_eq!(report.exit_code(), 5, "{}", report.value);
    assert_eq!(report.messages("echoed"), 500);
    assert_eq!(books.number(|it| &it.questions), asked(&report));
    assert_eq!(report.messages("mismatched"), books.number(|it| &it.wrong));
    // Those that it ends with a word are not lost.
    assert_eq!(
        (report.connections("lost"), report.messages("lost")),
        (0, 0)
    );
    assert_eq!(
        books.number(|it| &it.connections),
        report.connections("established")
    );
    assert!(report.connections("closed") > 40, "{}", report.value);
}

#[test]
fn an_answer_may_be_of_a_length_or_end_with_a_text_or_be_whatever_comes() {
    for (answer, said) in [
        ("fixed:4", &b"abcd"[..]),
        ("length:u16", b"\x00\x03abc"),
        ("until:END\\r\\n", b"VALUE a\r\nb\r\nEND\r\n"),
        ("any", b"whatever"),
        ("redis", b"*2\r\n$1\r\na\r\n:5\r\n"),
    ] {
        let (address, books) = lines("", move |_, _| (said.to_vec(), false));
        let words = format!("-c 2 -n 200 --message x\\n --answer {answer}");
        let report = run(&address, &words.split(' ').collect::<Vec<_>>());
        assert_eq!(report.exit_code(), 0, "{answer}: {}", report.value);
        assert_eq!(report.messages("echoed"), 200, "{answer}");
        assert_eq!(books.number(|it| &it.questions), asked(&report));
        assert_eq!(report.number("bytes", "received"), 200 * said.len() as u64);
    }
}

#[test]
fn an_answer_that_is_none_or_too_long_ends_its_connection_and_exit_5() {
    for (answer, said) in [
        ("http", &b"SSH-2.0-x\r\n\r\n"[..]),
        ("redis", b"hello\r\n"),
        ("lines", &[b'a'; 3000]),
        ("length:u32", b"\x7f\xff\xff\xff"),
    ] {
        let (address, _) = lines("", move |_, _| (said.to_vec(), false));
        let words = format!(
            "-c 1 -n 5 --message x\\n --answer {answer} --max-answer 1KiB --ramp-timeout 500ms"
        );
        let report = run(&address, &words.split(' ').collect::<Vec<_>>());
        assert_eq!(report.exit_code(), 5, "{answer}: {}", report.value);
        // With HTTP it's dialed again, less and less often.
        let corrupt = report.messages("corrupt");
        assert_eq!(corrupt, report.connections("lost"), "{answer}");
        assert!(corrupt == 1 || answer == "http" && corrupt > 1);
    }
}

#[test]
fn several_messages_come_in_turn_or_at_random_and_a_seed_brings_them_again() {
    let (address, books) = lines("", |_, _| (b"fine\n".to_vec(), false));
    let file = std::env::temp_dir().join(format!("oread-messages-{}", std::process::id()));
    std::fs::write(&file, "one;two {flow};three {random:1000};").unwrap();
    let of = |more: &[&str]| {
        books.first.lock().unwrap().clear();
        let path = file.to_str().unwrap();
        let message = [
            "-c",
            "1",
            "-n",
            "15",
            "--framing",
            "lines",
            "--split",
            ";",
            "--answer",
            "lines",
            "--message-file",
            path,
        ];
        let report = run(&address, &[&message[..], more].concat());
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        books.first.lock().unwrap().clone()
    };
    let turn = of(&[]);
    assert_eq!(turn[..2], ["one", "two 0"], "{turn:?}");
    assert!(turn[2].starts_with("three "), "{turn:?}");
    assert_eq!(turn[3], "one");
    let [first, again, other] =
        ["7", "7", "8"].map(|seed| of(&["--order", "random", "--seed", seed]));
    assert_eq!(first, again);
    assert_ne!(first, other);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_rate_may_have_a_fraction_and_times_of_its_own() {
    let (address, books) = lines("", |_, _| (b"fine\n".to_vec(), false));
    let message = ["--message", "x\\n", "--answer", "lines", "-c", "2"];
    let report = run(
        &address,
        &[&message[..], &["-R", "2.5", "-d", "2s"]].concat(),
    );
    assert_eq!(
        (report.messages("sent"), report.exit_code()),
        (5, 0),
        "{}",
        report.value
    );
    let poisson = [
        "-R",
        "500",
        "-d",
        "1s",
        "--arrivals",
        "poisson",
        "--seed",
        "3",
    ];
    let sent = [0, 1].map(|_| {
        let report = run(&address, &[&message[..], &poisson].concat());
        report.messages("sent") + report.messages("unsent")
    });
    assert_eq!(sent[0], sent[1], "the same seed");
    // Five times its spread: the square root of the mean.
    assert!((388..612).contains(&sent[0]), "{sent:?}");
    assert!(books.number(|it| &it.questions) > 0);
}

#[test]
fn what_does_not_go_together_is_refused_with_exit_2() {
    for (arguments, said) in [
        ("udp://127.0.0.1:9 --answer lines", "for streams"),
        (
            "127.0.0.1:9 --answer any --depth 2",
            "one message under way",
        ),
        (
            "udp://127.0.0.1:9 --per-connection 1",
            "a UDP socket is no connection",
        ),
        ("127.0.0.1:9 --greeting echo", "a greeting is no echo"),
        (
            "127.0.0.1:9 --answer none --expect x",
            "nothing can be expected",
        ),
        // An echo is compared with what was sent; what else it should hold nobody looked at.
        (
            "127.0.0.1:9 --message PING --expect PONG",
            "nothing can be expected",
        ),
        ("127.0.0.1:9 --expect-regex (", "unclosed"),
        ("http://a/b http://c/b", "all targets are asked the same"),
        ("tls://a", "the port is missing"),
        (
            "127.0.0.1:9 --per-connection 5 --churn 3",
            "cannot be used with",
        ),
        ("127.0.0.1:9 -R 0.0001", "three digits"),
        ("127.0.0.1:9 --arrivals poisson", "--rate"),
        ("127.0.0.1:9 --message a{random:x}", "write how many"),
    ] {
        let output = oread("load").args(arguments.split(' ')).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(said), "{arguments}: {stderr}");
    }
}
