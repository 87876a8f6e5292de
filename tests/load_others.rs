//! `oread load` against servers that nobody here wrote: what it counts is what they count. A test
//! whose server is not installed says that it was skipped.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use load::Report;

const PATIENCE: Duration = Duration::from_secs(60);
/// The user that no file belongs to: some servers refuse to run as root.
const NOBODY: u32 = 65_534;

/// A server on a free port, with a folder of its own. It's ended when it's dropped.
struct Other {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Other {
    /// Starts `program` by what `command` makes of a port and a folder; `None` where it's not
    /// installed.
    fn start(program: &str, command: impl Fn(u16, &Path) -> Command) -> Option<Other> {
        let there = Command::new("sh")
            .args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")])
            .stdout(Stdio::null())
            .status();
        if !there.unwrap().success() {
            println!("skipped: there is no {program}");
            return None;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("oread-{program}-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Should somebody take this port before the server does, that ends, and another one is
            // tried.
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
            let port = free.unwrap().port();
            let mut command = command(port, &folder);
            let child = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut other = Other {
                child: child.spawn().unwrap(),
                port,
                folder: folder.clone(),
            };
            while Instant::now() < deadline && other.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(other);
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("{program} does not start");
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it answers to this, up to `end`.
    fn says(&self, question: &str, end: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(question.as_bytes()).unwrap();
        let (mut said, mut buffer) = (String::new(), [0; 4096]);
        while !said.ends_with(end) {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "it ended: {said}");
            said += std::str::from_utf8(&buffer[..len]).unwrap();
        }
        said
    }

    /// Lines with these words in one of its files, once there are so many.
    fn lines(&self, file: &str, words: &str, expected: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
            let count = text.lines().filter(|line| line.contains(words)).count() as u64;
            if count == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{count} lines, not {expected}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs a load, which must go well; and how many messages it has sent in all.
fn run(arguments: &[&str]) -> (Report, u64) {
    let report = Report::of(arguments);
    report.assert_balanced();
    assert_eq!(report.exit_code(), 0, "{}{}", report.value, report.log);
    let asked = report.messages("sent") + report.messages("unmeasured");
    (report, asked)
}

/// The number behind `name` in what a server says.
fn figure(said: &str, name: &str) -> u64 {
    let rest = said
        .split(name)
        .nth(1)
        .unwrap_or_else(|| panic!("no {name} in {said}"));
    let digits = rest
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next();
    digits.unwrap().parse().unwrap()
}

#[test]
fn redis_counts_the_commands_that_the_load_counts() {
    let Some(redis) = Other::start("redis-server", |port, folder| {
        let mut command = Command::new("redis-server");
        let port = port.to_string();
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port,
            "--dir",
        ]);
        command.arg(folder);
        command
    }) else {
        return;
    };
    let url = format!("redis://{}", redis.address());
    let stats = || redis.says("INFO commandstats\r\nPING\r\n", "+PONG\r\n");
    let (report, asked) = run(&[&url, "-c", "5", "-n", "2000", "--depth", "4"]);
    assert_eq!(report.messages("echoed"), 2000);
    // Its own answer is asked for before the PING behind it is counted.
    assert_eq!(figure(&stats(), "cmdstat_ping:calls="), asked);
    let get = ["--message", "GET key:{random:1000}\\r\\n"];
    let (_, asked) = run(&[&[&*url, "-c", "3", "-n", "500"], &get[..]].concat());
    assert_eq!(figure(&stats(), "cmdstat_get:calls="), asked);
    // What it refuses is no answer as expected.
    let report = Report::of(&[&url, "-c", "1", "-n", "9", "--message", "NONSENSE\\r\\n"]);
    assert_eq!(report.exit_code(), 5);
    assert_eq!(report.messages("mismatched"), 10);
    let shown = report.value["connections"]["corrupt_answer"].to_string();
    assert!(shown.contains("ERR unknown command"), "{shown}");
}

#[test]
fn nginx_logs_the_requests_that_the_load_counts_over_connections_that_it_ends() {
    let Some(nginx) = Other::start("nginx", |port, folder| {
        let folder = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log {folder}/access.log; keepalive_requests 100;\n\
             client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
             scgi_temp_path {folder}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"hello\\n\"; }}\n\
             location /gone {{ return 404; }} }} }}\n"
        );
        let file = format!("{folder}/nginx.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "PATH=$PATH:/usr/sbin exec nginx -e \"$0\" -c \"$1\""]);
        command.args([&format!("{folder}/error.log"), &file]);
        command
    }) else {
        return;
    };
    let url = format!("http://{}/here?a=1", nginx.address());
    let (report, asked) = run(&[&url, "-c", "4", "-n", "1500", "--expect", "hello"]);
    assert_eq!(report.messages("verified"), 1500);
    nginx.lines("access.log", "GET /here?a=1 HTTP/1.1\" 200", asked);
    // It ends a connection behind a hundred requests, and says so.
    assert!(report.connections("closed") >= 12, "{}", report.value);
    assert_eq!(
        (report.connections("lost"), report.messages("lost")),
        (0, 0)
    );
    let gone = format!("http://{}/gone", nginx.address());
    let report = Report::of(&[&gone, "-c", "2", "-n", "50"]);
    assert_eq!((report.exit_code(), report.messages("mismatched")), (5, 52));
    nginx.lines("access.log", "GET /gone HTTP/1.1\" 404", 52);
}

/// Writes a certificate for localhost that signs itself, and its key, to `cert.pem` and `key.pem`.
fn certify(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

impl Other {
    /// Loads it over TLS; how many messages were sent in all.
    fn load_over_tls(&self, scheme: &str, arguments: &[&str]) -> (Report, u64) {
        let target = format!("{scheme}://localhost:{}", self.port);
        let ca = self.folder.join("cert.pem");
        let tls = [&*target, "--tls-ca", ca.to_str().unwrap()];
        run(&[&tls[..], arguments].concat())
    }
}

#[test]
fn nginx_logs_the_requests_over_tls_and_which_sessions_were_resumed() {
    let Some(nginx) = Other::start("nginx", |port, folder| {
        certify(folder);
        let folder = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ log_format tls \"$request $ssl_protocol $ssl_session_reused $connection_requests|\";\n\
             access_log {folder}/access.log tls; ssl_session_cache shared:a:1m;\n\
             client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
             scgi_temp_path {folder}/scgi; ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;\n\
             server {{ listen 127.0.0.1:{port} ssl; location / {{ return 200 \"hello\\n\"; }} }} }}\n"
        );
        let file = format!("{folder}/nginx.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "PATH=$PATH:/usr/sbin exec nginx -e \"$0\" -c \"$1\""]);
        command.args([&format!("{folder}/error.log"), &file]);
        command
    }) else {
        return;
    };
    let often = ["-c", "4", "-n", "1500", "--expect", "hello"];
    let (report, asked) = nginx.load_over_tls("https", &often);
    assert_eq!(report.messages("verified"), 1500);
    assert_eq!(report.connections("full_handshakes"), 4);
    nginx.lines("access.log", "GET / HTTP/1.1 TLSv1.3 .", asked);
    // The first request of each connection.
    nginx.lines("access.log", "TLSv1.3 . 1|", 4);
    let once = ["-c", "1", "-n", "50", "--per-connection", "1"];
    let (report, asked) =
        nginx.load_over_tls("https", &[&once[..], &["--tls-resume", "on"]].concat());
    assert_eq!(asked, 50);
    let resumed = report.connections("resumed_handshakes");
    assert!(resumed >= 48, "{}", report.value);
    // Each has one request, but for one that the end came before.
    let idle = report.connections("established") - asked;
    nginx.lines("access.log", "TLSv1.3 r 1|", resumed - idle);
}

#[test]
fn socat_echoes_over_tls() {
    let Some(socat) = Other::start("socat", |port, folder| {
        certify(folder);
        let folder = folder.display();
        let mut command = Command::new("socat");
        command.arg(format!(
            "openssl-listen:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,\
             cert={folder}/cert.pem,key={folder}/key.pem"
        ));
        command.arg("EXEC:cat");
        command
    }) else {
        return;
    };
    for size in ["64", "1-20000"] {
        let (report, _) = socat.load_over_tls("tls", &["-c", "3", "-n", "300", "-s", size]);
        report.assert_all_is_well();
    }
}

#[test]
fn openssl_gives_each_line_the_wrong_way_round() {
    for version in ["-tls1_2", "-tls1_3"] {
        let Some(openssl) = Other::start("openssl", |port, folder| {
            certify(folder);
            let mut command = Command::new("openssl");
            command.args(["s_server", "-rev", "-quiet", version, "-accept"]);
            command.arg(format!("127.0.0.1:{port}"));
            command.args(["-cert", "cert.pem", "-key", "key.pem"]);
            command.current_dir(folder);
            command
        }) else {
            return;
        };
        let lines = [
            "-c",
            "1",
            "-n",
            "300",
            "--message",
            "hello\\n",
            "--answer",
            "lines",
        ];
        let expect = ["--expect", "olleh\\n"];
        let (report, _) = openssl.load_over_tls("tls", &[&lines[..], &expect].concat());
        assert_eq!(report.messages("verified"), 300);
    }
}

#[test]
fn memcached_counts_the_gets_that_the_load_counts() {
    let Some(memcached) = Other::start("memcached", |port, _| {
        let mut command = Command::new("memcached");
        command.args(["-l", "127.0.0.1", "-U", "0", "-u", "nobody", "-p"]);
        command.arg(port.to_string());
        command
    }) else {
        return;
    };
    assert_eq!(
        memcached.says("set a 0 0 3\r\nxyz\r\n", "\r\n"),
        "STORED\r\n"
    );
    let address = memcached.address();
    let get = [
        "--message",
        "get a\\r\\n",
        "--answer",
        "until:END\\r\\n",
        "--expect",
        "xyz",
    ];
    let (report, asked) = run(&[
        &[&*address, "-c", "4", "-n", "1000", "--depth", "3"],
        &get[..],
    ]
    .concat());
    assert_eq!(report.messages("verified"), 1000);
    let stats = memcached.says("stats\r\n", "END\r\n");
    assert_eq!(figure(&stats, "STAT cmd_get"), asked);
    assert_eq!(figure(&stats, "STAT get_hits"), asked);
}

#[test]
fn mosquitto_answers_each_ping_behind_a_login_of_each_connection() {
    let Some(mosquitto) = Other::start("mosquitto", |port, folder| {
        let file = folder.join("mosquitto.conf");
        let log = folder.join("log");
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type all\nlog_dest file {}\n",
            log.display()
        );
        fs::write(&file, config).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "PATH=$PATH:/usr/sbin exec mosquitto -c \"$0\""]);
        command.arg(file);
        command
    }) else {
        return;
    };
    let session = mosquitto.folder.join("session");
    let said = "# MQTT 3.1.1: a CONNECT and its CONNACK, then PINGREQ and PINGRESP.\n\
                answer fixed:4\n\
                send \\x10\\x0c\\x00\\x04MQTT\\x04\\x02\\x00\\x3c\\x00\\x00\n\
                expect \\x20\\x02\\x00\\x00\n\
                answer fixed:2\n\
                repeat\n\
                send \\xc0\\x00\n\
                expect \\xd0\\x00\n";
    fs::write(&session, said).unwrap();
    let (report, _) = run(&[
        &mosquitto.address(),
        "-c",
        "5",
        "-n",
        "500",
        "--session",
        session.to_str().unwrap(),
    ]);
    assert_eq!(
        (report.messages("verified"), report.messages("unmeasured")),
        (500, 5)
    );
    mosquitto.lines("log", "Received PINGREQ", 500);
}

#[test]
fn postgres_refuses_tls_by_one_byte_to_each_connection() {
    let is_root = nix::unistd::getuid().is_root();
    let as_nobody = move |command: &mut Command| {
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    let Some(postgres) = Other::start("postgres", |port, folder| {
        let data = folder.join("data");
        if is_root {
            std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        if !data.exists() {
            let mut command = Command::new("initdb");
            command
                .args(["-A", "trust", "-U", "oread", "-N", "-D"])
                .arg(&data);
            as_nobody(&mut command);
            let output = command.current_dir(folder).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let mut command = Command::new("postgres");
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "fsync=off", "-h", "127.0.0.1", "-p"]);
        command.arg(port.to_string()).arg("-k").arg(folder);
        as_nobody(&mut command);
        command.current_dir(folder);
        command
    }) else {
        return;
    };
    let ask = [
        "--message",
        "\\x00\\x00\\x00\\x08\\x04\\xd2\\x16\\x2f",
        "--answer",
        "fixed:1",
    ];
    let only = [
        "--expect",
        "N",
        "--per-connection",
        "1",
        "-c",
        "3",
        "-n",
        "30",
    ];
    let (report, _) = run(&[&[&*postgres.address()], &ask[..], &only[..]].concat());
    assert_eq!(
        (report.messages("verified"), report.messages("unmeasured")),
        (30, 0)
    );
    assert!(report.connections("established") >= 30);
}

#[test]
fn socat_echoes_over_tcp() {
    let Some(socat) = Other::start("socat", |port, _| {
        let mut command = Command::new("socat");
        command.arg(format!("TCP-LISTEN:{port},fork,reuseaddr,bind=127.0.0.1"));
        command.arg("PIPE");
        command
    }) else {
        return;
    };
    let (report, _) = run(&[&socat.address(), "-c", "3", "-n", "300"]);
    report.assert_all_is_well();
}
