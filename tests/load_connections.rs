//! `oread load` end to end: how its connections come about, end, and are replaced.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use load::cli::{LONG, Server, oread};
use load::{Next, Report, each_message, interrupted, say, tcp};

#[test]
fn a_server_that_never_answers_is_told_as_that_and_nothing_is_measured() {
    let address = tcp(|stream, _| each_message(stream, |_, _, _| Next::Message));
    let report = Report::of(&[
        &address,
        "-c",
        "5",
        "--message-timeout",
        "200ms",
        "-d",
        "10m",
    ]);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.connections("established"), 5);
    assert_eq!(report.connections("confirmed"), 0);
    assert_eq!(
        report.errors(),
        BTreeMap::from([("message timeout".to_owned(), 5)])
    );
    assert_eq!(report.messages("sent"), 0);
}

#[test]
fn a_listener_that_never_accepts_times_dials_and_messages_out() {
    let mut reactor: oread::Reactor<oread::Echo> = oread::Reactor::new().unwrap();
    let options = oread::ListenOptions {
        backlog: 1,
        ..oread::ListenOptions::new(([127, 0, 0, 1], 0))
    };
    let listener = reactor.context().listen(&options).unwrap();
    let address = reactor
        .context()
        .listener_addr(listener)
        .unwrap()
        .to_string();
    let patience = ["--connect-timeout", "300ms", "--message-timeout", "300ms"];
    let arguments = [&[&*address, "-c", "8"], &patience[..]].concat();
    let report = Report::of(&arguments);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.connections("confirmed"), 0);
    let (there, late) = (
        report.connections("established"),
        report.connections("timed_out"),
    );
    assert!(late > 0 && there + late == 8, "{}", report.value);
    assert_eq!(report.error("connect timeout"), late);
    assert_eq!(report.error("message timeout"), there);
}

#[test]
fn nobody_there_is_a_refusal_for_each_and_exit_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let report = Report::of(&[&address, "-c", "5", "-R", "10", "-d", "10m"]);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.connections("refused"), 5);
    assert_eq!(
        report.errors(),
        BTreeMap::from([("ECONNREFUSED".to_owned(), 5)])
    );
}

#[test]
fn connections_that_the_server_ends_are_lost_each_with_its_reason() {
    let address = tcp(|stream, index| {
        each_message(stream, |stream, message, bytes| match (index, message) {
            (0, 3) => {
                say(stream, bytes);
                // The next message is there, and is not read.
                stream.peek(&mut [0]).unwrap();
                Next::Close
            }
            (1, 3) => {
                say(stream, &bytes[..10]);
                Next::Close
            }
            (2, 3) => {
                say(stream, bytes);
                // The next message is read, or the end would be a reset.
                stream.shutdown(Shutdown::Write).unwrap();
                let _ = std::io::copy(stream, &mut std::io::sink());
                Next::Close
            }
            _ => say(stream, bytes),
        });
    });
    let report = Report::of(&[&address, "-c", "4", "-d", "500ms", "-r", "100"]);
    // All had been there, but not to the end.
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    assert_eq!(report.connections("peak_confirmed"), 4);
    assert_eq!(report.connections("lost"), 3, "{}", report.value);
    assert_eq!(report.connections("missing"), 3);
    assert_eq!(report.connections("dialed"), 4);
    assert_eq!(report.connections("open"), 1);
    let errors = BTreeMap::from([
        ("ECONNRESET".to_owned(), 1),
        ("closed by peer".to_owned(), 1),
        ("closed by peer in mid-answer".to_owned(), 1),
    ]);
    assert_eq!(report.errors(), errors);
    assert!(report.messages("lost") >= 1);
}

#[test]
fn an_idle_connection_that_is_lost_is_missing_to_the_end_and_exit_4() {
    let confirmed = AtomicU64::new(0);
    let address = tcp(move |stream, index| {
        let served = |stream: &mut TcpStream, _: usize, bytes: &mut [u8; 64]| {
            say(stream, bytes);
            confirmed.fetch_add(1, Ordering::SeqCst);
            // One of them goes when all have been there.
            let deadline = Instant::now() + LONG;
            while index == 0 && confirmed.load(Ordering::SeqCst) < 3 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            match index {
                0 => Next::Close,
                _ => Next::Message,
            }
        };
        each_message(stream, served);
    });
    let report = Report::of(&[&address, "-c", "3", "--idle", "-d", "500ms"]);
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    let ledger = ["peak_confirmed", "lost", "missing", "open"].map(|name| report.connections(name));
    assert_eq!(ledger, [3, 1, 1, 2], "{}", report.value);
}

#[test]
fn a_connection_that_is_lost_is_replaced_where_others_are_too() {
    let address = tcp(|stream, index| {
        each_message(stream, |stream, message, bytes| match (index, message) {
            (1, 3) => Next::Close,
            _ => say(stream, bytes),
        });
    });
    let report = Report::of(&[&address, "-c", "3", "--lifetime", "10m", "-d", "2s"]);
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    let ledger = ["lost", "redialed", "missing", "open"].map(|name| report.connections(name));
    assert_eq!(ledger, [1, 1, 0, 3], "{}", report.value);
}

#[test]
fn a_server_that_is_gone_for_good_leaves_all_places_empty() {
    // Four are served, then nobody listens any more, and they are hung up on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..4).map(|_| listener.accept().unwrap().0).collect();
        drop(listener);
        for stream in streams {
            thread::spawn(|| {
                each_message(stream, |stream, message, bytes| match message {
                    0..100 => say(stream, bytes),
                    _ => Next::Close,
                });
            });
        }
    });
    let arguments = [&*address, "-c", "4", "--churn", "20", "-d", "1s"];
    let report = Report::of(&[&arguments[..], &["-R", "1k"]].concat());
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    assert_eq!(report.connections("peak_confirmed"), 4);
    assert_eq!(report.connections("missing"), 4, "{}", report.value);
    assert_eq!(report.connections("open"), 0);
    assert!(report.connections("refused") > 0);
}

#[test]
fn connections_are_closed_and_dialed_again_at_a_rate_or_by_age() {
    for turnover in [["--churn", "100"], ["--lifetime", "50ms"]] {
        for traffic in [["--depth", "1"], ["-R", "500"]] {
            let arguments = [["-c", "5"], ["-d", "500ms"], turnover, traffic].concat();
            let report = Report::of(&arguments);
            assert_eq!(report.exit_code(), 0, "{}", report.value);
            assert_eq!(report.connections("lost"), 0);
            assert!(report.connections("closed") >= 5, "{}", report.value);
            let dialed = report.connections("dialed");
            assert_eq!(
                dialed,
                5 + report.connections("redialed"),
                "{}",
                report.value
            );
            assert_eq!(report.messages("sent"), report.messages("verified"));
            assert!(report.value["churn"]["reached"].as_f64().unwrap() > 0.0);
        }
    }
}

/// The program's load with so many descriptors at most.
fn with_descriptors(limit: u32, arguments: &[&str]) -> Report {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_oread")).arg("load");
    command.args(arguments).args(["--json", "-"]);
    Report::from(command)
}

#[test]
fn a_server_that_never_closes_its_side_has_its_connections_replaced_all_the_same() {
    // It holds each until it ends itself.
    let held = Mutex::new(Vec::new());
    let address = tcp(move |stream, _| {
        held.lock().unwrap().push(stream.try_clone().unwrap());
        each_message(stream, |stream, _, bytes| say(stream, bytes));
    });
    for turnover in [["--churn", "100"], ["--lifetime", "40ms"]] {
        let traffic = ["-c", "4", "-R", "200", "-d", "2s"];
        let arguments = [&[&*address], &traffic[..], &turnover[..]].concat();
        // Some two hundred are replaced, of which a busy machine has fewer; none keeps its
        // descriptor.
        let report = with_descriptors(64, &arguments);
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        assert!(report.connections("replaced") > 20, "{}", report.value);
        let ledger = ["lost", "failed", "missing"].map(|name| report.connections(name));
        assert_eq!(ledger, [0; 3], "{}", report.value);
    }
}

#[test]
fn a_connection_that_takes_no_more_is_cut_off_and_replaced_when_its_time_has_come() {
    // It confirms each connection, and reads no more from it.
    let address = tcp(|mut stream, _| {
        let mut first = vec![0; 1 << 20];
        let confirmed = stream.read_exact(&mut first);
        if confirmed.and_then(|()| stream.write_all(&first)).is_ok() {
            while stream.peer_addr().is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let size = ["-s", "1MiB", "--depth", "16", "--message-timeout", "50ms"];
    let age = ["-c", "1", "--lifetime", "50ms", "-d", "4s"];
    // Some forty are replaced, of which a busy machine has fewer; none keeps its descriptor.
    let report = with_descriptors(32, &[&[&*address], &size[..], &age[..]].concat());
    assert!(report.connections("replaced") >= 4, "{}", report.value);
    assert!(report.messages("timed_out") > 0, "{}", report.value);
    assert_eq!(report.connections("failed"), 0, "{}", report.value);
}

#[test]
fn a_connection_that_is_lost_in_the_ramp_is_replaced_when_the_load_begins() {
    let address = tcp(|stream, index| {
        each_message(stream, |stream, _, bytes| {
            say(stream, bytes);
            match index {
                0 => Next::Close,
                _ => Next::Message,
            }
        });
    });
    // The ramp lasts for a third of a second after the first one is hung up on.
    let arguments = [&*address, "-c", "4", "-r", "10", "--lifetime", "1h"];
    let report = Report::of(&[&arguments[..], &["-d", "1500ms", "-R", "50"]].concat());
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    let ledger = ["dialed", "redialed", "lost", "missing", "open"];
    let ledger = ledger.map(|name| report.connections(name));
    assert_eq!(ledger, [5, 1, 1, 0, 4], "{}", report.value);
}

#[test]
fn several_threads_find_the_faults_of_a_server_as_one_does() {
    // Of twelve, four are hung up on and four have a wrong answer, whichever thread they are of.
    let address = tcp(|stream, index| {
        each_message(stream, |stream, message, bytes| {
            match (index % 3, message) {
                (0, 2) => Next::Close,
                (1, 2) => {
                    bytes[30] ^= 1;
                    say(stream, bytes)
                }
                _ => say(stream, bytes),
            }
        });
    });
    let report = Report::of(&[&address, "-c", "12", "-t", "2", "-d", "500ms"]);
    assert_eq!(report.exit_code(), 5, "{}", report.value);
    let ledger = ["dialed", "confirmed", "lost", "open", "missing"];
    let ledger = ledger.map(|name| report.connections(name));
    assert_eq!(ledger, [12, 12, 8, 4, 8], "{}", report.value);
    assert_eq!(report.messages("corrupt"), 4);
    assert_eq!(report.error("corrupt answer"), 4);
    assert!(report.messages("lost") >= 8, "{}", report.value);
    let threads = report.value["generator"]["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2);
}

#[test]
fn replacing_connections_keeps_to_the_connect_rate() {
    // It hangs up at the second message.
    let address = tcp(|stream, _| {
        each_message(stream, |stream, message, bytes| match message {
            0 => say(stream, bytes),
            _ => Next::Close,
        });
    });
    let begun = Instant::now();
    let pace = ["--connect-rate", "50", "--churn", "1"];
    let report = Report::of(&[&[&*address, "-c", "10", "-d", "1s"], &pace[..]].concat());
    // Without a pace there would be hundreds. What a stall of 10 ms has kept may be made up for,
    // and one is due at once.
    let most = begun.elapsed().as_secs_f64() * 50.0 + 2.0;
    assert!(report.connections("redialed") > 0, "{}", report.value);
    assert!(
        report.connections("dialed") as f64 <= most,
        "more than {most}: {}",
        report.value
    );
    let more = ["load", "--churn", "20", "--connect-rate", "10"];
    let output = oread(more[0]).args(&more[1..]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--connect-rate 20"), "{said}");
}

#[test]
fn a_signal_in_the_ramp_ends_it_with_what_there_is_and_nothing_measured() {
    let ramp = ["-c", "200", "-r", "2", "-t", "2"];
    for traffic in [&["-R", "100"][..], &["--churn", "1"], &["-n", "5"]] {
        let report = interrupted("INT", &[&ramp[..], traffic].concat());
        let there = report.connections("confirmed");
        assert!((1..200).contains(&there), "{}", report.value);
        assert_eq!(report.connections("missing"), 200 - there);
        assert_eq!(report.messages("sent") + report.messages("unsent"), 0);
        assert_eq!(report.value["seconds"]["measured"], 0.0);
        assert!(report.value["rate"]["reached"].is_null());
    }
}

#[test]
fn targets_over_ipv6_are_loaded_like_any() {
    let server = Server::start_at("[::1]:0", &[]);
    let (tcp, udp) = (server.tcp().to_string(), format!("udp://{}", server.udp()));
    assert!(tcp.starts_with("[::1]:"), "{tcp}");
    let report = Report::of(&[&tcp, &udp, "-c", "4", "-n", "400", "--source", "::1"]);
    report.assert_all_is_well();
    assert_eq!(report.value["targets"][0], format!("tcp://{tcp}"));
    assert_eq!(report.value["udp_flows"].as_array().unwrap().len(), 2);
    server.stop();
}

/// An echo that notes who its callers are.
fn noting() -> (String, Arc<Mutex<Vec<SocketAddr>>>) {
    let callers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let noted = Arc::clone(&callers);
    let address = tcp(move |stream, _| {
        noted.lock().unwrap().push(stream.peer_addr().unwrap());
        each_message(stream, |stream, _, bytes| say(stream, bytes));
    });
    (address, callers)
}

/// How many callers there were from each address.
fn by_address(callers: &Mutex<Vec<SocketAddr>>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for caller in callers.lock().unwrap().iter() {
        *counts.entry(caller.ip().to_string()).or_default() += 1;
    }
    counts
}

#[cfg(target_os = "linux")] // Elsewhere loopback has one address.
#[test]
fn sources_are_an_address_or_all_of_a_network_in_turn() {
    for (sources, expected) in [
        (&["127.0.0.7"][..], &[("127.0.0.7", 6)][..]),
        (&["127.9.0.0/30"], &[("127.9.0.1", 3), ("127.9.0.2", 3)]),
        (
            &["127.0.0.7", "127.9.0.0/30"],
            &[("127.0.0.7", 2), ("127.9.0.1", 2), ("127.9.0.2", 2)],
        ),
    ] {
        let (address, callers) = noting();
        let mut arguments = vec![&*address, "-c", "6", "-t", "2", "-n", "60"];
        for source in sources {
            arguments.extend(["--source", source]);
        }
        Report::of(&arguments).assert_all_is_well();
        let expected = expected
            .iter()
            .map(|(ip, count)| ((*ip).to_owned(), *count));
        assert_eq!(by_address(&callers), expected.collect(), "{sources:?}");
    }
}

#[test]
fn each_of_several_targets_has_its_share_of_the_connections() {
    let (one, at_one) = noting();
    let (two, at_two) = noting();
    let server = Server::start(&[]);
    let udp = format!("udp://{}", server.udp());
    // The first is given twice, and has twice as many.
    let arguments = [&*one, &two, &udp, &one, "-c", "12", "-t", "2", "-n", "120"];
    let report = Report::of(&arguments);
    report.assert_all_is_well();
    assert_eq!(at_one.lock().unwrap().len(), 6);
    assert_eq!(at_two.lock().unwrap().len(), 3);
    assert_eq!(report.value["udp_flows"].as_array().unwrap().len(), 3);
    server.stop();
}

#[test]
fn running_out_of_descriptors_is_named_and_counted_for_each() {
    let address = tcp(|stream, _| {
        each_message(stream, |stream, _, bytes| say(stream, bytes));
    });
    let arguments = [&*address, "-c", "100", "-d", "200ms", "--force"];
    let report = with_descriptors(40, &arguments);
    assert_eq!(report.exit_code(), 4);
    assert!(report.connections("confirmed") > 0);
    assert_eq!(report.error("EMFILE"), report.connections("failed"));
    assert_eq!(
        report.connections("confirmed") + report.connections("failed"),
        100
    );
}
