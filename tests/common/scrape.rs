//! Scrapes metrics over HTTP, as Prometheus does, and Prometheus itself where it is installed.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use crate::cli::{LONG, Watchdog, wait};

/// An answer: its head, and its body.
pub struct Answer {
    pub head: String,
    pub body: String,
}

/// The address in `http://ADDRESS/...`.
pub fn address(url: &str) -> &str {
    let (_, rest) = url.split_once("//").unwrap();
    rest.split('/').next().unwrap()
}

/// A connection to the server of `url`.
pub fn dial(url: &str) -> TcpStream {
    let stream = TcpStream::connect(address(url)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Reads one answer, whose length its head says.
pub fn hear(stream: &mut impl std::io::BufRead) -> Answer {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head:?}");
    }
    let length = field(&head, "content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    Answer { head, body }
}

/// A field of a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value)
}

/// Sends a request, and reads its answer.
pub fn ask(url: &str, request: &str) -> Answer {
    let mut stream = dial(url);
    stream.write_all(request.as_bytes()).unwrap();
    hear(&mut BufReader::new(stream))
}

/// What one scrape has told: each series as it is written, with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrape(pub BTreeMap<String, f64>);

impl Scrape {
    pub fn of(url: &str) -> Scrape {
        let answer = ask(url, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
        Scrape::parse(&answer.body)
    }

    pub fn parse(body: &str) -> Scrape {
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Scrape(series.collect())
    }

    /// The sum of a family's series whose labels have `part` in them.
    pub fn sum(&self, family: &str, part: &str) -> f64 {
        let of_family = |name: &str| name.split('{').next() == Some(family);
        let series = self.0.iter().filter(|(name, _)| of_family(name));
        let mut series = series.filter(|(name, _)| name.contains(part)).peekable();
        assert!(
            series.peek().is_some(),
            "no {family} with {part}: {self:#?}"
        );
        series.map(|(_, value)| value).sum()
    }

    /// The sum of all of a family's series.
    pub fn total(&self, family: &str) -> f64 {
        self.sum(family, "")
    }
}

/// Whether a program is installed; says so where it isn't.
pub fn has(program: &str) -> bool {
    let has = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let has = has.is_ok_and(|status| status.success());
    if !has {
        println!("skipped: {program} is not installed");
    }
    has
}

/// Has `promtool check metrics` read a page; it must have nothing to say.
pub fn lint(page: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// A Prometheus that scrapes one place twice a second.
pub struct Prometheus {
    child: Child,
    url: String,
    folder: PathBuf,
    _watchdog: Watchdog,
}

impl Prometheus {
    pub fn start(name: &str, target: &str) -> Prometheus {
        let name = format!("prometheus-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs: [{{job_name: oread, static_configs: [{{targets: ['{}']}}]}}]\n",
            address(target)
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let watchdog = Watchdog::of(&child);
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let at = log.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, at) = line.split_once("msg=\"Listening on\" address=")?;
            Some(at.split(' ').next().unwrap().to_owned())
        });
        let at = at.expect("it says where it listens");
        thread::spawn(move || log.for_each(drop));
        Prometheus {
            child,
            url: format!("http://{at}/"),
            folder,
            _watchdog: watchdog,
        }
    }

    /// What it has of a query, which has no blanks, once `is_there` finds it good.
    pub fn until(&self, query: &str, is_there: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + LONG;
        let path = format!("query?query={query}");
        loop {
            // Until it's ready it has other words.
            let all: Value = serde_json::from_str(&self.get(&path)).unwrap_or_default();
            let value = all["data"]["result"][0]["value"][1].as_str();
            if value.is_some_and(|value| is_there(value.parse().unwrap())) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{query}: {all}\n{}",
                self.targets()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it says of the place that it scrapes.
    pub fn targets(&self) -> String {
        self.get("targets")
    }

    /// What its interface has there. In HTTP/1.0 an answer ends with its connection.
    fn get(&self, path: &str) -> String {
        let mut stream = dial(&self.url);
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        wait(&mut self.child);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
