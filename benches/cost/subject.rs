//! What is measured: a server that echoes, and how a client talks to it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A server to be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `oread serve`.
    Serve,
    /// The example `tls_echo`.
    Tls,
}

/// Descriptors that an example needs for itself, generously.
const OTHERS: usize = 50;

/// A running server, perhaps under a tool.
pub(crate) struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    pub(crate) max_connections: usize,
    /// The certificate that its clients trust, if it speaks TLS.
    trust: Option<Arc<ClientConfig>>,
}

/// A client's side of a connection.
pub(crate) trait Client: Read + Write {}
impl<T: Read + Write> Client for T {}

impl Server {
    pub(crate) fn start(subject: Subject, tool: &[&str]) -> io::Result<Server> {
        match subject {
            Subject::Serve => Server::serve(tool),
            Subject::Tls => Server::tls_echo(tool),
        }
    }

    fn serve(tool: &[&str]) -> io::Result<Server> {
        let program = Path::new(env!("CARGO_BIN_EXE_oread"));
        let arguments = ["serve", "--tcp", "127.0.0.1:0", "--json", "-q"];
        let (child, mut output) = run(tool, program, arguments, Stdio::inherit())?;
        let mut address = None;
        let max_connections = loop {
            let event: serde_json::Value = serde_json::from_str(&line(&mut output)?)?;
            if let Some(text) = event["address"].as_str() {
                address = text.parse().ok();
            }
            if event["event"] == "ready" {
                break event["max_connections"].as_u64().unwrap_or(0) as usize;
            }
        };
        Ok(Server {
            child,
            output,
            address: address.ok_or_else(|| io::Error::other("the server told no address"))?,
            max_connections,
            trust: None,
        })
    }

    fn tls_echo(tool: &[&str]) -> io::Result<Server> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let (cert, key) = (temporary("cert.pem"), temporary("key.pem"));
        std::fs::write(&cert, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let program = example("tls_echo")?;
        // Its log would be about our clients, who leave without a goodbye.
        let arguments = ["127.0.0.1:0", &cert, &key];
        let (child, mut output) = run(tool, &program, arguments, Stdio::null())?;
        let said = line(&mut output)?;
        let address = said.split_whitespace().last().map(str::parse);
        let Some(Ok(address)) = address else {
            return Err(io::Error::other(format!("no address in {said:?}")));
        };
        // It has read them.
        std::fs::remove_file(&cert)?;
        std::fs::remove_file(&key)?;

        let mut roots = RootCertStore::empty();
        roots.add(made.cert.into()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let trust = trust.with_root_certificates(roots).with_no_client_auth();
        // It inherits our limit.
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(Server {
            child,
            output,
            address,
            max_connections: (limit as usize).saturating_sub(OTHERS),
            trust: Some(Arc::new(trust)),
        })
    }

    /// A connection to it. A handshake takes place with the first message.
    pub(crate) fn connect(&self) -> io::Result<Box<dyn Client>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let Some(trust) = &self.trust else {
            return Ok(Box::new(stream));
        };
        let name = "localhost".try_into().map_err(io::Error::other)?;
        let tls = ClientConnection::new(trust.clone(), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(tls, stream)))
    }

    /// Private, anonymous memory in bytes (Linux: `RssAnon`): the heap, without the program's text.
    pub(crate) fn anonymous_bytes(&self) -> io::Result<u64> {
        anonymous_bytes(self.child.id())
    }

    /// Ends it, in good order if it can, and waits. The signal goes to the server itself: a tool
    /// between passes none on.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let server = server_of(self.child.id());
        Command::new("kill")
            .args(["-TERM", &server.to_string()])
            .status()?;
        self.output.read_to_string(&mut String::new())?;
        self.child.wait()?;
        Ok(())
    }
}

/// Runs a program under a tool, with its standard output in hand.
fn run<'a>(
    tool: &[&str],
    program: &Path,
    arguments: impl IntoIterator<Item = &'a str>,
    log: Stdio,
) -> io::Result<(Child, BufReader<ChildStdout>)> {
    let mut words = tool.iter().map(Path::new).chain([program]);
    let first = words.next().unwrap_or(program);
    let mut child = Command::new(first)
        .args(words)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", first.display())))?;
    let stdout = child.stdout.take();
    let stdout = stdout.ok_or_else(|| io::Error::other("no stdout"))?;
    Ok((child, BufReader::new(stdout)))
}

/// A line of what the server says.
fn line(output: &mut BufReader<ChildStdout>) -> io::Result<String> {
    let mut line = String::new();
    match output.read_line(&mut line)? {
        0 => Err(io::Error::other("the server did not start")),
        _ => Ok(line),
    }
}

/// The program of an example: beside the folder of this one.
fn example(name: &str) -> io::Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let profile = bench.parent().and_then(Path::parent);
    let path = profile.unwrap_or(Path::new("")).join("examples").join(name);
    if path.exists() {
        return Ok(path);
    }
    let how = format!("build it by `cargo build --release --example {name}`");
    Err(io::Error::other(format!("{}: {how}", path.display())))
}

/// The server's process: the child itself, or the child of the tool.
fn server_of(child: u32) -> u32 {
    let path = format!("/proc/{child}/task/{child}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .next()
        .and_then(|id| id.parse().ok())
        .unwrap_or(child)
}

/// A file of this process's own.
pub(crate) fn temporary(name: &str) -> String {
    let file = format!("oread-{}-{name}", std::process::id());
    std::env::temp_dir()
        .join(file)
        .to_string_lossy()
        .into_owned()
}

/// Private, anonymous memory of a process in bytes (Linux: `RssAnon`): the heap, without the
/// program's text.
pub(crate) fn anonymous_bytes(id: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other("the system tells no RssAnon"))
}
