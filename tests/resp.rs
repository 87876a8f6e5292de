//! The example `resp`: its parser by itself, the whole server over sockets, and beside the real
//! Redis where that is installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/example.rs"]
mod example;
#[path = "../examples/resp.rs"]
#[allow(dead_code)]
mod resp;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use example::{Example, command};
use resp::{Progress, cut};

/// How long anything may take before a test gives up: much more than it does on the slowest
/// machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said to a server in one piece, and what it answers before it has nothing more to say.
/// All of it is Redis's own behaviour: a test says the same to both.
const CONVERSATIONS: &[(&[u8], &[u8])] = &[
    // Every command, in an array and inline, in any case.
    (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    (b"PING\r\nping\nPiNg  \r\n", b"+PONG\r\n+PONG\r\n+PONG\r\n"),
    (b"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n", b"$2\r\nhi\r\n"),
    (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"*2\r\n$4\r\nEcHo\r\n$4\r\n\r\n\0\xff\r\n", b"$4\r\n\r\n\0\xff\r\n"),
    (b"get none\r\nset k v\r\nget k\r\n", b"$-1\r\n+OK\r\n$1\r\nv\r\n"),
    (b"set k longer\r\nget k\r\nset k x\r\nget k\r\n", b"+OK\r\n$6\r\nlonger\r\n+OK\r\n$1\r\nx\r\n"),
    (b"set d1 1\r\nset d2 2\r\ndel d1 none d2 d1\r\nget d1\r\n", b"+OK\r\n+OK\r\n:2\r\n$-1\r\n"),
    (b"incr n\r\nincr n\r\nget n\r\ndel n\r\n", b":1\r\n:2\r\n$1\r\n2\r\n:1\r\n"),
    (b"set n -5\r\nincr n\r\nset n -1\r\nincr n\r\ndel n\r\n", b"+OK\r\n:-4\r\n+OK\r\n:0\r\n:1\r\n"),
    (b"set n -9223372036854775808\r\nincr n\r\ndel n\r\n", b"+OK\r\n:-9223372036854775807\r\n:1\r\n"),
    (b"ping\r\nquit\r\nping\r\n", b"+PONG\r\n+OK\r\n"),
    (b"QUIT now\r\n", b"+OK\r\n"),
    // What means nothing, and is passed over.
    (b"*0\r\n*-1\r\n*-5\r\n\r\n\n  \r\nping\r\n", b"+PONG\r\n"),
    (b"*1\rX$4\rXpingXXping\r\n", b"+PONG\r\n+PONG\r\n"),
    // What is not whole when the peer finishes.
    (b"ping\r\n*2\r\n$4\r\nECHO\r\n$2\r\nh", b"+PONG\r\n"),
    (b"*2147483647\r\n", b""),
    (b"*1\n$4\nPING\n", b""),
    // Commands that are wrong, after which all goes on.
    (b"FOO\r\nping\r\n", b"-ERR unknown command 'FOO', with args beginning with: \r\n+PONG\r\n"),
    (b"Foo a b\r\n", b"-ERR unknown command 'Foo', with args beginning with: 'a' 'b' \r\n"),
    (b"*2\r\n$3\r\nf\r\n\r\n$1\r\na\r\n", b"-ERR unknown command 'f  ', with args beginning with: 'a' \r\n"),
    (b"*1\r\n$0\r\n\r\n", b"-ERR unknown command '', with args beginning with: \r\n"),
    (b"ping a b\r\n", b"-ERR wrong number of arguments for 'ping' command\r\n"),
    (b"ECHO\r\n", b"-ERR wrong number of arguments for 'echo' command\r\n"),
    (b"get\r\nget a b\r\n", b"-ERR wrong number of arguments for 'get' command\r\n-ERR wrong number of arguments for 'get' command\r\n"),
    (b"SET a\r\n", b"-ERR wrong number of arguments for 'set' command\r\n"),
    (b"set a b c\r\nset a b c d e f\r\n", b"-ERR syntax error\r\n-ERR syntax error\r\n"),
    (b"del\r\n", b"-ERR wrong number of arguments for 'del' command\r\n"),
    (b"incr\r\nincr a b\r\n", b"-ERR wrong number of arguments for 'incr' command\r\n-ERR wrong number of arguments for 'incr' command\r\n"),
    (b"set n abc\r\nincr n\r\n", b"+OK\r\n-ERR value is not an integer or out of range\r\n"),
    (b"set n +1\r\nincr n\r\n", b"+OK\r\n-ERR value is not an integer or out of range\r\n"),
    (b"set n 01\r\nincr n\r\n", b"+OK\r\n-ERR value is not an integer or out of range\r\n"),
    (b"set n -0\r\nincr n\r\n", b"+OK\r\n-ERR value is not an integer or out of range\r\n"),
    (b"set n 9223372036854775808\r\nincr n\r\n", b"+OK\r\n-ERR value is not an integer or out of range\r\n"),
    (b"set n 9223372036854775807\r\nincr n\r\n", b"+OK\r\n-ERR increment or decrement would overflow\r\n"),
    // What can't be understood, and ends the connection: the PING is not answered.
    (b"*2147483648\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"ping\r\n*x\r\nPING\r\n", b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*01\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1111111111111111111111111111111111111111\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1\r\nPING\r\nPING\r\n", b"-ERR Protocol error: expected '$', got 'P'\r\n"),
    (b"*1\r\n\r\nPING\r\n", b"-ERR Protocol error: expected '$', got ' '\r\n"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    (b"*1\r\n$-1\r\nPING\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$04\r\nPING\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$\r\nPING\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$536870913\r\nPING\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    // HTTP, which a web page would send.
    (b"POST / HTTP/1.1\r\nping\r\n", b""),
    (b"Host: there\r\nping\r\n", b""),
];

fn server() -> Example {
    Example::start("resp", &["127.0.0.1:0"])
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Says `request`, finishes, and reads to the end.
fn converse(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut client = connect(address);
    client.write_all(request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer
}

/// Says `request`, and reads as many bytes as `answer` has.
#[track_caller]
fn expect(client: &mut TcpStream, request: &[u8], answer: &[u8]) {
    client.write_all(request).unwrap();
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == answer, "{:?} got {:?}", show(request), show(&got));
}

fn ping(client: &mut TcpStream) {
    expect(client, b"PING\r\n", b"+PONG\r\n");
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// A command as an array.
fn array(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).bytes());
        bytes.extend(*arg);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[test]
fn every_command_and_every_error_is_answered_in_redis_s_words() {
    let server = server();
    for (request, answer) in CONVERSATIONS {
        let got = converse(server.address, request);
        assert_eq!(show(&got), show(answer), "to {:?}", show(request));
    }
}

#[test]
fn what_comes_in_two_pieces_is_answered_like_what_comes_in_one() {
    let server = server();
    let mut other = connect(server.address);
    for (request, answer) in CONVERSATIONS {
        for at in 1..request.len() {
            let mut client = connect(server.address);
            ping(&mut client);
            client.write_all(&request[..at]).unwrap();
            // Who is ready first is read first: when this one is answered, the first piece has been
            // read alone.
            ping(&mut other);
            // Where that was enough to end the connection, the second piece is thrown away, and
            // destroys nothing.
            client.write_all(&request[at..]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            assert_eq!(
                show(&got),
                show(answer),
                "to {:?}, torn at {at}",
                show(request)
            );
        }
    }
}

#[test]
fn what_was_understood_of_a_command_is_not_read_again_before_it_is_whole() {
    let line = [b"PING ".repeat(1000), b"\r\n".to_vec()].concat();
    // And how much of each is not understood when one byte is missing: an argument with its line,
    // or one byte.
    let cases = [
        (array(&[b"key".as_slice(); 1000]), b"$3\r\nkey\r\n".len()),
        (
            array(&[b"SET", b"key", &[b'v'; 2000]]),
            b"$2000\r\n\r\n".len() + 2000,
        ),
        (line, 1),
    ];
    for (whole, rest) in cases {
        let mut known = Progress::default();
        for count in 1..whole.len() {
            // What comes before the place makes no sense any more, but for the mark of an array.
            let mut input = whole[..count].to_vec();
            let mark = usize::from(input[0] == b'*').min(known.at);
            input[mark..known.at].fill(0xff);
            let before = known.at;
            assert_eq!(cut(&input, &mut known, &mut Vec::new()), None);
            assert!(known.at >= before, "{known:?} after {before}");
        }
        assert_eq!(whole.len() - known.at, rest);
        let (mut torn, mut at_once) = (Vec::new(), Vec::new());
        for (progress, args) in [
            (&mut known, &mut torn),
            (&mut Progress::default(), &mut at_once),
        ] {
            assert_eq!(cut(&whole, progress, args), Some(Ok(whole.len())));
            assert_eq!(*progress, Progress::default(), "the next one starts anew");
        }
        assert_eq!(torn, at_once);
    }
}

#[test]
fn a_thousand_pipelined_commands_are_answered_in_their_order() {
    let server = server();
    let mut client = connect(server.address);
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    for i in 0..1000_u32 {
        let (key, value) = (format!("key{}", i % 7), format!("value{i}"));
        request.extend(array(&[b"SET", key.as_bytes(), value.as_bytes()]));
        request.extend(array(&[b"GET", key.as_bytes()]));
        answer.extend(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).bytes());
    }
    expect(&mut client, &request, &answer);
}

#[test]
fn a_value_of_many_reads_comes_back_whole() {
    let server = server();
    let mut client = connect(server.address);
    let value: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    expect(&mut client, &array(&[b"SET", b"large", &value]), b"+OK\r\n");
    let answer = [b"$1048576\r\n", value.as_slice(), b"\r\n"].concat();
    expect(&mut client, &array(&[b"GET", b"large"]), &answer);
    // One byte more is refused from its prefix.
    let mut answer = Vec::new();
    client
        .write_all(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
        .unwrap();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(
        show(&answer),
        "-ERR Protocol error: invalid bulk length\r\n"
    );
}

#[test]
fn a_line_and_a_command_without_an_end_are_cut_off() {
    let server = server();
    let mut client = connect(server.address);
    client.write_all(&[b'a'; (64 << 10) + 1]).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(
        show(&answer),
        "-ERR Protocol error: too big inline request\r\n"
    );

    let mut client = connect(server.address);
    client.write_all(b"*2000000000\r\n").unwrap();
    for _ in 0..3 << 10 {
        // 1 KiB of arguments.
        client.write_all(&b"$2\r\nhi\r\n".repeat(128)).unwrap();
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(show(&answer), "");
    ping(&mut connect(server.address));
}

#[test]
fn memory_that_is_full_is_said_to_be_and_what_is_deleted_makes_room() {
    let server = Example::start("resp", &["127.0.0.1:0", "1000"]);
    let mut client = connect(server.address);
    let out_of_memory = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    // 176 bytes are counted for each entry beside its key and value.
    let value = [b'v'; 400];
    expect(&mut client, &array(&[b"SET", b"a", &value]), b"+OK\r\n");
    expect(&mut client, &array(&[b"SET", b"b", &value]), out_of_memory);
    expect(
        &mut client,
        &array(&[b"SET", b"a", &[b'v'; 850]]),
        out_of_memory,
    );
    expect(
        &mut client,
        b"INCR n\r\nINCR m\r\nINCR o\r\n",
        &[b":1\r\n:1\r\n", &out_of_memory[..]].concat(),
    );
    expect(
        &mut client,
        b"INCR n\r\nGET b\r\nGET m\r\nDEL m\r\n",
        b":2\r\n$-1\r\n$1\r\n1\r\n:1\r\n",
    );
    expect(
        &mut client,
        b"SET a small\r\nINCR o\r\nDEL a n o\r\n",
        b"+OK\r\n:1\r\n:3\r\n",
    );
    // All is free again, and was counted right.
    for _ in 0..100 {
        expect(
            &mut client,
            &array(&[b"SET", b"b", &[b'v'; 823]]),
            b"+OK\r\n",
        );
        expect(&mut client, b"DEL b\r\n", b":1\r\n");
    }
    expect(
        &mut client,
        &array(&[b"SET", b"b", &[b'v'; 824]]),
        out_of_memory,
    );
    client.write_all(b"INFO\r\nQUIT\r\n").unwrap();
    let mut info = String::new();
    client.read_to_string(&mut info).unwrap();
    for field in [
        "\r\nused_memory:0\r\n",
        "connected_clients:1\r\n",
        "db0:keys=0\r\n",
    ] {
        assert!(info.contains(field), "{info}");
    }
}

#[test]
fn the_memory_that_is_counted_is_no_less_than_what_is_taken_and_a_table_that_is_empty_shrinks() {
    const ENTRIES: usize = 200_000;
    // What the measurement may be off by; the table of so many entries takes more than twice that.
    const SLACK: u64 = 4 << 20;
    let server = server();
    let taken = || memory(server.child.id(), "RssAnon:");
    let mut client = connect(server.address);
    ping(&mut client);
    let Some(before) = taken() else { return };
    // The smallest entries: of them most is not key and value.
    let mut all = |verb: &str, value: &str, answer: &[u8]| {
        for start in (0..ENTRIES).step_by(1000) {
            let keys = start..start + 1000;
            let request: String = keys.map(|n| format!("{verb} {n:x}{value}\r\n")).collect();
            expect(&mut client, request.as_bytes(), &answer.repeat(1000));
        }
        expect(&mut client, b"PING\r\n", b"+PONG\r\n");
    };
    all("SET", " 1", b"+OK\r\n");
    let full = taken().unwrap();
    // Five digits of a key or fewer, one of a value, and what is counted for each beside them.
    let counted = ENTRIES as u64 * (5 + 1 + 176);
    assert!(full < before + counted + SLACK, "{full} after {before}");
    all("DEL", "", b":1\r\n");
    let empty = taken().unwrap();
    assert!(empty + SLACK < full, "{empty} after {full}");
}

#[test]
fn a_client_that_asks_and_never_reads_is_not_answered_without_a_bound() {
    let server = server();
    let mut other = connect(server.address);
    let value = vec![b'v'; 1 << 20];
    expect(&mut other, &array(&[b"SET", b"k", &value]), b"+OK\r\n");
    let mut greedy = connect(server.address);
    greedy.set_nonblocking(true).unwrap();
    let requests = b"GET k\r\n".repeat(1000);
    let (mut asked, mut still) = (0, 0);
    while still < 50 {
        match greedy.write(&requests[asked % 7..]) {
            Ok(count) => (asked, still) = (asked + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => still += 1,
            Err(error) => panic!("{error}"),
        }
        // The server goes on with everybody else, and comes past the greedy one each time.
        ping(&mut other);
    }
    let answers = asked / 7;
    assert!(answers > 1000, "only {answers} requests were taken at all");
    if let Some(most) = memory(server.child.id(), "VmHWM:") {
        assert!(
            most < 64 << 20,
            "{most} bytes for {answers} answers of a MiB"
        );
    }
    // Once it reads, it's served on.
    greedy.set_nonblocking(false).unwrap();
    let answer = [b"$1048576\r\n", value.as_slice(), b"\r\n"].concat();
    for _ in 0..50 {
        expect(&mut greedy, b"", &answer);
    }
}

/// A figure of a process's memory, in bytes, where the system tells it (Linux: `VmHWM:`, the most
/// it has had; `RssAnon:`, what it has of its own).
fn memory(id: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Runs a program to its end, but not for ever.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let mut pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let errors = thread::spawn(move || {
        let mut stderr = Vec::new();
        pipes.1.read_to_end(&mut stderr).map(|_| stderr)
    });
    let reader = thread::spawn(move || {
        let mut stdout = Vec::new();
        pipes.0.read_to_end(&mut stdout).map(|_| stdout)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{program} {arguments:?} does not end");
        }
        thread::sleep(Duration::from_millis(2));
    };
    // It may have ended before it has read everything.
    let _ = writer.join().unwrap();
    Output {
        status,
        stdout: reader.join().unwrap().unwrap(),
        stderr: errors.join().unwrap().unwrap(),
    }
}

/// Whether a program is installed.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

#[test]
fn bad_arguments_exit_with_2_and_a_port_in_use_with_1() {
    let command = command("resp");
    let program = command.get_program().to_str().unwrap();
    for (arguments, words) in [
        (&["7779"][..], "\"7779\" is no address with a port"),
        (&["localhost:1"], "\"localhost:1\" is no address"),
        (&["127.0.0.1:0", "1mb"], "\"1mb\" is no number of bytes"),
        (&["127.0.0.1:0", "-1"], "\"-1\" is no number of bytes"),
        (&["127.0.0.1:0", "0"], "\"0\" is too few bytes"),
        (&["127.0.0.1:0", "176"], "\"176\" is too few bytes"),
        (&["127.0.0.1:0", "1000", "2"], "\"2\" is one argument too"),
        (&["--help"], "\"--help\" is no address"),
    ] {
        let output = run(program, arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = show(&output.stderr);
        assert!(said.starts_with(&format!("resp: {words}")), "{said}");
        assert!(said.contains("\nusage: resp "), "{said}");
        assert!(output.stdout.is_empty());
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(program, &[&address], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        show(&output.stderr).starts_with(&format!("resp: can't serve on {address}: ")),
        "{output:?}"
    );
}

#[test]
fn the_real_client_gets_along_with_it() {
    if !is_there("redis-cli") {
        return;
    }
    let server = server();
    let port = server.address.port().to_string();
    let cli = |arguments: &[&str], input: &[u8]| {
        let output = run("redis-cli", &[&["-p", &port], arguments].concat(), input);
        assert!(output.status.success(), "{output:?}");
        show(&output.stdout)
    };
    assert_eq!(cli(&["ping"], b""), "PONG\n");
    assert_eq!(cli(&["SET", "a key", "two\r\nlines"], b""), "OK\n");
    assert_eq!(
        cli(&["--no-raw", "GET", "a key"], b""),
        "\"two\\r\\nlines\"\n"
    );
    assert_eq!(cli(&["--no-raw", "GET", "none"], b""), "(nil)\n");
    assert_eq!(cli(&["--no-raw", "INCR", "n"], b""), "(integer) 1\n");
    assert_eq!(cli(&["-x", "SET", "stdin"], b"from a pipe"), "OK\n");
    assert_eq!(cli(&["GET", "stdin"], b""), "from a pipe\n");
    assert_eq!(cli(&["DEL", "stdin", "n", "none"], b""), "2\n");
    assert_eq!(cli(&["COMMAND"], b""), "\n");
    assert!(cli(&["INFO"], b"").contains("db0:keys=1"));
    assert_eq!(
        cli(&[], b"SET x 1\nINCR x\nNOSUCH x\n"),
        "OK\n2\nERR unknown command 'NOSUCH', with args beginning with: 'x' \n\n"
    );
    // Ten thousand commands in one go.
    let many: Vec<u8> = (0..10_000)
        .flat_map(|i| array(&[b"SET", format!("k{i}").as_bytes(), b"v"]))
        .collect();
    let said = cli(&["--pipe"], &many);
    assert!(said.contains("errors: 0, replies: 10000"), "{said}");
    assert!(cli(&["INFO"], b"").contains("db0:keys=10002"));
}

#[test]
fn the_real_benchmark_gets_its_answers() {
    if !is_there("redis-benchmark") {
        return;
    }
    let server = server();
    let port = server.address.port().to_string();
    for pipeline in ["1", "16"] {
        let words = [
            "-p",
            &port,
            "-t",
            "ping,set,get,incr",
            "-n",
            "5000",
            "-r",
            "100",
            "-c",
            "10",
            "-P",
            pipeline,
            "--csv",
        ];
        let output = run("redis-benchmark", &words, b"");
        assert!(output.status.success(), "{output:?}");
        let tests = String::from_utf8(output.stdout).unwrap();
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"] {
            assert!(tests.contains(&format!("\"{test}\",")), "{tests}");
        }
    }
}

/// The real server on a free port, without a file. It's ended by its id when it's dropped.
struct Redis {
    child: Child,
    address: SocketAddr,
    folder: std::path::PathBuf,
}

impl Redis {
    /// `None` where it's not installed.
    fn start() -> Option<Redis> {
        if !is_there("redis-server") {
            return None;
        }
        let folder = std::env::temp_dir().join(format!(
            "oread-redis-{}-{:?}",
            std::process::id(),
            thread::current().id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // It knows no port 0. Should somebody take this one before it does, it ends, and
            // another one is tried.
            let free = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let port = free.port().to_string();
            let child = Command::new("redis-server")
                .args([
                    "--bind",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--dir",
                ])
                .arg(&folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let mut redis = Redis {
                child,
                address: free,
                folder: folder.clone(),
            };
            while Instant::now() < deadline && redis.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(free).is_ok() {
                    return Some(redis);
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("redis-server does not start");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_real_server_answers_byte_for_byte_the_same() {
    let Some(redis) = Redis::start() else { return };
    for (request, answer) in CONVERSATIONS {
        let got = converse(redis.address, request);
        assert_eq!(show(&got), show(answer), "to {:?}", show(request));
    }
    // Long names and arguments are quoted only so far.
    let server = server();
    for (name, first, more) in [
        (127, 126, 1),
        (128, 1, 200),
        (129, 127, 2),
        (300, 200, 1),
        (5, 124, 0),
        (5, 125, 0),
        (5, 123, 9),
    ] {
        let (name, first, more) = (b"n".repeat(name), b"a".repeat(first), b"m".repeat(more));
        let request = array(&[&name, &first, &more, b"last"]);
        assert_eq!(
            show(&converse(server.address, &request)),
            show(&converse(redis.address, &request))
        );
    }
    // Out of memory, in the same words.
    let full = Example::start("resp", &["127.0.0.1:0", "177"]);
    assert_eq!(
        converse(redis.address, b"CONFIG SET maxmemory 1\r\n"),
        b"+OK\r\n"
    );
    for request in [
        &b"SET a b\r\n"[..],
        b"INCR n\r\n",
        b"GET a\r\n",
        b"DEL a\r\n",
        b"PING\r\n",
        b"ECHO hi\r\n",
    ] {
        assert_eq!(
            show(&converse(full.address, request)),
            show(&converse(redis.address, request))
        );
    }
}
