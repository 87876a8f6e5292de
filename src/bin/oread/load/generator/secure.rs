//! TLS sessions of a thread's connections, apart from its flows: most loads have none.
//!
//! rustls does no IO. What has come of records lies in one buffer of the thread while it's opened,
//! and messages are gathered in another until the callback that wrote them ends: then all of them
//! are sealed in as few records as hold them. So a connection keeps no buffer, but for a record, or
//! an answer, of which a part has come.

use std::mem;
use std::sync::Arc;

use oread::{Connection, Output, Pressure, TimerId};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState as State, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, Error, HandshakeKind};

use crate::load::options::load::Load;

/// Bytes of messages that are gathered before their connection counts as full.
const MOST_GATHERED: usize = 64 << 10;
/// Bytes that are sealed at a time, of which four records are made; and with what TLS adds to each.
const PIECE: usize = 64 << 10;
const SEALED: usize = PIECE + 1024;
/// No flow has this index.
const NOBODY: u32 = u32::MAX;

/// What a connection over TLS has beside its flow.
pub(super) struct Session {
    tls: UnbufferedClientConnection,
    /// What has come of a record that is not whole.
    partial: Vec<u8>,
    /// What has come, opened, of an answer that is not whole.
    rest: Vec<u8>,
    /// When its connection was there.
    pub(super) connected: u64,
    /// Ends the wait for the handshake; `None`: that is done.
    pub(super) timer: Option<TimerId>,
    /// Whether the peer has said that it sends no more.
    pub(super) is_closed: bool,
    /// Whether it has said its last words: rustls is to be asked nothing any more.
    is_over: bool,
}

/// How far a session has come with what it was given.
#[derive(Debug)]
pub(super) enum Progress {
    /// The handshake takes more of it.
    Waits,
    /// Messages can be sealed.
    Open,
    /// The peer has said goodbye.
    Closed,
    /// It's over; an alert has been sent.
    Failed(Error),
}

/// All sessions of a thread, and the buffers that they share: no callback runs inside another.
#[derive(Default)]
pub(super) struct Secure {
    config: Option<Arc<ClientConfig>>,
    /// By target; `None`: it's not spoken to over TLS.
    names: Vec<Option<ServerName<'static>>>,
    /// By flow.
    sessions: Vec<Option<Box<Session>>>,
    /// The flow whose session is lent.
    lent: u32,
    /// What has come and is being opened, what is to be sealed, and what is sealed.
    incoming: Vec<u8>,
    gathered: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

impl Secure {
    pub(super) fn new(load: &Load) -> Secure {
        let client = load.tls.as_ref().map(|tls| tls.client());
        let (config, names) = client.unzip();
        Secure {
            config,
            names: names.unwrap_or_default(),
            lent: NOBODY,
            ..Secure::default()
        }
    }

    /// Whether any target is spoken to over TLS.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.config.is_some()
    }

    /// A session for the connection of a flow to this target, if that takes one.
    ///
    /// # Errors
    /// As rustls gives them.
    pub(super) fn open(&mut self, target: u16, now: u64) -> Option<Result<Box<Session>, Error>> {
        let config = self.config.as_ref()?;
        let name = self.names.get(usize::from(target))?.clone()?;
        let tls = UnbufferedClientConnection::new(Arc::clone(config), name);
        Some(tls.map(|tls| {
            Box::new(Session {
                tls,
                partial: Vec::new(),
                rest: Vec::new(),
                connected: now,
                timer: None,
                is_closed: false,
                is_over: false,
            })
        }))
    }

    /// Lends a flow's session; it's to be given back.
    pub(super) fn lend(&mut self, index: u32) -> Option<Box<Session>> {
        let session = self.sessions.get_mut(index as usize)?.take()?;
        self.lent = index;
        Some(session)
    }

    /// The session of a flow is kept from here on, or again.
    pub(super) fn keep(&mut self, index: u32, session: Box<Session>) {
        let place = index as usize;
        if self.sessions.len() <= place {
            self.sessions.resize_with(place + 1, || None);
        }
        self.sessions[place] = Some(session);
        self.lent = NOBODY;
    }

    /// A flow's connection is gone; its session.
    pub(super) fn remove(&mut self, index: u32) -> Option<Box<Session>> {
        self.sessions.get_mut(index as usize)?.take()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.sessions.get_mut(index as usize)?.as_deref_mut()
    }

    /// Whether a flow has a session, and that is not lent.
    #[inline]
    pub(super) fn has(&self, index: u32) -> bool {
        let session = self.sessions.get(index as usize);
        session.is_some_and(Option::is_some)
    }

    /// Where the messages of a flow are gathered, if it's over TLS.
    #[inline]
    fn gather(&mut self, index: u32) -> Option<&mut Vec<u8>> {
        (self.lent == index || self.has(index)).then_some(&mut self.gathered)
    }

    /// Whether messages wait to be sealed.
    #[inline]
    pub(super) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Nothing waits to be sealed any more.
    pub(super) fn forget_gathered(&mut self) {
        self.gathered.clear();
        // What one long message took is not kept for good.
        self.gathered.shrink_to(2 * MOST_GATHERED);
    }

    /// All that has come of a session's records and is not opened: what was kept of it, and `data`.
    pub(super) fn incoming(&mut self, session: &mut Session, data: &[u8]) -> Vec<u8> {
        let mut incoming = match session.partial.is_empty() {
            true => mem::take(&mut self.incoming),
            false => mem::take(&mut session.partial),
        };
        incoming.extend_from_slice(data);
        incoming
    }

    /// What was taken by [`Secure::incoming`], of which so many bytes are done with.
    pub(super) fn put_back(&mut self, session: &mut Session, mut incoming: Vec<u8>, done: usize) {
        if let Some(left @ [_, ..]) = incoming.get(done..) {
            session.partial = left.to_vec();
        }
        incoming.clear();
        if incoming.capacity() >= self.incoming.capacity() {
            self.incoming = incoming;
        }
    }

    /// Seals what is gathered, and writes it; how the connection stands then. `incoming`: what has
    /// come of the session's records and is not opened.
    pub(super) fn seal(
        &mut self,
        session: &mut Session,
        incoming: &mut [u8],
        output: &mut Output<'_>,
    ) -> Pressure {
        let pressure = session.seal(&mut self.sealed, incoming, &self.gathered, output);
        self.forget_gathered();
        pressure
    }

    /// Says goodbye on a connection whose handshake is done.
    pub(super) fn say_goodbye(&mut self, session: &mut Session, output: &mut Output<'_>) {
        let mut partial = mem::take(&mut session.partial);
        let is_over = mem::replace(&mut session.is_over, true);
        if session.timer.is_none()
            && !is_over
            && let Ok(State::WriteTraffic(mut traffic)) =
                session.tls.process_tls_records(&mut partial).state
        {
            let ready = fit(&mut self.sealed, 0, |room| {
                in_room(traffic.queue_close_notify(room))
            });
            output.write(&self.sealed[..ready]);
        }
    }
}

impl Session {
    /// Whether the handshake was one of an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Works on what has come until that takes more; how many bytes of it are done with. What is
    /// opened goes to `opened`, and what the session itself has to say to the connection.
    pub(super) fn work(
        &mut self,
        sealed: &mut Vec<u8>,
        connection: &mut Connection<'_, u32>,
        incoming: &mut [u8],
        mut opened: impl FnMut(&mut Connection<'_, u32>, &mut Vec<u8>, &[u8]),
    ) -> (usize, Progress) {
        let (mut done, mut ready) = (0, 0);
        if self.is_over {
            return (incoming.len(), Progress::Waits);
        }
        loop {
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut incoming[done..]);
            done += discard;
            match state {
                Ok(State::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        opened(connection, &mut self.rest, record.payload);
                    }
                }
                Ok(State::EncodeTlsData(mut data)) => {
                    ready += fit(sealed, ready, |room| encoded(data.encode(room)));
                }
                Ok(State::TransmitTlsData(data)) => {
                    connection.split().1.write(&sealed[..mem::take(&mut ready)]);
                    data.done();
                }
                Ok(State::WriteTraffic(_)) => return (done, Progress::Open),
                Ok(State::PeerClosed | State::Closed) => return (done, Progress::Closed),
                Ok(_) => return (done, Progress::Waits),
                Err(error) => {
                    self.is_over = true;
                    let alert = self.last_words(sealed, &mut incoming[done..]);
                    connection.split().1.write(alert);
                    return (done, Progress::Failed(error));
                }
            }
        }
    }

    /// Seals messages piece by piece, and writes them; how the connection stands then.
    fn seal(
        &mut self,
        sealed: &mut Vec<u8>,
        incoming: &mut [u8],
        messages: &[u8],
        output: &mut Output<'_>,
    ) -> Pressure {
        let (mut pressure, mut ready) = (output.pressure(), 0);
        let mut pieces = messages.chunks(PIECE).peekable();
        while let Some(piece) = pieces.peek() {
            match self.tls.process_tls_records(incoming).state {
                Ok(State::WriteTraffic(mut traffic)) => {
                    let len = fit(sealed, ready, |room| in_room(traffic.encrypt(piece, room)));
                    pressure = output.write(&sealed[..ready + len]);
                    ready = 0;
                    pieces.next();
                }
                // New keys, before the old ones are used up.
                Ok(State::EncodeTlsData(mut data)) => {
                    ready += fit(sealed, ready, |room| encoded(data.encode(room)));
                }
                Ok(State::TransmitTlsData(data)) => data.done(),
                // Its end is to come, and to be told.
                _ => return Pressure::Closed,
            }
        }
        pressure
    }

    /// The alert that rustls has prepared where it has found something wrong.
    fn last_words<'b>(&mut self, sealed: &'b mut Vec<u8>, incoming: &mut [u8]) -> &'b [u8] {
        let mut ready = 0;
        while self.tls.wants_write()
            && let Ok(State::EncodeTlsData(mut data)) = self.tls.process_tls_records(incoming).state
        {
            ready += fit(sealed, ready, |room| encoded(data.encode(room)));
        }
        sealed.get(..ready).unwrap_or_default()
    }
}

/// Where messages are written: a connection's output, or, where `SECURE` and its flow is over TLS,
/// what is to be sealed for it.
pub(super) struct Out<'a, const SECURE: bool> {
    output: Output<'a>,
    gathered: Option<&'a mut Vec<u8>>,
}

impl<'a, const SECURE: bool> Out<'a, SECURE> {
    /// That of a flow.
    #[inline(always)]
    pub(super) fn of(output: Output<'a>, secure: &'a mut Secure, index: u32) -> Self {
        let gathered = if SECURE { secure.gather(index) } else { None };
        Out { output, gathered }
    }

    /// Writes all of `bytes`; how the connection stands then.
    #[inline(always)]
    pub(super) fn write(&mut self, bytes: &[u8]) -> Pressure {
        match &mut self.gathered {
            Some(gathered) if SECURE => {
                gathered.extend_from_slice(bytes);
                match self.output.pressure() {
                    Pressure::Low if gathered.len() >= MOST_GATHERED => Pressure::High,
                    pressure => pressure,
                }
            }
            _ => self.output.write(bytes),
        }
    }
}

/// What was written into a buffer, or how much that lacks. What can't be written at all is nothing.
fn in_room(written: Result<usize, EncryptError>) -> Result<usize, InsufficientSizeError> {
    match written {
        Err(EncryptError::InsufficientSize(size)) => Err(size),
        written => Ok(written.unwrap_or(0)),
    }
}

/// The same of what TLS itself has to say.
fn encoded(written: Result<usize, EncodeError>) -> Result<usize, InsufficientSizeError> {
    match written {
        Err(EncodeError::InsufficientSize(size)) => Err(size),
        written => Ok(written.unwrap_or(0)),
    }
}

/// Has `write` write into `buffer` behind the first `at` bytes; how many it has written. The buffer
/// grows to what that takes.
fn fit(
    buffer: &mut Vec<u8>,
    at: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, InsufficientSizeError>,
) -> usize {
    if buffer.is_empty() {
        buffer.resize(SEALED, 0);
    }
    loop {
        match write(&mut buffer[at..]) {
            Ok(written) => return written,
            Err(size) => buffer.resize(at + size.required_size, 0),
        }
    }
}
