//! The echo over TLS 1.3: each session is a `rustls` connection, which writes its records into the
//! connection that it's on.
//!
//! `cargo run --example tls_echo -- [LISTEN [CERT KEY]]`: LISTEN is 127.0.0.1:7743 unless said
//! otherwise. CERT and KEY are PEM files; without them a certificate for `localhost` is made at
//! each start, which no client trusts by itself. It says how to talk to it (s_client takes a line
//! that begins with Q for the end). A client that knows only TLS 1.2 is refused with an alert:
//! rustls has it behind its feature `tls12`.
//!
//! What TLS costs: a message of 64 bytes takes 4,520 instructions where the plain echo takes some
//! 190, and 2.02 system calls like that one; an idle connection takes 7.7 kB where that takes 80
//! bytes. (On x86-64, with AES-256-GCM by AES-NI and AVX:
//! `cargo build --release --example tls_echo`, then `cargo bench --bench cost -- tls`, and without
//! `-- tls` for the other.)

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oread::{
    Accepted, Address, CloseReason, Connection, ConnectionId as Id, Context, Handler, Keepalive,
    ListenOptions, Output, Pressure, Reactor,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{Error, ServerConfig, ServerConnection};

const DEFAULT: &str = "127.0.0.1:7743";
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Lines of the log in a second: every peer may cause some. The next line tells how many were left
/// out.
const LINES: u32 = 10;
/// Why we close on a peer that went against TLS; how it did is logged.
const NOT_TLS: CloseReason = CloseReason::Other(1);

struct TlsEcho {
    config: Arc<ServerConfig>,
    /// Where bytes lie between rustls's reader and its writer: one for all, because no callback
    /// runs inside another.
    plain: Box<[u8]>,
    /// When the second of the last log line began, and how many lines it has had.
    second: Instant,
    lines: u32,
}

struct Caller {
    tls: ServerConnection,
    /// Kept, because a socket forgets it at a reset, just when it's wanted for the log.
    peer: Address,
}

/// Boxed: rustls's part is over a kilobyte, and the table of connections moves its slots when it
/// grows.
type Session = Box<Caller>;

impl Caller {
    /// Takes in as much of `data` as may be answered now, and answers it; how much, or `None` when
    /// the peer has said goodbye (`close_notify`).
    ///
    /// What is left under pressure comes again when the output has drained. rustls itself holds no
    /// more than a record that isn't whole yet: each round takes in a few kilobytes, and puts all
    /// that follows from them into the output.
    ///
    /// rustls has an unbuffered interface too. That one decrypts in place, and of a handshake
    /// message in several records it wants to see again what it has decrypted; `on_data` lends its
    /// input to be read only.
    fn answer(
        &mut self,
        mut data: &[u8],
        output: &mut Output<'_>,
        plain: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        // Neither fails as long as rustls's own buffers are emptied at once, as they are here.
        let full = |error: io::Error| Error::General(error.to_string());
        let all = data.len();
        while !data.is_empty() && output.pressure() == Pressure::Low {
            self.tls.read_tls(&mut data).map_err(full)?;
            let state = self.tls.process_new_packets();
            self.send(output);
            // What came whole before an error is answered like the rest.
            while let Ok(count @ 1..) = self.tls.reader().read(plain) {
                let mut writer = self.tls.writer();
                writer.write_all(&plain[..count]).map_err(full)?;
                self.send(output);
            }
            if state?.peer_has_closed() {
                return Ok(None);
            }
        }
        Ok(Some(all - data.len()))
    }

    /// Puts the records that rustls has ready into the output, which takes all, or fails when the
    /// connection is broken.
    fn send(&mut self, output: &mut Output<'_>) {
        while self.tls.wants_write() && self.tls.write_tls(output).is_ok() {}
    }
}

/// Says goodbye, unless rustls has prepared an alert that says more: an end without either looks
/// like an attack.
fn goodbye(connection: &mut Connection<'_, Session>) {
    let (caller, mut output) = connection.split();
    caller.tls.send_close_notify();
    caller.send(&mut output);
}

impl TlsEcho {
    /// Closes on a peer that went against TLS. A close lingers, where a reset would destroy the
    /// alert.
    fn give_up(&mut self, connection: &mut Connection<'_, Session>, why: &str) {
        self.log(&connection.session().peer, why);
        goodbye(connection);
        connection.close(NOT_TLS);
    }

    /// A line on standard error. It blocks once that is full because nobody reads it, and with it
    /// the server: one that must go on has a thread for its log, as `oread serve` has.
    fn log(&mut self, peer: &Address, what: &str) {
        // Not `eprintln!`, which panics when standard error is gone.
        if self.second.elapsed() >= Duration::from_secs(1) {
            let left_out = self.lines.saturating_sub(LINES);
            (self.second, self.lines) = (Instant::now(), 0);
            if left_out > 0 {
                let _ = writeln!(io::stderr(), "{left_out} lines were left out");
            }
        }
        self.lines += 1;
        if self.lines <= LINES {
            let _ = writeln!(io::stderr(), "{peer}: {what}");
        }
    }
}

impl Handler for TlsEcho {
    type Session = Session;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Session>, from: &Accepted) -> Option<Session> {
        let (tls, peer) = (ServerConnection::new(self.config.clone()), &from.peer);
        let tls = tls.map_err(|error| self.log(peer, &error.to_string()));
        let (tls, peer) = (tls.ok()?, peer.clone());
        Some(Box::new(Caller { tls, peer }))
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Session>) {
        connection.timer(HANDSHAKE);
    }

    /// An idle timeout would not do for a handshake: a byte now and then would put it off for ever.
    fn on_timer(&mut self, context: &mut Context<'_, Session>, key: u64) {
        // It may have closed long ago: then its id finds nobody, and this timer was all that was
        // left of it.
        if let Some(mut connection) = context.connection(Id::from_bits(key))
            && connection.is_open()
            && connection.session().tls.is_handshaking()
        {
            self.give_up(&mut connection, &format!("no handshake in {HANDSHAKE:?}"));
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Session>, data: &[u8]) -> usize {
        let (caller, mut output) = connection.split();
        let early = caller.tls.is_handshaking();
        match caller.answer(data, &mut output, &mut self.plain) {
            Ok(Some(count)) => return count,
            Ok(None) => {
                // All that it sent is answered. What comes behind is to be ignored (RFC 8446, 6.1).
                goodbye(connection);
                connection.close(CloseReason::Finished);
            }
            Err(why) if early => self.give_up(connection, &format!("no handshake, no TLS? {why}")),
            Err(why) => self.give_up(connection, &format!("went against TLS: {why}")),
        }
        data.len()
    }

    /// Comes only where no close_notify came before.
    fn on_eof(&mut self, connection: &mut Connection<'_, Session>, _: &[u8]) {
        let why = match connection.session().tls.is_handshaking() {
            true => "left during the handshake",
            false => "truncated: it ended without close_notify",
        };
        self.give_up(connection, why);
    }

    fn on_close(&mut self, _: &mut Context<'_, Session>, _: Id, caller: Session, why: CloseReason) {
        // Otherwise there is nothing to tell, or it has been told.
        if !matches!(why, CloseReason::Finished | NOT_TLS) {
            self.log(&caller.peer, &why.to_string());
        }
    }
}

/// As whom to serve: by the two files, or by a certificate that is made here.
fn identity(files: &[OsString]) -> Result<ServerConfig, String> {
    let (chain, key) = match files {
        [] => {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
            let made = made.map_err(|error| format!("no certificate could be made: {error}"))?;
            (vec![made.cert.into()], made.signing_key.into())
        }
        [cert, key] => {
            let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
            let chain = chain.map_err(|error| format!("{}: {error}", cert.display()))?;
            let secret = PrivateKeyDer::from_pem_file(key);
            let secret = secret.map_err(|error| format!("{}: {error}", key.display()))?;
            (chain, secret)
        }
        _ => return Err("CERT and KEY come together, and last".to_owned()),
    };
    // The provider is named, for rustls would look for a global one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| format!("the certificate can't be used: {error}"))
}

fn serve(listen: SocketAddr, config: ServerConfig) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let mut options = ListenOptions::new(listen);
    // A peer that has vanished is noticed; one that is only silent may stay.
    options.keepalive = Some(Keepalive::default());
    let mut context = reactor.context();
    let listener = context.listen(&options)?;
    let address = context.listener_addr(listener).unwrap_or(listen.into());
    writeln!(io::stdout(), "listening on {address}")?;
    let hint = "try: openssl s_client -quiet -no_ign_eof -connect";
    let _ = writeln!(io::stderr(), "{hint} {address}");
    let mut echo = TlsEcho {
        config: Arc::new(config),
        plain: vec![0; 16 << 10].into(),
        second: Instant::now(),
        lines: 0,
    };
    reactor.run(&mut echo).map(|_| ())
}

fn run(words: &[OsString]) -> Result<(), (i32, String)> {
    let misused = |why: String| (2, why + "\nusage: tls_echo [LISTEN [CERT KEY]]");
    let listen = words.get(1).map_or(Some(DEFAULT), |word| word.to_str());
    let listen = listen.and_then(|word| word.parse().ok());
    let wrong = || misused(format!("LISTEN is an address and a port, as in {DEFAULT}"));
    let listen: SocketAddr = listen.ok_or_else(wrong)?;
    let config = identity(words.get(2..).unwrap_or_default()).map_err(misused)?;
    serve(listen, config).map_err(|error| (1, format!("can't serve on {listen}: {error}")))
}

fn main() {
    if let Err((code, why)) = run(&std::env::args_os().collect::<Vec<_>>()) {
        eprintln!("tls_echo: {why}");
        std::process::exit(code);
    }
}
