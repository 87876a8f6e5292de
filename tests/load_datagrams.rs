//! `oread load` over UDP, end to end: what it makes of datagrams that are lost, doubled, swapped
//! and late.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use load::{Report, interrupted};

/// A UDP server that does to each datagram what its number says; see `udp`.
struct Mangler {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Mangled>>,
}

/// How many datagrams it did something to, those that confirm a socket left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mangled {
    dropped: u64,
    doubled: u64,
    swapped: u64,
    flipped: u64,
}

impl Mangler {
    fn start() -> Mangler {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = format!("udp://{}", socket.local_addr().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || mangle(&socket, &told)));
        Mangler {
            address,
            stop,
            thread,
        }
    }

    fn end(mut self) -> Mangled {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn mangle(socket: &UdpSocket, stop: &AtomicBool) -> Mangled {
    let mut did = Mangled::default();
    let mut held: Option<(Vec<u8>, SocketAddr)> = None;
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return did;
                }
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let number = u32::from_be_bytes(buffer[4..8].try_into().unwrap());
        match number % 10 {
            3 => {
                did.dropped += 1;
                continue;
            }
            5 if held.is_none() => {
                did.swapped += 1;
                held = Some((buffer[..len].to_vec(), from));
                continue;
            }
            7 => {
                did.flipped += 1;
                buffer[len - 1] ^= 1;
            }
            8 => {
                did.doubled += 1;
                socket.send_to(&buffer[..len], from).unwrap();
            }
            _ => {}
        }
        socket.send_to(&buffer[..len], from).unwrap();
        if let Some((bytes, to)) = held.take() {
            socket.send_to(&bytes, to).unwrap();
        }
    }
}

#[test]
fn datagrams_that_are_dropped_doubled_swapped_and_flipped_are_told_by_their_number() {
    let server = Mangler::start();
    // 203 datagrams with the one that confirms, numbered from 0: the last ones are answered in
    // order.
    let arguments = [&*server.address, "-c", "1", "-n", "202", "-R", "1k"];
    let report = Report::of(&[&arguments[..], &["--message-timeout", "500ms"]].concat());
    let did = server.end();
    assert_eq!(
        did,
        Mangled {
            dropped: 20,
            doubled: 20,
            swapped: 20,
            flipped: 20
        }
    );
    let udp = |name| report.number("udp", name);
    assert_eq!(udp("sent"), 202);
    assert_eq!(udp("lost"), did.dropped + did.flipped);
    assert_eq!(udp("received"), 202 - udp("lost"));
    assert_eq!(udp("duplicated"), did.doubled);
    assert_eq!(udp("reordered"), did.swapped);
    assert_eq!(udp("corrupt"), did.flipped);
    assert_eq!(udp("late"), 0);
    assert_eq!(report.exit_code(), 5);
    assert_eq!(report.error("corrupt answer"), did.flipped);
    let warning = "a wrong datagram of 64 bytes: from byte 63 on ";
    assert!(report.log.contains(warning), "{}", report.log);
    assert_eq!(report.error("message timeout"), udp("lost"));
    assert_eq!(report.messages("echoed"), udp("received"));
}

#[test]
fn a_closed_loop_over_udp_goes_on_past_what_is_lost() {
    let server = Mangler::start();
    let arguments = [&*server.address, "-c", "3", "-n", "90", "--depth", "2"];
    let report = Report::of(&[&arguments[..], &["--message-timeout", "100ms"]].concat());
    server.end();
    assert_eq!(report.number("udp", "sent"), 90);
    assert!(report.number("udp", "lost") >= 9, "{}", report.value);
}

#[test]
fn an_answer_after_the_message_timeout_is_late_and_received() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        // The first one at once, all others after 400 ms.
        for index in 0..4 {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            if index > 0 {
                thread::sleep(Duration::from_millis(400));
            }
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    // One each 500 ms, so the next one keeps the run open for the answer before it.
    let arguments = [
        &*address,
        "-c",
        "1",
        "-R",
        "2",
        "-d",
        "1500ms",
        "--message-timeout",
        "200ms",
    ];
    let report = Report::of(&arguments);
    assert_eq!(report.number("udp", "sent"), 3);
    assert!(report.number("udp", "late") >= 2, "{}", report.value);
    assert_eq!(report.messages("timed_out"), 3);
}

/// Answers each datagram by what `answer` makes of it, which gets its place in the order of all; in
/// a thread that ends with the test program.
fn udp(mut answer: impl FnMut(usize, &mut [u8]) -> bool + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for index in 0.. {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            if answer(index, &mut buffer[..len]) {
                // A load that is gone has nobody there any more.
                let _ = socket.send_to(&buffer[..len], from);
            }
        }
    });
    address
}

#[test]
fn a_depth_over_what_the_flows_share_comes_to_an_end() {
    let address = udp(|_, _| true);
    let arguments = ["-c", "200", "--depth", "40k", "-d", "300ms"];
    let patience = ["--message-timeout", "300ms"];
    let report = Report::of(&[&[&*address], &arguments[..], &patience[..]].concat());
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    assert!(report.number("udp", "sent") > 0, "{}", report.value);
}

#[test]
fn no_flow_sends_all_of_its_depth_before_another_begins() {
    let (seen, order) = mpsc::channel();
    let address = udp(move |_, bytes| {
        let flow = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        seen.send(flow).unwrap();
        true
    });
    let arguments = [&*address, "-c", "2", "--depth", "2000", "-n", "4000"];
    let report = Report::of(&[&arguments[..], &["--message-timeout", "300ms"]].concat());
    assert_eq!(report.number("udp", "sent"), 4000);
    // The two that confirm, and then as many of each as there is room for in the server's socket.
    let first: Vec<u32> = order.try_iter().take(102).collect();
    for flow in [0, 1] {
        let count = first.iter().filter(|&&of| of == flow).count();
        assert!(count > 30, "flow {flow}: {count} of {first:?}");
    }
}

#[test]
fn a_datagram_is_counted_by_what_was_sent_whatever_its_time_says() {
    // Those to warm up come back with a time that lies in the measured time.
    let address = udp(|index, bytes| {
        bytes[8] ^= u8::from((1..30).contains(&index)) << 6;
        true
    });
    let arguments = [
        &*address, "-c", "1", "-R", "100", "--warmup", "500ms", "-d", "500ms",
    ];
    for verify in ["off", "sequence", "full"] {
        let report = Report::of(&[&arguments[..], &["--verify", verify]].concat());
        let figures = ["sent", "received", "lost"].map(|name| report.number("udp", name));
        assert_eq!(figures, [50, 50, 0], "{}", report.value);
        if verify == "off" {
            // The server has seen the others' first ones by then.
            assert_eq!(report.number("udp", "corrupt"), 29, "{}", report.value);
            assert_eq!(report.exit_code(), 5);
        }
    }
}

#[test]
fn what_has_time_left_when_it_is_interrupted_is_outstanding_and_not_lost() {
    let address = udp(|index, _| index < 2);
    let arguments = [&*address, "-c", "2", "-R", "100", "-d", "10m"];
    let patience = ["--message-timeout", "1m"];
    let report = interrupted("INT", &[&arguments[..], &patience[..]].concat());
    let sent = report.number("udp", "sent");
    assert!(sent > 0, "{}", report.value);
    assert_eq!(report.number("udp", "outstanding"), sent);
    assert_eq!(report.messages("outstanding"), sent);
    assert_eq!(report.number("udp", "lost"), 0);
    assert!(report.errors().is_empty(), "{}", report.value);
}

#[test]
fn each_flow_has_its_own_figures() {
    // What the second of three sends is answered every other time.
    let address = udp(|_, bytes| {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        word(0) != 1 || word(4) % 2 == 0
    });
    let arguments = [&*address, "-c", "3", "-n", "300", "-R", "1k"];
    let report = Report::of(&[&arguments[..], &["--message-timeout", "300ms"]].concat());
    let flows = report.value["udp_flows"].as_array().unwrap();
    let figures = |name: &str| -> Vec<u64> {
        let of = |flow: &serde_json::Value| flow[name].as_u64().unwrap();
        flows.iter().map(of).collect()
    };
    assert_eq!(figures("sent"), [100, 100, 100], "{}", report.value);
    assert_eq!(figures("lost"), [0, 50, 0], "{}", report.value);
    assert_eq!(report.number("udp", "received"), 250);
}
