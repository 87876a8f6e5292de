//! The example `proxy` from outside: what must go through it unchanged, and what it must hold back.
//! The example itself is run, between sockets of std.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/example.rs"]
mod example;

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, connect, loopback, reset};
use example::{Example, command};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt,
};

/// By how much the proxy's memory may grow for one client: each direction keeps the high-water mark
/// and a read, 128 KiB, in a buffer with up to twice the room, and some are kept for use again.
/// What a proxy without backpressure would hold is of another order, the megabytes that these tests
/// send.
const MEMORY: u64 = 1 << 20;

/// A running proxy.
struct Proxy {
    example: Example,
}

impl Proxy {
    fn to(upstream: SocketAddr) -> Proxy {
        let mut command = command("proxy");
        command.args(["127.0.0.1:0".to_owned(), upstream.to_string()]);
        Proxy::run(&mut command)
    }

    fn run(command: &mut Command) -> Proxy {
        Proxy {
            example: Example::run(command),
        }
    }

    fn connect(&self) -> TcpStream {
        connect(self.example.address)
    }

    /// A client that is reset as soon as it's accepted, and its name. Where the reset comes before
    /// `connect` looks, that gives it.
    fn call_in_vain(&self) -> (String, io::Result<TcpStream>) {
        let inet = AddressFamily::Inet;
        let socket = socket::socket(inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(any_port)).unwrap();
        let proxy = SockaddrStorage::from(self.example.address);
        let connected = socket::connect(socket.as_raw_fd(), &proxy);
        let client = TcpStream::from(socket);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = client.local_addr().unwrap().to_string();
        (
            name,
            connected.map_or_else(|error| Err(error.into()), |()| Ok(client)),
        )
    }

    /// A client, and its connection at the upstream.
    fn pair(&self, upstream: &TcpListener) -> (TcpStream, TcpStream) {
        let client = self.connect();
        (client, accept(upstream))
    }

    /// Asserts that the next line of its log has all of `words`.
    fn assert_logs(&self, words: &[&str]) {
        let line = self
            .example
            .log
            .recv_timeout(PATIENCE)
            .expect("no line in the log");
        for word in words {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
    }

    /// Ends it, and asserts that it has logged nothing more.
    fn end(self) {
        let rest = self.example.end();
        assert!(rest.is_empty(), "logged {rest:?}");
    }

    /// Its private, anonymous memory in bytes.
    fn memory(&self) -> u64 {
        memory(self.example.child.id())
    }

    /// How many descriptors it has.
    fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.example.child.id());
        fs::read_dir(path).unwrap().count()
    }
}

fn memory(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

fn listen() -> TcpListener {
    TcpListener::bind(loopback()).unwrap()
}

/// The next connection of a listener, with a bound on every blocking call.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection comes", || listener.accept().ok()).0;
    prepare(&stream);
    stream
}

fn prepare(stream: &TcpStream) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Asks again and again until there's an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// An address that refuses: its port is taken, and nobody listens. It stays so while the descriptor
/// is open.
fn refusing() -> (OwnedFd, SocketAddr) {
    let none = None::<socket::SockProtocol>;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, none).unwrap();
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(loopback())).unwrap();
    let address: SockaddrStorage = socket::getsockname(fd.as_raw_fd()).unwrap();
    let port = address.as_sockaddr_in().unwrap().port();
    (fd, ([127, 0, 0, 1], port).into())
}

/// A listener whose backlog is full, so that a handshake with it goes on until somebody is
/// accepted; and who fills it.
fn silent() -> (TcpListener, TcpStream) {
    let listener = listen();
    // To listen once more changes the backlog. Linux takes one more than that.
    socket::listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let filler = connect(listener.local_addr().unwrap());
    (listener, filler)
}

/// Whether somebody is dialing this port, and has no answer yet.
fn is_dialed(address: SocketAddr) -> bool {
    const SYN_SENT: &str = "02";
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace());
    lines.any(|mut words| {
        words.nth(2).is_some_and(|remote| remote.ends_with(&port)) && words.next() == Some(SYN_SENT)
    })
}

/// Bytes without a pattern. Their number is a prime, so that no piece of a stream that repeats them
/// looks like another.
fn noise(mut seed: u64) -> Vec<u8> {
    (0..999_983)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        })
        .collect()
}

/// Sends `total` bytes, `block` again and again, and then the end.
fn send(stream: &TcpStream, block: &[u8], total: usize) {
    try_send(stream, block, total, |_| {}).unwrap();
}

/// The same where it may fail; `progress` is told after each piece how much has gone.
fn try_send(
    mut stream: &TcpStream,
    block: &[u8],
    total: usize,
    mut progress: impl FnMut(usize),
) -> io::Result<()> {
    let mut count = 0;
    while count < total {
        let rest = &block[count % block.len()..];
        let piece = rest.len().min(64 << 10).min(total - count);
        stream.write_all(&rest[..piece])?;
        count += piece;
        progress(count);
    }
    stream.shutdown(Shutdown::Write)
}

/// Receives what [`send`] sends, byte for byte, to the end; `progress` is told after each piece how
/// much has come.
fn receive(mut stream: &TcpStream, block: &[u8], total: usize, mut progress: impl FnMut(usize)) {
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0;
    loop {
        let piece = stream.read(&mut buffer).unwrap();
        if piece == 0 {
            break;
        }
        let start = count % block.len();
        let first = piece.min(block.len() - start);
        assert!(buffer[..first] == block[start..start + first], "at {count}");
        assert!(buffer[first..piece] == block[..piece - first], "at {count}");
        count += piece;
        progress(count);
    }
    assert_eq!(count, total, "the end came at another place");
}

fn receive_all(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map(|_| bytes)
}

fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 10]).map_err(|error| error.kind());
    assert_eq!(error, Err(ErrorKind::ConnectionReset));
}

/// Asserts that a client was reset, whichever of its calls found out.
fn assert_turned_away(client: io::Result<TcpStream>) {
    match client {
        Ok(client) => assert_reset(&client),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Sends something from each end to the other: then the pair is there for good.
fn greet(mut client: &TcpStream, mut upstream: &TcpStream) {
    let mut bytes = [0; 5];
    client.write_all(b"hello").unwrap();
    upstream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    upstream.write_all(b"world").unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"world");
}

/// Echoes whatever comes from each connection, until the last of `count` has ended.
fn echo(listener: TcpListener, count: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let callers: Vec<_> = (0..count)
            .map(|_| {
                let stream = accept(&listener);
                thread::spawn(move || io::copy(&mut &stream, &mut &stream).map(|_| ()))
            })
            .collect();
        // A test that has failed leaves them in the middle.
        callers.into_iter().for_each(|c| drop(c.join().unwrap()));
    })
}

#[test]
fn a_hundred_megabytes_each_way_at_once_arrive_whole_while_one_side_is_slow_and_memory_stays_flat()
{
    const TOTAL: usize = 100 << 20;
    let listener = listen();
    // What the slow side's kernel takes in its stead is not what is tested.
    socket::setsockopt(&listener, sockopt::RcvBuf, &(64 << 10)).unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let (client, upstream) = proxy.pair(&listener);
    greet(&client, &upstream);
    let id = proxy.example.child.id();
    let before = memory(id);
    let (up, down) = (noise(1), noise(2));

    // The upstream takes half a megabyte for each megabyte that it has got rid of: nobody's clock
    // says how slow it is.
    let (permit, permitted) = mpsc::channel();
    let most = thread::scope(|scope| {
        scope.spawn(|| send(&client, &up, TOTAL));
        scope.spawn(|| send(&upstream, &down, TOTAL));
        let client_reads = scope.spawn(|| {
            let (mut most, mut next) = (0, 0);
            receive(&client, &down, TOTAL, |count| {
                if count > next {
                    next += 1 << 20;
                    most = most.max(memory(id));
                    permit.send(()).unwrap();
                }
            });
            drop(permit);
            most
        });
        let (mut most, mut next) = (0, 0);
        receive(&upstream, &up, TOTAL, |count| {
            if count > next {
                next += 512 << 10;
                most = most.max(memory(id));
                // When the client has all, the upstream is slow no more.
                let _ = permitted.recv_timeout(PATIENCE);
            }
        });
        most.max(client_reads.join().unwrap())
    });
    assert!(most < before + MEMORY, "{most} bytes, before that {before}");
}

/// A proxy that doesn't read from a client because the client doesn't would lock both ends up.
#[test]
fn a_client_that_sends_all_before_it_reads_gets_what_came_meanwhile() {
    const TOTAL: usize = 20 << 20;
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let (client, upstream) = proxy.pair(&listener);
    let (up, down) = (noise(3), noise(4));
    thread::scope(|scope| {
        scope.spawn(|| send(&upstream, &down, TOTAL));
        scope.spawn(|| receive(&upstream, &up, TOTAL, |_| {}));
        send(&client, &up, TOTAL);
        receive(&client, &down, TOTAL, |_| {});
    });
}

#[test]
fn a_client_that_has_finished_still_gets_the_whole_answer() {
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let (client, upstream) = proxy.pair(&listener);
    send(&client, b"question", 8);
    assert_eq!(receive_all(&upstream).unwrap(), b"question");
    let answer = noise(5);
    thread::scope(|scope| {
        scope.spawn(|| send(&upstream, &answer, 5_000_000));
        receive(&client, &answer, 5_000_000, |_| {});
    });
}

#[test]
fn an_upstream_that_has_finished_still_gets_all_that_the_client_says() {
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let open = proxy.descriptors();
    let (client, upstream) = proxy.pair(&listener);
    send(&upstream, b"greeting", 8);
    assert_eq!(receive_all(&client).unwrap(), b"greeting");
    let words = noise(6);
    thread::scope(|scope| {
        scope.spawn(|| send(&client, &words, 5_000_000));
        receive(&upstream, &words, 5_000_000, |_| {});
    });
    until("both connections are closed", || {
        (proxy.descriptors() == open).then_some(())
    });
    proxy.end();
}

#[test]
fn a_refused_upstream_is_a_reset_for_the_client_and_a_line_in_the_log() {
    let (_reserved, upstream) = refusing();
    let proxy = Proxy::to(upstream);
    for _ in 0..3 {
        let (name, client) = proxy.call_in_vain();
        assert_turned_away(client);
        proxy.assert_logs(&[&name, &upstream.to_string(), "refused"]);
    }
    proxy.end();
}

#[test]
fn an_upstream_that_never_accepts_is_given_up_at_a_deadline() {
    let (listener, _filler) = silent();
    let upstream = listener.local_addr().unwrap();
    let proxy = Proxy::to(upstream);
    let client = proxy.connect();
    (&client).write_all(b"anybody there?").unwrap();
    assert_reset(&client);
    let name = client.local_addr().unwrap().to_string();
    proxy.assert_logs(&[&name, &upstream.to_string(), "timed out"]);
    assert!(!is_dialed(upstream));
}

#[test]
fn what_a_client_sends_before_the_upstream_is_there_waits_in_bounded_memory_and_arrives() {
    let bytes = noise(7);
    // Where the machine stands still for seconds, the dial runs into its deadline: then once more.
    let arrived = (0..10).any(|_| send_before_the_upstream_is_there(&bytes, 40 << 20));
    assert!(arrived);
}

/// Whether the upstream was there in time, and then got all.
fn send_before_the_upstream_is_there(bytes: &[u8], total: usize) -> bool {
    let (listener, _filler) = silent();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::to(address);
    let before = proxy.memory();
    let client = proxy.connect();
    until("the proxy dials", || is_dialed(address).then_some(()));
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let progress = |count| sent.store(count, Ordering::Relaxed);
            try_send(&client, bytes, total, progress)
        });
        // Until the client is held back: two hundred looks at it find it where it was.
        let (mut last, mut looks) = (0, 0);
        while looks < 200 && !sender.is_finished() {
            assert!(proxy.memory() < before + MEMORY);
            let now = sent.load(Ordering::Relaxed);
            looks = if now == last && now > 0 { looks + 1 } else { 0 };
            last = now;
        }
        assert!(last < total, "a proxy without an upstream took all");
        drop(accept(&listener));
        let upstream = until("the upstream is there, or given up", || {
            let stream = listener.accept().ok().map(|(stream, _)| Some(stream));
            stream.or_else(|| proxy.example.log.try_recv().ok().map(|_| None))
        });
        let Some(upstream) = upstream else {
            client.shutdown(Shutdown::Both).unwrap();
            return false;
        };
        prepare(&upstream);
        receive(&upstream, bytes, total, |_| {
            assert!(proxy.memory() < before + MEMORY);
        });
        sender.join().unwrap().unwrap();
        true
    })
}

#[test]
fn a_client_that_leaves_before_the_upstream_is_there_takes_the_dial_with_it() {
    let (listener, _filler) = silent();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::to(address);
    let open = proxy.descriptors();
    let client = proxy.connect();
    until("the proxy dials", || is_dialed(address).then_some(()));
    reset(client);
    until("the dial is given up", || {
        (!is_dialed(address) && proxy.descriptors() == open).then_some(())
    });
    proxy.assert_logs(&["reset by the peer", &address.to_string()]);
    proxy.end();
}

#[test]
fn a_reset_on_either_side_is_a_reset_on_the_other() {
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let open = proxy.descriptors();
    for who in ["client", "upstream"] {
        let (client, upstream) = proxy.pair(&listener);
        greet(&client, &upstream);
        let (leaves, stays) = match who {
            "client" => (client, upstream),
            _ => (upstream, client),
        };
        reset(leaves);
        assert_reset(&stays);
        proxy.assert_logs(&["reset by the peer"]);
    }
    until("all is closed", || {
        (proxy.descriptors() == open).then_some(())
    });
    proxy.end();
}

/// A server that answers early, closes, and resets because the rest of the question still comes.
#[test]
fn an_answer_that_is_whole_is_not_lost_by_a_reset_behind_it() {
    const ANSWER: usize = 60_000;
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let client = narrow_client(proxy.example.address);
    let upstream = accept(&listener);
    greet(&client, &upstream);
    let open = proxy.descriptors();
    let answer = noise(8);
    send(&upstream, &answer, ANSWER);
    reset(upstream);
    // The client has hardly read anything yet: most of the answer is still in the proxy, or its
    // system.
    until("the upstream's connection is closed", || {
        (proxy.descriptors() < open).then_some(())
    });
    receive(&client, &answer, ANSWER, |_| {});
}

/// A client that has little room for what it doesn't read.
fn narrow_client(address: SocketAddr) -> TcpStream {
    let none = None::<socket::SockProtocol>;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, none).unwrap();
    // Before it connects: the window that it announces follows from it.
    socket::setsockopt(&fd, sockopt::RcvBuf, &1024).unwrap();
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    let client = TcpStream::from(fd);
    prepare(&client);
    client
}

#[test]
fn a_client_that_has_finished_and_then_resets_leaves_nothing_behind() {
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let open = proxy.descriptors();
    let (client, upstream) = proxy.pair(&listener);
    greet(&client, &upstream);
    send(&client, b"question", 8);
    assert_eq!(receive_all(&upstream).unwrap(), b"question");
    // The upstream thinks it over, and writes nothing by which the reset would be found out.
    reset(client);
    until("both connections are closed", || {
        (proxy.descriptors() == open).then_some(())
    });
}

#[test]
fn a_hundred_clients_at_once_are_not_mixed_up() {
    const CLIENTS: usize = 100;
    let listener = listen();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let open = proxy.descriptors();
    let upstream = echo(listener, CLIENTS);
    let clients: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    let words = noise(9);
    thread::scope(|scope| {
        for (client, own) in clients.iter().zip(words.windows(50_000).step_by(997)) {
            scope.spawn(|| exchange(client, own));
        }
    });
    drop(clients);
    upstream.join().unwrap();
    until("all is closed", || {
        (proxy.descriptors() == open).then_some(())
    });
    proxy.end();
}

/// Sends pieces of all sizes, and expects each to come back.
fn exchange(mut client: &TcpStream, words: &[u8]) {
    let mut back = vec![0; words.len()];
    for size in [1, 5, 64, 4_096, 16_384, 16_385, 50_000] {
        let size = size.min(words.len());
        client.write_all(&words[..size]).unwrap();
        client.read_exact(&mut back[..size]).unwrap();
        assert!(
            back[..size] == words[..size],
            "{size} bytes come back changed"
        );
    }
}

/// It has descriptors for five clients, and one more: the sixth is accepted, but there's none for
/// its upstream.
#[test]
fn out_of_descriptors_it_cuts_clients_off_and_goes_on() {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let (own, limit) = descriptors_and_limit(&Proxy::to(address), 11);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
        .arg(command("proxy").get_program())
        .args(["127.0.0.1:0", &address.to_string()]);
    let proxy = Proxy::run(&mut limited);
    let is_left_with = |count| (proxy.descriptors() == own + count).then_some(());
    let upstream = echo(listener, 6);

    let mut served: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    let others: Vec<_> = (0..3).map(|_| proxy.call_in_vain()).collect();
    for client in &served {
        exchange(client, b"hello");
    }
    proxy.assert_logs(&[&others[0].0, "open files"]);
    proxy.assert_logs(&["can't accept for now", "raise the limit with `ulimit -n`"]);
    for (_, client) in others {
        // Each is accepted when the one before has gone.
        assert_turned_away(client);
    }
    until("those who were turned away are gone", || is_left_with(10));
    served.pop();
    until("there is room for another", || is_left_with(8));
    exchange(&proxy.connect(), b"hello");
    drop((served, proxy));
    upstream.join().unwrap();
}

/// How many descriptors a proxy has that has just started, as this one has, and the limit with
/// which it can open so many more. Whoever runs the tests may have left it some of his own.
fn descriptors_and_limit(proxy: &Proxy, more: usize) -> (usize, usize) {
    let path = format!("/proc/{}/fd", proxy.example.child.id());
    let entries = fs::read_dir(path).unwrap();
    let open: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut free = (0_usize..).filter(|number| !open.contains(&number.to_string()));
    (open.len(), free.nth(more - 1).unwrap() + 1)
}

#[test]
fn arguments_that_cannot_be_meant_are_told_and_end_with_exit_code_2() {
    let cases: [(&[&str], &str); 13] = [
        (&[], "two arguments"),
        (&["127.0.0.1:0"], "two arguments"),
        (&["127.0.0.1:0", "127.0.0.1:9", "x"], "two arguments"),
        (&["localhost", "127.0.0.1:9"], "\"localhost\""),
        (
            &["127.0.0.1:0", "127.0.0.1:0"],
            "needs an address and a port",
        ),
        (&["127.0.0.1:0", "0.0.0.0:9"], "needs an address and a port"),
        (&["127.0.0.1:9", "127.0.0.1:9"], "call itself"),
        (&["127.0.0.1:9", "[::ffff:127.0.0.1]:9"], "call itself"),
        (&["0.0.0.0:9", "127.0.0.1:9"], "call itself"),
        (&["0.0.0.0:9", "127.0.0.2:9"], "call itself"),
        (&["[::]:9", "127.0.0.1:9"], "call itself"),
        (&["[::]:9", "[::1]:9"], "call itself"),
        (&["[::1]:9", "[::1]:9"], "call itself"),
    ];
    for (arguments, words) in cases {
        assert_fails(arguments, 2, words);
        assert_fails(arguments, 2, "\nusage: proxy LISTEN UPSTREAM\n");
    }
}

#[test]
fn an_upstream_on_the_same_port_is_called_where_it_is_not_the_proxy_itself() {
    let taken = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let example = Example::start(
        "proxy",
        &[&format!("127.0.0.3:{port}"), &format!("127.0.0.2:{port}")],
    );
    let client = connect(example.address);
    greet(&client, &accept(&taken));
}

#[test]
fn a_flood_of_lines_for_the_log_is_cut_to_a_few_and_the_others_are_counted() {
    let (_reserved, upstream) = refusing();
    let proxy = Proxy::to(upstream);
    // One after the other: the log has them in this order.
    let (mut clients, mut shown) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    let left_out = loop {
        assert!(Instant::now() < deadline, "{shown} lines");
        let (name, client) = proxy.call_in_vain();
        clients.push(name);
        assert_turned_away(client);
        match proxy.example.log.try_recv() {
            Ok(line) if line.ends_with(" lines were left out") => break line,
            Ok(_) => shown += 1,
            Err(_) => {}
        }
    };
    let left_out = left_out.split(' ').nth(1).unwrap().parse::<usize>();
    // The line behind it is that of the first who came after all who were shown or left out.
    proxy.assert_logs(&[&format!(" {} ", clients[shown + left_out.unwrap()])]);
}

#[test]
fn an_address_that_cannot_be_listened_on_ends_it_with_exit_code_1() {
    let listener = listen();
    let taken = listener.local_addr().unwrap().to_string();
    assert_fails(&[&taken, "127.0.0.1:9"], 1, &taken);
}

fn assert_fails(arguments: &[&str], code: i32, words: &str) {
    let output = command("proxy").args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty());
}
