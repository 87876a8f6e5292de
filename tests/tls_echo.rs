//! The example `tls_echo` from outside: over rustls, over bare TCP, and over `openssl s_client`
//! where there is one. The example's own program is run.
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/example.rs"]
mod example;

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use example::{Example, LONG, command};
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A certificate and its key in files, and the configuration of a client that trusts no other.
struct Identity {
    cert: PathBuf,
    key: PathBuf,
    trust: Arc<ClientConfig>,
}

impl Identity {
    fn new() -> Identity {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |kind: &str| {
            let name = format!("tls_echo-{}-{count}-{kind}.pem", std::process::id());
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
        };
        let (cert, key) = (file("cert"), file("key"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Identity {
            cert,
            key,
            trust: Arc::new(trust),
        }
    }

    fn start(&self) -> Example {
        let (cert, key) = (self.cert.to_str().unwrap(), self.key.to_str().unwrap());
        Example::start("tls_echo", &["127.0.0.1:0", cert, key])
    }

    /// A client that has not said anything yet.
    fn stranger(&self, server: &Example) -> Client {
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(self.trust.clone(), name).unwrap();
        StreamOwned::new(tls, tcp(server))
    }

    /// A client that has shaken hands.
    fn client(&self, server: &Example) -> Client {
        let mut client = self.stranger(server);
        client.conn.complete_io(&mut client.sock).unwrap();
        assert!(!client.conn.is_handshaking());
        client
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.cert);
        let _ = std::fs::remove_file(&self.key);
    }
}

fn tcp(server: &Example) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// Sends `bytes`, and expects them back.
fn echoed(client: &mut Client, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    client.flush().unwrap();
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == bytes, "{} bytes come back changed", bytes.len());
}

/// Sends a close_notify, and expects nothing back but the server's and then its FIN. Without a
/// close_notify rustls gives `UnexpectedEof`.
fn part(mut client: Client) {
    client.conn.send_close_notify();
    client.flush().unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes too many", rest.len());
    assert_eq!(client.sock.read(&mut [0]).unwrap(), 0, "no FIN");
}

/// Byte `at` of a stream in whose pattern no lost or doubled piece could hide: its period is a
/// prime.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

/// A client's two directions at once: another thread reads the records, so that neither side waits
/// for the other.
struct Duplex {
    tls: ClientConnection,
    socket: TcpStream,
    records: Receiver<Vec<u8>>,
    received: usize,
}

impl Duplex {
    fn new(client: Client) -> Duplex {
        let (tls, socket) = client.into_parts();
        let mut other = socket.try_clone().unwrap();
        let (sender, records) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            // Nothing, and nobody who would listen, is the end.
            while let Ok(count @ 1..) = other.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Duplex {
            tls,
            socket,
            records,
            received: 0,
        }
    }

    fn send(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// Takes what has come, and checks it against the pattern; true at the server's close_notify.
    fn take(&mut self, records: &[u8]) -> bool {
        let mut records = records;
        let mut plain = [0; 16 << 10];
        while !records.is_empty() {
            self.tls.read_tls(&mut records).unwrap();
            let state = self.tls.process_new_packets().unwrap();
            while let Ok(count @ 1..) = self.tls.reader().read(&mut plain) {
                for (offset, &byte) in plain[..count].iter().enumerate() {
                    assert_eq!(byte, pattern(self.received + offset));
                }
                self.received += count;
            }
            if state.peer_has_closed() {
                return true;
            }
        }
        false
    }

    /// Sends a close_notify, and takes all that still comes, up to the server's.
    fn finish(&mut self) {
        self.tls.send_close_notify();
        self.send();
        loop {
            let records = self.records.recv_timeout(LONG);
            if self.take(&records.expect("the end came without close_notify")) {
                return;
            }
        }
    }
}

#[test]
fn ten_megabytes_both_ways_at_once_come_back_byte_for_byte_and_both_say_goodbye() {
    const COUNT: usize = 10_000_000;
    let identity = Identity::new();
    let server = identity.start();
    let mut duplex = Duplex::new(identity.client(&server));
    let stream: Vec<u8> = (0..COUNT).map(pattern).collect();
    for piece in stream.chunks(50_000) {
        duplex.tls.writer().write_all(piece).unwrap();
        duplex.send();
        while let Ok(records) = duplex.records.try_recv() {
            assert!(!duplex.take(&records), "closed too early");
        }
    }
    duplex.finish();
    assert_eq!(duplex.received, COUNT);
    // The FIN: the other thread has read it, and is gone.
    assert!(duplex.records.recv_timeout(LONG).is_err());
    let log = server.end();
    assert!(log.iter().all(|line| line.starts_with("try")), "{log:?}");
}

#[test]
fn a_stream_in_pieces_of_one_byte_is_understood() {
    /// Writes a byte at a time, each in a segment of its own as far as the system goes along.
    struct Dribble<'a>(&'a mut TcpStream);
    impl Write for Dribble<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(1)])
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let identity = Identity::new();
    let server = identity.start();
    let mut client = identity.stranger(&server);
    let dribble = |client: &mut Client| {
        while client.conn.wants_write() {
            let written = client.conn.write_tls(&mut Dribble(&mut client.sock));
            assert_eq!(written.unwrap(), 1);
        }
    };
    while client.conn.is_handshaking() {
        dribble(&mut client);
        client.conn.read_tls(&mut client.sock).unwrap();
        client.conn.process_new_packets().unwrap();
    }
    client.conn.writer().write_all(b"in pieces").unwrap();
    dribble(&mut client);
    let mut back = [0; 9];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"in pieces");
    part(client);
}

#[test]
fn what_was_sent_right_before_the_goodbye_is_echoed() {
    let identity = Identity::new();
    let server = identity.start();
    let mut client = identity.client(&server);
    let sent: Vec<u8> = (0..40_000).map(pattern).collect();
    client.conn.writer().write_all(&sent).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    // Both are on their way at once, and a FIN behind them.
    client.sock.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
}

#[test]
fn a_stream_that_ends_without_close_notify_is_logged_as_truncated_and_answered_with_one() {
    let identity = Identity::new();
    let server = identity.start();
    let mut client = identity.client(&server);
    echoed(&mut client, b"the first half");
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "no close_notify");
    let peer = client.sock.local_addr().unwrap().to_string();
    assert!(server.log_line("truncated").starts_with(&peer));
}

#[test]
fn a_caller_who_leaves_during_the_handshake_is_logged_and_nobody_else_is_concerned() {
    let identity = Identity::new();
    let server = identity.start();
    let mut client = identity.client(&server);
    drop(identity.stranger(&server));
    server.log_line("left during the handshake");
    echoed(&mut client, b"still here");
    part(client);
}

#[test]
fn plain_text_is_refused_with_an_alert_and_a_log_line() {
    let identity = Identity::new();
    let server = identity.start();
    let mut stream = tcp(&server);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // No reset: it would destroy the alert.
    stream.read_to_end(&mut answer).unwrap();
    // RFC 8446, 5.1 and 6: an alert of two bytes, fatal, decode_error.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50]);
    let peer = stream.local_addr().unwrap().to_string();
    assert!(server.log_line("no TLS?").starts_with(&peer));
}

#[test]
fn a_flood_of_lines_for_the_log_is_cut_to_a_few_and_the_others_are_counted() {
    let identity = Identity::new();
    let server = identity.start();
    server.log_line("try: ");
    // One after the other: the log has them in this order.
    let (mut peers, mut shown) = (Vec::new(), 0);
    let deadline = Instant::now() + LONG;
    let left_out = loop {
        assert!(Instant::now() < deadline, "{shown} lines");
        let mut stream = tcp(&server);
        peers.push(stream.local_addr().unwrap().to_string());
        stream.write_all(b"no TLS\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        match server.log.try_recv() {
            Ok(line) if line.ends_with(" lines were left out") => break line,
            Ok(_) => shown += 1,
            Err(_) => {}
        }
    };
    let left_out = left_out.split(' ').next().unwrap().parse::<usize>();
    // The line behind it is that of the first who came after all who were shown or left out.
    let next = server.log_line("");
    assert!(
        next.starts_with(&peers[shown + left_out.unwrap()]),
        "{next}"
    );
}

#[test]
fn garbage_in_mid_stream_is_answered_with_an_alert_and_what_came_before_it_is_echoed() {
    let garbage: [(&[u8], AlertDescription, &str); 2] = [
        // A record that nobody has encrypted.
        (
            &[&[23, 3, 3, 0, 64][..], &[0xAA; 64]].concat(),
            AlertDescription::BadRecordMac,
            "decrypt",
        ),
        // No record at all.
        (b"hello?", AlertDescription::DecodeError, "corrupt"),
    ];
    let identity = Identity::new();
    let server = identity.start();
    for (bytes, alert, words) in garbage {
        let mut client = identity.client(&server);
        echoed(&mut client, b"well-behaved so far");
        client.sock.write_all(bytes).unwrap();
        let error = client.read(&mut [0]).unwrap_err();
        let error = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        assert_eq!(error, Some(&Error::AlertReceived(alert)));
        assert!(server.log_line("went against TLS").contains(words));
    }
    echoed(&mut identity.client(&server), b"and the others");
}

#[test]
fn a_handshake_that_drips_in_is_cut_off_by_its_deadline() {
    const PASSES: [ErrorKind; 3] = [
        ErrorKind::WouldBlock,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
    ];
    let identity = Identity::new();
    let server = identity.start();
    let mut stream = tcp(&server);
    // The header of a ClientHello of 16 KiB, which then comes a byte at a time.
    stream
        .write_all(&[22, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xFC])
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let start = Instant::now();
    let mut said = [0; 64];
    let count = loop {
        assert!(start.elapsed() < LONG, "it goes on for ever");
        let _ = stream.write(&[0]);
        match stream.read(&mut said) {
            Ok(count) => break count,
            // That nothing comes for a moment; a process that was stopped for a while is
            // interrupted in it.
            Err(error) if PASSES.contains(&error.kind()) => {}
            Err(error) => panic!("{error}; the server says {:?}", server.end()),
        }
    };
    // RFC 8446, 5.1 and 6: an alert of two bytes, a warning, close_notify.
    assert_eq!(said[..count], [21, 3, 3, 0, 2, 1, 0]);
    server.log_line("no handshake in 10s");
}

#[test]
fn a_reader_who_does_not_read_takes_no_more_memory_than_the_marks_allow() {
    const MOST: usize = 256 << 20;
    const BOUND: u64 = 4 << 20;
    let identity = Identity::new();
    let server = identity.start();
    let client = identity.client(&server);
    let before = anonymous_bytes(server.pid());
    let (mut tls, mut socket) = client.into_parts();
    // Until nothing moves for a while: the buffers of the system between here and there are full
    // then, both ways. If it was only slow, less is asked of the server than could be.
    socket
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut sent = 0;
    let blocked = 'sending: loop {
        let piece: Vec<u8> = (sent..sent + 16_000).map(pattern).collect();
        tls.writer().write_all(&piece).unwrap();
        sent += piece.len();
        while tls.wants_write() {
            if let Err(error) = tls.write_tls(&mut socket) {
                break 'sending error.kind();
            }
        }
        assert!(sent < MOST, "it takes in more than it can answer");
    };
    assert!(matches!(
        blocked,
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    let grown = anonymous_bytes(server.pid()).saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes for {sent}");
    // Another is served meanwhile, and this one gets all of its own once it reads.
    part({
        let mut other = identity.client(&server);
        echoed(&mut other, b"not concerned");
        other
    });
    socket.set_write_timeout(Some(LONG)).unwrap();
    let mut duplex = Duplex::new(StreamOwned::new(tls, socket));
    duplex.finish();
    assert_eq!(duplex.received, sent);
}

/// The private, anonymous memory of a process in bytes (Linux: `RssAnon`); 0 where the system
/// doesn't tell.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.map_or(0, |kib| kib.parse::<u64>().unwrap() << 10)
}

#[test]
fn openssl_shakes_hands_is_echoed_and_parts_in_order() {
    if !Command::new("openssl")
        .arg("version")
        .output()
        .is_ok_and(|o| o.status.success())
    {
        println!("skipped: there is no openssl");
        return;
    }
    // With the certificate that it makes itself.
    let server = Example::start("tls_echo", &["127.0.0.1:0"]);
    let hint = server.log_line("try: openssl");
    let words: Vec<&str> = hint.split(' ').skip(2).collect();
    let mut client = Command::new("openssl")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    for said in ["one\n", "and another\n"] {
        stdin.write_all(said.as_bytes()).unwrap();
        let mut heard = String::new();
        stdout.read_line(&mut heard).unwrap();
        assert_eq!(heard, said);
    }
    drop(stdin);
    assert!(client.wait().unwrap().success());
    // Its FIN is seen behind its close_notify, or there would be a word about it.
    let other = tcp(&server);
    drop(other);
    let next = server.log_line("");
    assert!(next.contains("left during the handshake"), "{next}");
}

#[test]
fn a_client_of_an_older_tls_is_told_so_by_an_alert() {
    let identity = Identity::new();
    let server = identity.start();
    // A ClientHello of TLS 1.2: the version, 32 random bytes, no session, one cipher suite, no
    // compression, and two extensions, a group and a signature, without which there would be other
    // things to find fault with.
    let extensions = [&[0, 10, 0, 4, 0, 2, 0, 29][..], &[0, 13, 0, 4, 0, 2, 4, 3]].concat();
    let mut hello = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xC0, 0x2B, 1, 0]].concat();
    hello.extend([0, extensions.len() as u8]);
    hello.extend(&extensions);
    let handshake = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    let record = [&[22, 3, 1, 0, handshake.len() as u8][..], &handshake].concat();
    let mut stream = tcp(&server);
    stream.write_all(&record).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // RFC 8446, 6: fatal, protocol_version.
    assert_eq!(answer[answer.len() - 2..], [2, 70], "{answer:?}");
    server.log_line("no handshake");
}

#[test]
fn what_can_not_be_meant_exits_with_2_and_what_can_not_be_done_with_1() {
    let identity = Identity::new();
    let server = identity.start();
    let taken = server.address.to_string();
    let (cert, key) = (&identity.cert, &identity.key);
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let cases: [(&[&str], i32, &str); 7] = [
        (&["7743"], 2, "LISTEN is an address and a port"),
        (&["127.0.0.1:0", cert], 2, "CERT and KEY come together"),
        (
            &["127.0.0.1:0", cert, key, "x"],
            2,
            "CERT and KEY come together",
        ),
        (&["127.0.0.1:0", "nowhere.pem", key], 2, "nowhere.pem: "),
        (&["127.0.0.1:0", cert, cert], 2, "cert.pem: no"),
        (
            &["127.0.0.1:0", "/dev/null", key],
            2,
            "certificate can't be used",
        ),
        (&[&taken], 1, &taken),
    ];
    for (arguments, code, words) in cases {
        let output = command("tls_echo").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(
            said.starts_with("tls_echo: ") && said.contains(words),
            "{said}"
        );
        assert_eq!(code == 2, said.contains("usage: "), "{said}");
    }
}
