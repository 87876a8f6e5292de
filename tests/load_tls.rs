//! `oread load` over TLS, against servers that count for themselves what they were asked, and
//! servers that do something wrong.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use load::cli::oread;
use load::{Report, tcp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

/// Who signs the certificates of a test, in a file of its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    roots: RootCertStore,
}

/// A file for a test, that no other has.
fn file(what: &str, text: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    let name = format!("load_tls-{}-{count}-{what}.pem", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Two of one name would be taken for each other.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        Authority {
            file: file("ca", &own.pem()),
            issuer: Issuer::new(params, key),
            roots,
        }
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// A certificate for this name and its key, after `change`.
    fn sign(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// How a server serves that shows such a certificate.
    fn serves(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let (cert, key) = self.sign(name, change);
        config(&BOTH, cert.der().clone(), &key)
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn config(
    versions: &[&'static SupportedProtocolVersion],
    cert: rustls::pki_types::CertificateDer<'static>,
    key: &KeyPair,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap()
}

/// What a server counts.
#[derive(Default)]
struct Books {
    full: AtomicU64,
    resumed: AtomicU64,
    bytes: AtomicU64,
    /// Ends with a goodbye, and without.
    goodbyes: AtomicU64,
    truncated: AtomicU64,
    named: AtomicU64,
}

impl Books {
    fn number(&self, of: impl Fn(&Books) -> &AtomicU64) -> u64 {
        of(self).load(Ordering::SeqCst)
    }

    /// Waits until that is counted.
    fn comes_to(&self, count: u64, of: impl Fn(&Books) -> &AtomicU64) {
        let deadline = std::time::Instant::now() + load::cli::LONG;
        while self.number(&of) != count {
            let now = self.number(&of);
            assert!(std::time::Instant::now() < deadline, "{now}, not {count}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// What a server does beside echoing.
#[derive(Clone, Copy, Debug, Default)]
struct Manners {
    /// Bytes of its records that it sends at a time; 0: all.
    cut: usize,
    /// Bytes of an answer in each record; 0: all.
    pieces: usize,
    /// Whether it takes new keys before each answer.
    rekeys: bool,
    /// Whether it sends something that is no record behind its answers.
    babbles: bool,
    /// Bytes after which it ends its connection, whether that's the first one alone, and whether
    /// with a goodbye, right behind its last answer.
    ends_after: u64,
    ends_one: bool,
    says_goodbye: bool,
}

/// A stream of which each write is cut into small ones.
struct Cut(TcpStream, usize);

impl Read for Cut {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let size = if self.1 == 0 { bytes.len() } else { self.1 };
        bytes
            .chunks(size)
            .try_for_each(|some| self.0.write_all(some))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An echo over TLS.
fn echo(config: ServerConfig, manners: Manners) -> (String, Arc<Books>) {
    let books = Arc::new(Books::default());
    let (kept, config) = (Arc::clone(&books), Arc::new(config));
    let address = tcp(move |stream, index| {
        let mut stream = Cut(stream, manners.cut);
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        while tls.is_handshaking() {
            if tls.complete_io(&mut stream).is_err() {
                return;
            }
        }
        match tls.handshake_kind().unwrap() {
            HandshakeKind::Resumed => books.resumed.fetch_add(1, Ordering::SeqCst),
            _ => books.full.fetch_add(1, Ordering::SeqCst),
        };
        books
            .named
            .fetch_add(tls.server_name().is_some().into(), Ordering::SeqCst);
        let (mut buffer, mut echoed) = (vec![0; 1 << 16], 0);
        loop {
            match rustls::Stream::new(&mut tls, &mut stream).read(&mut buffer) {
                Ok(0) => {
                    books.goodbyes.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Ok(len) => {
                    books.bytes.fetch_add(len as u64, Ordering::SeqCst);
                    echoed += len as u64;
                    if manners.rekeys {
                        tls.refresh_traffic_keys().unwrap();
                    }
                    let size = if manners.pieces == 0 {
                        len
                    } else {
                        manners.pieces
                    };
                    let pieces = buffer[..len].chunks(size);
                    let mut writer = tls.writer();
                    pieces.for_each(|some| writer.write_all(some).unwrap());
                    let is_last = manners.ends_after > 0
                        && echoed >= manners.ends_after
                        && (index == 0 || !manners.ends_one);
                    if is_last && manners.says_goodbye {
                        tls.send_close_notify();
                    }
                    while tls.wants_write() {
                        if tls.write_tls(&mut stream).is_err() {
                            return;
                        }
                    }
                    if is_last {
                        break;
                    }
                }
                Err(_) => {
                    books.truncated.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
        if manners.babbles {
            let _ = stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\n\r\n");
        }
        let _ = stream.0.shutdown(Shutdown::Write);
        // What comes meanwhile would make a reset of it.
        let _ = stream.0.read(&mut buffer);
    });
    (address, kept)
}

fn run(address: &str, arguments: &[&str]) -> Report {
    let target = format!("tls://{address}");
    Report::of(&[&[&*target], arguments].concat())
}

fn plain(_: &mut CertificateParams) {}

/// Port of an address.
fn named(address: &str, name: &str) -> String {
    format!("{name}:{}", address.rsplit(':').next().unwrap())
}

#[test]
fn an_echo_over_tls_is_counted_as_its_server_counts_it() {
    let authority = Authority::new();
    let (address, books) = echo(authority.serves("127.0.0.1", plain), Manners::default());
    let arguments = ["--tls-ca", authority.file(), "-c", "5", "-n", "400"];
    for (depth, size) in [("1", "64"), ("7", "1-3000")] {
        let [handshakes, bytes] = [books.number(|it| &it.full), books.number(|it| &it.bytes)];
        let report = run(
            &address,
            &[&arguments[..], &["--depth", depth, "-s", size]].concat(),
        );
        report.assert_all_is_well();
        assert_eq!(report.messages("echoed"), 400);
        assert_eq!(report.connections("full_handshakes"), 5);
        assert_eq!(report.connections("resumed_handshakes"), 0);
        assert_eq!(books.number(|it| &it.full) - handshakes, 5);
        assert_eq!(report.value["latency"]["handshake"]["count"], 5);
        assert!(report.ms("handshake", "max_ns") <= report.ms("first_echo", "max_ns"));
        let sent = report.number("bytes", "sent");
        let heard = books.number(|it| &it.bytes) - bytes;
        // Those that confirm a connection are no part of it.
        assert!(heard > sent && heard <= sent + 5 * 3000, "{heard}, {sent}");
        if size == "64" {
            assert_eq!(heard, 64 * 405);
        }
    }
    // A goodbye on each, at the end; and no name, for an address is none (RFC 6066, 3).
    books.comes_to(10, |it| &it.goodbyes);
    assert_eq!(books.number(|it| &it.truncated), 0);
    assert_eq!(books.number(|it| &it.named), 0);
}

#[test]
fn messages_longer_than_records_and_than_buffers_pass_whole() {
    let authority = Authority::new();
    let (address, books) = echo(authority.serves("127.0.0.1", plain), Manners::default());
    let ca = ["--tls-ca", authority.file()];
    for rest in [
        &["-c", "2", "-n", "40", "-s", "1MiB", "--depth", "16"][..],
        &["-c", "1", "-n", "60", "-s", "100k", "--depth", "20"],
        &["-c", "2", "-n", "60", "-s", "200k", "-R", "10k"],
        &[
            "-c",
            "2",
            "-n",
            "60",
            "-s",
            "1-70000",
            "--framing",
            "length:u32",
            "--depth",
            "3",
        ],
    ] {
        let report = run(&address, &[&ca[..], rest].concat());
        report.assert_all_is_well();
        assert_eq!(report.messages("echoed").to_string(), rest[3], "{rest:?}");
    }
    assert_eq!(books.number(|it| &it.truncated), 0);
}

#[test]
fn records_that_come_in_pieces_of_two_bytes_are_put_together() {
    let authority = Authority::new();
    let manners = Manners {
        cut: 2,
        ..Manners::default()
    };
    let (address, _) = echo(authority.serves("127.0.0.1", plain), manners);
    let arguments = [
        "--tls-ca",
        authority.file(),
        "-c",
        "2",
        "-n",
        "40",
        "-s",
        "1-500",
    ];
    run(&address, &arguments).assert_all_is_well();
    let lines = ["--framing", "lines", "--answer", "lines"];
    let report = run(&address, &[&arguments[..], &lines].concat());
    assert_eq!((report.exit_code(), report.messages("echoed")), (0, 40));
}

#[test]
fn sessions_are_resumed_where_that_is_asked_for_and_each_is_counted_by_both() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("127.0.0.1", plain);
    let ca = ["--tls-ca", authority.file(), "-c", "2", "-n", "200"];
    for (version, resume) in BOTH.iter().flat_map(|it| [(it, "off"), (it, "on")]) {
        let config = config(&[version], cert.der().clone(), &key);
        let (address, books) = echo(config, Manners::default());
        let resumes = ["--per-connection", "10", "--tls-resume", resume];
        let report = run(&address, &[&ca[..], &resumes].concat());
        assert_eq!(report.messages("echoed"), 200);
        let [full, resumed] =
            ["full_handshakes", "resumed_handshakes"].map(|name| report.connections(name));
        assert_eq!(full + resumed, report.connections("established"));
        match resume {
            "off" => assert_eq!(resumed, 0),
            // The first two have nothing to resume; with TLS 1.3 tickets may come late.
            _ => assert!((1..=4).contains(&full) && resumed >= 15, "{full} {resumed}"),
        }
        // The server may be done with a handshake that the run's end came before.
        let dialing = report.connections("dialing");
        let [theirs, again] = [books.number(|it| &it.full), books.number(|it| &it.resumed)];
        assert!(
            (full..=full + dialing).contains(&theirs),
            "{theirs}, {full}"
        );
        let most = resumed + dialing;
        assert!((resumed..=most).contains(&again), "{again}, {resumed}");
    }
}

#[test]
fn a_certificate_that_is_not_right_is_told_by_what_is_wrong_with_it() {
    let (ours, other) = (Authority::new(), Authority::new());
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    };
    let early = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
    };
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let own = config(&BOTH, own.cert.der().clone(), &own.signing_key);
    for (config, why) in [
        (ours.serves("127.0.0.1", expired), "certificate expired"),
        (ours.serves("127.0.0.1", early), "certificate not valid yet"),
        (
            ours.serves("127.0.0.2", plain),
            "certificate for another name",
        ),
        (other.serves("127.0.0.1", plain), "unknown issuer"),
        (own, "unknown issuer"),
    ] {
        let (address, books) = echo(config, Manners::default());
        let report = run(&address, &["--tls-ca", ours.file(), "-c", "3", "-n", "30"]);
        assert_eq!(report.exit_code(), 4, "{why}: {}", report.value);
        assert_eq!(
            report.error(&format!("TLS handshake: {why}")),
            3,
            "{} {}",
            report.value["connections"],
            report.log
        );
        assert_eq!(report.connections("failed"), 3);
        assert_eq!(report.connections("established"), 0);
        // Nobody looks.
        let report = run(&address, &["--insecure", "-c", "3", "-n", "30"]);
        report.assert_all_is_well();
        let unchecked = report.value["not_checked"].as_str().unwrap();
        assert!(unchecked.contains("--insecure"), "{unchecked}");
        assert_eq!(books.number(|it| &it.full), 3, "{why}");
    }
}

#[test]
fn a_certificate_that_stands_in_the_file_itself_is_taken_for_its_own_name_alone() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let path = file("own", &own.pem());
    let (address, _) = echo(config(&BOTH, own.der().clone(), &key), Manners::default());
    let ca = ["--tls-ca", path.to_str().unwrap(), "-c", "1", "-n", "10"];
    run(&named(&address, "localhost"), &ca).assert_all_is_well();
    let report = run(&address, &ca);
    assert_eq!(
        report.error("TLS handshake: certificate for another name"),
        1
    );
    let other = Authority::new();
    let report = run(
        &named(&address, "localhost"),
        &["--tls-ca", other.file(), "-c", "1", "-n", "1"],
    );
    assert_eq!(
        report.error("TLS handshake: self-signed certificate"),
        1,
        "{}",
        report.value
    );
}

#[test]
fn the_name_that_is_asked_for_is_the_targets_or_the_one_that_is_given() {
    let authority = Authority::new();
    let (address, books) = echo(authority.serves("example.org", plain), Manners::default());
    let ca = ["--tls-ca", authority.file(), "-c", "1", "-n", "10"];
    let report = run(&named(&address, "localhost"), &ca);
    assert_eq!(
        report.error("TLS handshake: certificate for another name"),
        1
    );
    run(
        &address,
        &[&ca[..], &["--tls-name", "example.org"]].concat(),
    )
    .assert_all_is_well();
    assert_eq!(books.number(|it| &it.named), 1);
}

#[test]
fn a_server_of_tls_1_2_alone_is_spoken_to_in_that() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("127.0.0.1", plain);
    let config = config(&[&rustls::version::TLS12], cert.der().clone(), &key);
    let (address, books) = echo(config, Manners::default());
    let report = run(
        &address,
        &[
            "--tls-ca",
            authority.file(),
            "-c",
            "2",
            "-n",
            "100",
            "--depth",
            "4",
        ],
    );
    report.assert_all_is_well();
    books.comes_to(2, |it| &it.goodbyes);
}

#[test]
fn a_server_that_asks_who_calls_is_shown_a_certificate() {
    let authority = Authority::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(authority.roots.clone()),
        Arc::clone(&provider),
    );
    let (cert, key) = authority.sign("127.0.0.1", plain);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (address, _) = echo(config, Manners::default());
    let (own, own_key) = authority.sign("somebody", plain);
    let [cert, key] = [
        file("cert", &own.pem()),
        file("key", &own_key.serialize_pem()),
    ];
    let ca = ["--tls-ca", authority.file(), "-c", "1", "-n", "10"];
    let shown = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    run(&address, &[&ca[..], &shown].concat()).assert_all_is_well();
    let report = run(&address, &ca);
    assert_eq!(report.connections("failed"), 1, "{}", report.value);
    // The key of another certificate is told beforehand.
    let (_, other) = authority.sign("somebody", plain);
    let other = file("other", &other.serialize_pem());
    let swapped = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        other.to_str().unwrap(),
    ];
    refused(
        &[&["tls://127.0.0.1:9"], &swapped[..]].concat(),
        "--tls-cert",
    );
}

/// An end, after two messages of 64 bytes on a connection, that is no orderly one unless there is a
/// goodbye.
#[test]
fn an_end_without_a_goodbye_is_told_from_one_with_it() {
    let authority = Authority::new();
    for (says_goodbye, name) in [
        (true, "closed by peer"),
        (false, "closed by peer without close_notify"),
    ] {
        let manners = Manners {
            ends_after: 128,
            says_goodbye,
            ..Manners::default()
        };
        let (address, _) = echo(authority.serves("127.0.0.1", plain), manners);
        let report = run(
            &address,
            &["--tls-ca", authority.file(), "-c", "2", "-n", "100"],
        );
        assert_eq!(report.exit_code(), 4);
        assert_eq!(report.error(name), 2, "{}", report.value);
        assert_eq!(report.connections("lost"), 2);
    }
}

#[test]
fn an_end_takes_nothing_along_that_is_another_connection_s() {
    let authority = Authority::new();
    let manners = Manners {
        ends_after: 64 * 5,
        ends_one: true,
        says_goodbye: true,
        ..Manners::default()
    };
    let (address, _) = echo(authority.serves("127.0.0.1", plain), manners);
    let arguments = ["--tls-ca", authority.file(), "-c", "4", "-n", "2000"];
    let report = run(&address, &arguments);
    assert_eq!(report.error("closed by peer"), 1, "{}", report.value);
    assert_eq!(report.errors().len(), 1, "{}", report.value);
    assert_eq!(report.messages("corrupt"), 0);
}

#[test]
fn answers_that_begin_and_end_in_the_midst_of_records_are_told_apart() {
    let authority = Authority::new();
    let manners = Manners {
        pieces: 7,
        ..Manners::default()
    };
    let (address, _) = echo(authority.serves("127.0.0.1", plain), manners);
    let ca = ["--tls-ca", authority.file(), "-c", "2", "-n", "300"];
    let lines = ["--message", "hello world\\n", "--answer", "lines"];
    let rest = ["--expect", "hello world\\n", "--depth", "5"];
    let report = run(&address, &[&ca[..], &lines, &rest].concat());
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    assert_eq!(report.messages("verified"), 300);
}

#[test]
fn keys_may_change_at_any_time() {
    let authority = Authority::new();
    let manners = Manners {
        rekeys: true,
        ..Manners::default()
    };
    let (address, _) = echo(authority.serves("127.0.0.1", plain), manners);
    let ca = ["--tls-ca", authority.file(), "-c", "2", "-n", "200"];
    run(&address, &[&ca[..], &["--depth", "3"]].concat()).assert_all_is_well();
}

#[test]
fn what_is_no_record_ends_its_connection_and_is_told() {
    let authority = Authority::new();
    let manners = Manners {
        babbles: true,
        ends_after: 128,
        ..Manners::default()
    };
    let (address, _) = echo(authority.serves("127.0.0.1", plain), manners);
    let arguments = ["--tls-ca", authority.file(), "-c", "2", "-n", "100"];
    let report = run(&address, &arguments);
    assert_eq!(report.error("TLS: not TLS"), 2, "{}", report.value);
    assert_eq!(report.connections("lost"), 2);
}

#[test]
fn targets_over_tls_and_without_it_are_loaded_by_one_run_on_several_threads() {
    let authority = Authority::new();
    let (address, books) = echo(authority.serves("127.0.0.1", plain), Manners::default());
    let other = tcp(|mut stream, _| {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..len]).is_err() {
                return;
            }
        }
    });
    let arguments = [
        "--tls-ca",
        authority.file(),
        "-c",
        "8",
        "-n",
        "400",
        "-t",
        "2",
    ];
    let report = run(&address, &[&[&*other], &arguments[..]].concat());
    report.assert_all_is_well();
    assert_eq!(report.connections("full_handshakes"), 4);
    assert_eq!(books.number(|it| &it.full), 4);
    let report = run(
        &address,
        &[&[&*other], &arguments[..], &["-R", "2k"]].concat(),
    );
    report.assert_all_is_well();
}

/// What a server that speaks no TLS, or does not to the end, says: its handshakes fail, and the
/// dial with them.
#[test]
fn a_handshake_that_comes_to_nothing_is_a_dial_that_failed() {
    let authority = Authority::new();
    let wait = |stream: &mut TcpStream| {
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello);
    };
    let garbage = tcp(move |mut stream, _| {
        wait(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        wait(&mut stream);
    });
    let closes = tcp(move |mut stream, _| {
        wait(&mut stream);
        let _ = stream.shutdown(Shutdown::Write);
        wait(&mut stream);
    });
    let echoes = tcp(|mut stream, _| {
        let mut hello = [0; 4096];
        let len = stream.read(&mut hello).unwrap();
        let _ = stream.write_all(&hello[..len]);
        let _ = stream.read(&mut hello);
    });
    // A record of an alert: it has no version in common (RFC 5246, 7.2.2).
    let old = tcp(move |mut stream, _| {
        wait(&mut stream);
        let _ = stream.write_all(&[21, 3, 1, 0, 2, 2, 70]);
        wait(&mut stream);
    });
    for (address, why) in [
        (&garbage, "not TLS"),
        (&closes, "closed by peer"),
        (&echoes, "unexpected message"),
        (&old, "protocol version"),
    ] {
        let report = run(
            address,
            &["--tls-ca", authority.file(), "-c", "3", "-n", "30"],
        );
        assert_eq!(
            report.error(&format!("TLS handshake: {why}")),
            3,
            "{} {}",
            report.value["connections"],
            report.log
        );
        assert_eq!(report.connections("failed"), 3);
        assert_eq!(report.connections("lost"), 0);
    }
}

#[test]
fn the_connect_timeout_covers_the_handshake() {
    let authority = Authority::new();
    // It accepts and never answers.
    let address = tcp(|mut stream, _| {
        let mut hello = [0; 4096];
        while stream.read(&mut hello).is_ok_and(|len| len > 0) {}
    });
    let timeout = ["--connect-timeout", "300ms", "-n", "30", "-c", "4"];
    let report = run(
        &address,
        &[&["--tls-ca", authority.file()], &timeout[..]].concat(),
    );
    assert_eq!(
        report.error("TLS handshake: connect timeout"),
        4,
        "{}",
        report.value
    );
    assert_eq!(report.connections("timed_out"), 4);
    assert_eq!(report.exit_code(), 4);
    // What is under way at the end is still being dialed.
    let short = ["--ramp-timeout", "200ms", "-d", "100ms", "-c", "4"];
    let report = run(
        &address,
        &[&["--tls-ca", authority.file()], &short[..]].concat(),
    );
    assert_eq!(report.connections("dialing"), 4, "{}", report.value);
}

/// Runs a load that is refused before anything is dialed.
fn refused(arguments: &[&str], words: &str) {
    let output = oread("load").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

#[test]
fn what_can_t_be_used_is_refused_before_anything_is_dialed() {
    let target = "tls://127.0.0.1:9";
    let text = file("text", "no certificate\n");
    let text = text.to_str().unwrap();
    refused(
        &[target, "--tls-ca", "/nowhere/ca.pem"],
        "/nowhere/ca.pem can't be used",
    );
    refused(&[target, "--tls-ca", text], "there is no certificate in it");
    refused(
        &[target, "--tls-name", "not a name"],
        "not a name of a server",
    );
    refused(
        &[target, "--insecure", "--tls-ca", text],
        "cannot be used with",
    );
    refused(&[target, "--insecure", "--tls-cert", text], "--tls-key");
    refused(
        &[target, "--insecure", "--tls-cert", text, "--tls-key", text],
        "there is no certificate in it",
    );
    refused(&["127.0.0.1:9", "--insecure"], "write the target as tls://");
    refused(
        &["--slo", "handshake.max<1s", "127.0.0.1:9"],
        "no target is over TLS",
    );
}

/// A server of HTTP that ends its connection, and says so, after so many answers.
#[test]
fn https_is_asked_as_http_is() {
    let authority = Authority::new();
    let config = authority.serves("localhost", plain);
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let address = tcp(move |mut stream, _| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut buffer = [0; 4096];
        for number in 0.. {
            let mut all = rustls::Stream::new(&mut tls, &mut stream);
            let Ok(len @ 1..) = all.read(&mut buffer) else {
                return;
            };
            heads
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(&buffer[..len]).into_owned());
            let end = if number == 9 {
                "Connection: close\r\n"
            } else {
                ""
            };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{end}\r\nhello");
            if all.write_all(answer.as_bytes()).is_err() {
                return;
            }
            if number == 9 {
                assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut buffer);
                return;
            }
        }
    });
    let port = address.rsplit(':').next().unwrap();
    let target = format!("https://localhost:{port}/a?b=c");
    let arguments = [
        "--tls-ca",
        authority.file(),
        "-c",
        "2",
        "-n",
        "60",
        "--expect",
        "hello",
    ];
    let report = Report::of(&[&[&*target], &arguments[..]].concat());
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    assert_eq!(report.messages("verified"), 60);
    assert!(report.errors().is_empty(), "{}", report.value);
    let heads = kept.lock().unwrap();
    let asked = report.messages("sent") + report.messages("unmeasured");
    assert_eq!(heads.len() as u64, asked);
    let begins = format!("GET /a?b=c HTTP/1.1\r\nHost: localhost:{port}\r\n");
    assert!(
        heads.iter().all(|head| head.starts_with(&begins)),
        "{heads:?}"
    );
}
