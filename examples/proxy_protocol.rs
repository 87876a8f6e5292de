//! The PROXY protocol in front of any handler: a load balancer says in a header where each
//! connection really comes from, and the handler behind sees that, and the bytes after it.
//!
//! Run it with `cargo run --example proxy_protocol 127.0.0.1:7777 --trust 127.0.0.0/8`, and talk to
//! it with `printf 'PROXY TCP4 192.0.2.1 127.0.0.1 5555 7777\r\nhello\n' | nc 127.0.0.1 7777`: it
//! tells each caller where it takes them to come from, and echoes. `--trust` may come several
//! times; `--trust unix` trusts whoever calls at a Unix socket (LISTEN is `unix:PATH` then).
//!
//! [`Proxied`] is the adaptor, for a program of yours to copy. What it keeps to:
//!
//! - *Only who is trusted is believed*: anybody could write a header. From others none is looked
//!   for. They are the handler's own callers, or refused (`--refuse-others`).
//! - *The header comes first, and whole.* Whatever else a trusted peer sends is reset, for to serve
//!   it would be to serve it under the balancer's name. So is one whose header doesn't come.
//! - *The handler behind is not to notice.* It's told of a connection when the header is there, and
//!   of none whose header never comes. What came behind the header in the same segment is shown at
//!   once: perhaps nothing else ever comes.
//! - *Nothing is allocated* for a connection whose header has come in one read.
//!
//! The handler behind learns where a connection comes from in `on_accept`, and only there:
//! `Connection::peer_addr` asks the system, which knows the balancer. `Accepted::local_addr` is
//! where the header says that the connection went to, and `Accepted::fd` says `NotConnected`. A
//! header's further fields (TLVs) are passed over. To limits per source all callers are the
//! balancer: its listener is to be without them (`ListenOptions::per_source`).

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use oread::{
    Accepted, Address, CloseReason, Connection, ConnectionId, Context, Datagram, Handler,
    ListenOptions, ListenerId, Owner, Part, Reactor, Readiness, SourceId, TimerId, UdpId,
};

/// How long a trusted peer may take for its header, from its connecting. It sends that before
/// anything else, in one segment: the time is for the segment to be lost, and sent again.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest header of version 1, by the protocol.
const LONGEST_TEXT: usize = 107;
/// The longest header of version 2 that is taken; the protocol allows 64 KiB. That's room for a
/// client's certificate, and what the reactor keeps for a connection when memory is short.
/// `max_input` must be more.
const LONGEST: usize = 4096;
/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A handler behind a reader of PROXY headers.
pub(crate) struct Proxied<H> {
    pub(crate) inner: H,
    pub(crate) trust: Trust,
    /// Whether who isn't trusted is refused, and not the inner handler's own caller.
    pub(crate) refuse_others: bool,
}

/// Who is believed.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    pub(crate) networks: Vec<Network>,
    /// Whoever calls at a Unix socket, and has no address.
    pub(crate) unix: bool,
}

impl Trust {
    fn covers(&self, peer: &Address) -> bool {
        match peer.socket_addr() {
            Some(peer) => self.networks.iter().any(|it| it.contains(peer.ip())),
            None => self.unix,
        }
    }
}

/// All addresses that begin with the first `length` bits of `ip`.
#[derive(Debug)]
pub(crate) struct Network {
    ip: IpAddr,
    length: u32,
}

impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        let bits = |ip| match ip {
            IpAddr::V4(ip) => u128::from(Ipv4Addr::to_bits(ip)) << 96,
            IpAddr::V6(ip) => Ipv6Addr::to_bits(ip),
        };
        let same = (bits(self.ip) ^ bits(ip)).leading_zeros();
        self.ip.is_ipv4() == ip.is_ipv4() && same >= self.length
    }
}

/// As in `10.0.0.0/8`, or one address.
impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || format!("{text:?} is no network, such as 10.0.0.0/8, and no address");
        let (ip, length) = text.split_once('/').unzip();
        let ip: IpAddr = ip.unwrap_or(text).parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if length > most {
            return Err(wrong());
        }
        Ok(Network { ip, length })
    }
}

/// What a connection keeps.
pub(crate) enum Session<P> {
    /// Its header is still to come, within the time that the timer measures.
    Waiting {
        listener: ListenerId,
        /// Whose that is, for it may be closed when the header comes.
        owner: Owner,
        peer: Address,
        timer: Option<TimerId>,
    },
    /// It's the inner handler's.
    Inner(P),
}

impl<P> Session<P> {
    fn inner(&self) -> Option<&P> {
        match self {
            Session::Waiting { .. } => None,
            Session::Inner(inner) => Some(inner),
        }
    }

    fn inner_mut(&mut self) -> Option<&mut P> {
        match self {
            Session::Waiting { .. } => None,
            Session::Inner(inner) => Some(inner),
        }
    }
}

impl<H: Handler> Proxied<H> {
    const INNER: Part<Session<H::Session>, H::Session> =
        Part::new(1, Session::Inner, Session::inner, Session::inner_mut);

    /// Lends `call` the inner handler and its view of the reactor: the way to what it has to begin
    /// with, such as its timers.
    pub(crate) fn with_inner<R>(
        &mut self,
        context: &mut Context<'_, Session<H::Session>>,
        call: impl FnOnce(&mut H, &mut Context<'_, H::Session>) -> R,
    ) -> R {
        context.part(&Self::INNER, |context| call(&mut self.inner, context))
    }

    /// Lends `call` the inner handler and one of its connections; it's not called for a connection
    /// that isn't yet.
    fn show<R>(
        &mut self,
        connection: &mut Connection<'_, Session<H::Session>>,
        call: impl FnOnce(&mut H, &mut Connection<'_, H::Session>) -> R,
    ) -> Option<R> {
        connection.part(&Self::INNER, |part| call(&mut self.inner, part))
    }

    /// Gives a connection, whose header has come, to the inner handler. False: that refuses it.
    fn hand_over(
        &mut self,
        connection: &mut Connection<'_, Session<H::Session>>,
        told: Option<Told>,
    ) -> bool {
        let Session::Waiting {
            listener,
            owner,
            peer,
            timer,
        } = connection.session()
        else {
            return true;
        };
        let (listener, owner, timer) = (*listener, *owner, *timer);
        let caller = match (told, connection.local_addr()) {
            (Some(told), _) => Accepted::new(listener, told.from).at(told.to),
            (None, Ok(local)) => Accepted::new(listener, peer.clone()).at(local),
            (None, Err(_)) => Accepted::new(listener, peer.clone()),
        };
        let context = connection.context();
        timer.map(|timer| context.cancel(timer));
        let session = context.about(owner, |context| {
            self.with_inner(context, |inner, context| inner.on_accept(context, &caller))
        });
        let taken = session.is_some();
        if let Some(session) = session {
            *connection.session_mut() = Session::Inner(session);
            self.show(connection, H::on_open);
        }
        taken
    }
}

/// Ends a connection whose header is not there. The log tells whose fault that is: a balancer that
/// isn't told to send one, most likely.
fn turn_away<P>(connection: &mut Connection<'_, Session<P>>, why: &str) {
    if let Session::Waiting { peer, .. } = connection.session() {
        log::warn!("{peer}, which is trusted, is reset: {why}");
    }
    connection.abort(CloseReason::Aborted);
}

/// All is passed through but for what comes before and with the header: `on_accept`, `on_open`,
/// `on_data`, and the end of a connection that waits for it.
#[warn(clippy::missing_trait_methods)]
impl<H: Handler> Handler for Proxied<H> {
    type Session = Session<H::Session>;
    type Message = H::Message;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        caller: &Accepted,
    ) -> Option<Self::Session> {
        if self.trust.covers(&caller.peer) {
            return Some(Session::Waiting {
                listener: caller.listener,
                owner: context.owner(),
                peer: caller.peer.clone(),
                timer: None,
            });
        }
        if self.refuse_others {
            return None;
        }
        self.with_inner(context, |inner, context| inner.on_accept(context, caller))
            .map(Session::Inner)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Self::Session>) {
        if self.show(connection, H::on_open).is_none() {
            let set = connection.timer(PATIENCE);
            if let Session::Waiting { timer, .. } = connection.session_mut() {
                *timer = Some(set);
            }
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Self::Session>, data: &[u8]) -> usize {
        let shown = self.show(connection, |inner, part| inner.on_data(part, data));
        if let Some(consumed) = shown {
            return consumed;
        }
        let (length, told) = match header(data) {
            Ok(Some(header)) => header,
            Ok(None) => return 0, // it comes again, with what comes next
            Err(Malformed) => {
                turn_away(connection, "what it sent is no PROXY header");
                return data.len();
            }
        };
        if !self.hand_over(connection, told) {
            connection.abort(CloseReason::Aborted);
            return data.len();
        }
        let rest = &data[length..];
        if rest.is_empty() || !connection.is_open() {
            return length;
        }
        // The inner handler may have paused it, or written so much that it's not read now. Then the
        // rest comes by itself when that is over.
        if connection.is_paused() || connection.pressure() != oread::Pressure::Low {
            connection.again();
            return length;
        }
        let shown = self.show(connection, |inner, part| inner.on_data(part, rest));
        length + shown.unwrap_or(0)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Self::Session>, rest: &[u8]) {
        let shown = self.show(connection, |inner, part| inner.on_eof(part, rest));
        if shown.is_none() {
            turn_away(connection, "it has finished without a PROXY header");
        }
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, Self::Session>) {
        self.show(connection, H::on_drained);
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, Self::Session>, reason: CloseReason) {
        self.show(connection, |inner, part| inner.on_closing(part, reason));
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        id: ConnectionId,
        session: Self::Session,
        reason: CloseReason,
    ) {
        match session {
            Session::Waiting { timer, .. } => _ = timer.map(|timer| context.cancel(timer)),
            Session::Inner(session) => self.with_inner(context, |inner, context| {
                inner.on_close(context, id, session, reason);
            }),
        }
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        id: ConnectionId,
        session: Self::Session,
        error: io::Error,
    ) {
        // Only the inner handler dials.
        if let Session::Inner(session) = session {
            self.with_inner(context, |inner, context| {
                inner.on_connect_failed(context, id, session, error);
            });
        }
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, Self::Session>, data: &[u8]) {
        datagram.part(&Self::INNER, |part| self.inner.on_datagram(part, data));
    }

    fn on_datagram_error(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        socket: UdpId,
        error: io::Error,
    ) {
        self.with_inner(context, |inner, context| {
            inner.on_datagram_error(context, socket, error);
        });
    }

    fn on_datagram_writable(&mut self, context: &mut Context<'_, Self::Session>, socket: UdpId) {
        self.with_inner(context, |inner, context| {
            inner.on_datagram_writable(context, socket);
        });
    }

    fn on_timer(&mut self, context: &mut Context<'_, Self::Session>, key: u64) {
        if context.owner().part() != 0 {
            self.with_inner(context, |inner, context| inner.on_timer(context, key));
        } else if let Some(mut connection) = context.connection(ConnectionId::from_bits(key))
            && let Session::Waiting { .. } = connection.session()
        {
            turn_away(&mut connection, "its PROXY header has not come");
        }
    }

    fn on_message(&mut self, context: &mut Context<'_, Self::Session>, message: Self::Message) {
        self.with_inner(context, |inner, context| inner.on_message(context, message));
    }

    fn on_ready(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        source: SourceId,
        readiness: Readiness,
    ) {
        self.with_inner(context, |inner, context| {
            inner.on_ready(context, source, readiness);
        });
    }
}

/// It isn't a header, and what else comes doesn't make it one.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed;

/// The header that `data` begins with: its length, and where it says that the connection comes
/// from, if it says so. `None` when it's not whole yet.
///
/// It's of <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The crate `ppp` (2.3)
/// would have been the first choice. But it calls a header of version 1 malformed that was cut
/// before its last word, and one that says UNKNOWN incomplete for good when more than five words
/// follow, where anything may.
pub(crate) fn header(data: &[u8]) -> Result<Option<(usize, Option<Told>)>, Malformed> {
    let begins = |with: &[u8]| data.iter().zip(with).all(|(one, other)| one == other);
    if begins(b"PROXY ") {
        let line = &data[..data.len().min(LONGEST_TEXT)];
        match line.windows(2).position(|two| two == b"\r\n") {
            Some(end) => Ok(Some((end + 2, text(&line[..end])?))),
            None if line.len() < LONGEST_TEXT => Ok(None),
            None => Err(Malformed),
        }
    } else if begins(&SIGNATURE) {
        let Some(&[version, family, high, low]) = data.get(12..16) else {
            return Ok(None);
        };
        let length = 16 + usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST || ![0x20, 0x21].contains(&version) {
            return Err(Malformed);
        }
        let Some(block) = data.get(16..length) else {
            return Ok(None);
        };
        match version {
            // LOCAL: the balancer speaks for itself, to see how we are. The rest means nothing.
            0x20 => Ok(Some((length, None))),
            _ => Ok(Some((length, binary(family, block)?))),
        }
    } else {
        Err(Malformed)
    }
}

/// The two ends that a header tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// What a line of version 1 tells of.
fn text(line: &[u8]) -> Result<Option<Told>, Malformed> {
    // Behind UNKNOWN anything may follow.
    if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        return Ok(None);
    }
    let mut words = std::str::from_utf8(line).map_err(|_| Malformed)?.split(' ');
    let mut word = || words.next().unwrap_or(""); // which is nothing that may stand there
    let (_, family, from, to) = (word(), word(), word(), word());
    let (from_port, to_port) = (word(), word());
    if words.next().is_some() {
        return Err(Malformed);
    }
    let address = |ip: &str, port: &str| {
        let ip = match family {
            "TCP4" => ip.parse().ok().map(IpAddr::V4),
            "TCP6" => ip.parse().ok().map(IpAddr::V6),
            _ => None,
        };
        // `parse` takes more than the protocol allows: +1, 007.
        let plain = port == "0" || !port.starts_with(['0', '+']);
        let port = port.parse().ok().filter(|_| plain);
        let (ip, port) = ip.zip(port).ok_or(Malformed)?;
        Ok(canonical(ip, port))
    };
    let (from, to) = (address(from, from_port)?, address(to, to_port)?);
    Ok(Some(Told { from, to }))
}

/// What the block of a header of version 2 tells of: two addresses and then two ports.
fn binary(family: u8, block: &[u8]) -> Result<Option<Told>, Malformed> {
    match (family >> 4, family & 15) {
        (1, 1) => ends::<4>(block).map(Some),
        (2, 1) => ends::<16>(block).map(Some),
        // Of no kind, of UDP or of a Unix socket: nothing that a handler of TCP could use.
        (0..=3, 0..=2) => Ok(None),
        _ => Err(Malformed),
    }
}

/// Both ends, whose addresses have `N` bytes.
fn ends<const N: usize>(block: &[u8]) -> Result<Told, Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = block.split_first_chunk::<N>().ok_or(Malformed)?;
    let (to, rest) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    let Some(&[high, low, to_high, to_low]) = rest.first_chunk::<4>() else {
        return Err(Malformed);
    };
    Ok(Told {
        from: canonical((*from).into(), u16::from_be_bytes([high, low])),
        to: canonical((*to).into(), u16::from_be_bytes([to_high, to_low])),
    })
}

/// An IPv4 address is one, also where it's written as one of IPv6: as it is everywhere in oread.
fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// Tells each caller where they come from, as far as it knows, and echoes.
struct Named;

impl Handler for Named {
    type Session = Address;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Address>, caller: &Accepted) -> Option<Address> {
        Some(caller.peer.clone())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Address>) {
        let (peer, mut output) = connection.split();
        writeln!(output, "{peer}");
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Address>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }
}

fn serve(listen: Address, mut proxied: Proxied<Named>) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let mut context = reactor.context();
    let options = ListenOptions::new(listen.clone());
    let listener = proxied.with_inner(&mut context, |_, context| context.listen(&options))?;
    let address = context.listener_addr(listener).unwrap_or(listen);
    writeln!(io::stdout(), "listening on {address}")?;
    reactor.run(&mut proxied).map(|_| ())
}

fn parse(words: &[String]) -> Result<(Address, Proxied<Named>), String> {
    let (mut listen, mut proxied) = (
        None,
        Proxied {
            inner: Named,
            trust: Trust::default(),
            refuse_others: false,
        },
    );
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--refuse-others" => proxied.refuse_others = true,
            "--trust" => match words.next().ok_or("--trust whom?")?.as_str() {
                "unix" => proxied.trust.unix = true,
                network => proxied.trust.networks.push(network.parse()?),
            },
            _ if listen.is_some() => return Err(format!("what is {word:?} to be?")),
            address => {
                let wrong = |_| format!("{address:?} is no address with a port");
                listen = Some(address.parse().map_err(wrong)?);
            }
        }
    }
    Ok((listen.ok_or("where to listen?")?, proxied))
}

fn run() -> Result<(), (i32, String)> {
    let usage = "usage: proxy_protocol LISTEN [--trust NETWORK|unix]... [--refuse-others]";
    let words = std::env::args_os().skip(1);
    let words: Vec<_> = words.map(|it| it.to_string_lossy().into_owned()).collect();
    let (listen, proxied) = parse(&words).map_err(|why| (2, format!("{why}\n{usage}")))?;
    let served = serve(listen.clone(), proxied);
    served.map_err(|error| (1, format!("can't serve on {listen}: {error}")))
}

fn main() {
    if let Err((code, why)) = run() {
        eprintln!("proxy_protocol: {why}");
        std::process::exit(code);
    }
}
