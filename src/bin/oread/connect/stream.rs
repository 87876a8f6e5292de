//! The client over TCP: standard input to the server, what the server sends to standard output,
//! both at once. How it dials is in `connect/dial.rs`, how it prints messages in
//! `stream/frames.rs`, and what it says at the end in `stream/end.rs`.

mod end;
mod frames;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Framing, Handler, Keepalive,
    Pressure, Stats,
};

use self::end::End;
use self::frames::longer;
use super::dial::Dialer;
use super::input::{Input, unreadable};
use super::lines::{Line, Lines, quits};
use super::message::{Message, log_message};
use super::output::Output;
use crate::failure::{Failure, Reason};
use crate::values::units::Count;

/// The timer that ends a conversation, see [`GRACE`].
const GOODBYE: u64 = 0;
/// The timer after which it is told that the server has finished and the input has not.
const INPUT_OPEN: u64 = 1;

/// How long a conversation waits for its end once one side has said goodbye: for the last answers
/// after a `q`, and after the server's end until it has taken what was typed. Somebody sits there.
const GRACE: Duration = Duration::from_secs(1);

/// The client.
pub(super) struct Client {
    dialer: Dialer,
    /// How messages are cut out of the stream.
    framing: Framing,
    /// The longest message, in bytes.
    max_frame: usize,
    /// Whether somebody types the input.
    interactive: bool,
    input: Input,
    pub(super) output: Output,
    lines: Lines,
    connection: Option<ConnectionId>,
    /// Buffers of input that are not given back before the socket has taken their bytes.
    held: Vec<Vec<u8>>,
    /// Messages on their way into the connection; kept for its memory.
    encoded: Vec<u8>,
    /// Bytes of the server's message under way that were looked at already.
    scanned: usize,
    /// No more input is wanted.
    input_done: bool,
    /// How long nothing may come at the end of the input; `None`: for ever.
    pub(super) patience: Option<Duration>,
    /// What went wrong, to be told when the connection has ended.
    failure: Option<Failure>,
    /// How it all ended, once it has.
    pub(super) result: Option<Result<(), Failure>>,
}

impl Client {
    /// A client that has not connected yet.
    pub(super) fn new(
        dialer: Dialer,
        framing: Framing,
        max_frame: usize,
        interactive: bool,
        input: Input,
        output: Output,
    ) -> Client {
        Client {
            dialer,
            framing,
            max_frame,
            interactive,
            input,
            output,
            lines: Lines::new(max_frame),
            connection: None,
            held: Vec::new(),
            encoded: Vec::new(),
            scanned: 0,
            input_done: false,
            patience: None,
            failure: None,
            result: None,
        }
    }

    /// Tries the next address; without one, it has all ended.
    pub(super) fn dial(&mut self, context: &mut Context<'_, ()>) {
        match self.dialer.dial(context) {
            Ok(id) => self.connection = Some(id),
            Err(failure) => self.result = Some(Err(failure)),
        }
    }

    /// The connection, as long as there is one.
    fn connection<'a>(&self, context: &'a mut Context<'_, ()>) -> Option<Connection<'a, ()>> {
        self.connection.and_then(|id| context.connection(id))
    }

    fn send(&self, context: &mut Context<'_, ()>, bytes: &[u8]) -> Pressure {
        let connection = self.connection(context);
        connection.map_or(Pressure::Closed, |mut connection| connection.write(bytes))
    }

    /// A piece of input goes to the connection. Its buffer is given back at once or, under
    /// pressure, when the pressure is over: so no more is read than the peer takes.
    fn forward(&mut self, context: &mut Context<'_, ()>, buffer: Vec<u8>) {
        if self.input_done {
            return;
        }
        let mut flow = ControlFlow::Continue(());
        let pressure = if self.framing == Framing::Raw && !self.interactive {
            log_message("sent to", self.dialer.address(), &buffer);
            self.send(context, &buffer)
        } else {
            flow = self.encode(|lines, take| lines.push(&buffer, take));
            self.send_encoded(context)
        };
        match pressure {
            Pressure::Low => self.input.give_back(buffer),
            Pressure::High => self.held.push(buffer),
            // It is about to end, and counts what it did not take.
            Pressure::Closed => {}
        }
        if flow.is_break() {
            self.stop_input(context);
            if self.interactive {
                context.timer(GRACE, GOODBYE);
            }
        }
    }

    fn send_encoded(&mut self, context: &mut Context<'_, ()>) -> Pressure {
        let mut encoded = std::mem::take(&mut self.encoded);
        let pressure = self.send(context, &encoded);
        encoded.clear();
        self.encoded = encoded;
        pressure
    }

    /// Turns lines into messages, in `encoded`. It breaks off at a `q` that was typed, and at a
    /// line of a file or a pipe that can't be sent: what comes after it was not to come without it.
    fn encode(
        &mut self,
        feed: impl FnOnce(&mut Lines, &mut dyn FnMut(Line<'_>) -> ControlFlow<()>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (interactive, framing) = (self.interactive, self.framing);
        let peer = self.dialer.address();
        let (encoded, failure) = (&mut self.encoded, &mut self.failure);
        feed(&mut self.lines, &mut |line| {
            let mut hint = None;
            let problem = match line {
                Line::Whole { text, .. } if interactive && quits(text) => {
                    return ControlFlow::Break(());
                }
                Line::Whole { text, .. } if framing == Framing::Raw => {
                    log_message("sent to", peer, text);
                    encoded.extend_from_slice(text);
                    encoded.push(b'\n');
                    return ControlFlow::Continue(());
                }
                Line::Whole { number, text } => match framing.encode(text, encoded) {
                    Ok(()) => {
                        log_message("sent to", peer, text);
                        return ControlFlow::Continue(());
                    }
                    Err(error) => format!("line {number} can't be sent as {framing}: {error}"),
                },
                Line::TooLong { number, max } => {
                    hint = longer(framing, max);
                    format!("line {number} can't be sent: it is longer than {max} bytes")
                }
            };
            let problem = Failure::runtime(problem).hint_if(hint);
            if interactive {
                log::error!("{}", problem.on_one_line());
                return ControlFlow::Continue(());
            }
            *failure = Some(problem);
            ControlFlow::Break(())
        })
    }

    /// Our side is finished when all is sent; no more input is taken.
    fn stop_input(&mut self, context: &mut Context<'_, ()>) {
        self.input_done = true;
        if let Some(mut connection) = self.connection(context) {
            connection.finish();
            if self.patience.is_some() {
                connection.set_idle_timeout(self.patience);
            }
        }
    }

    fn input_ended(&mut self, context: &mut Context<'_, ()>, error: Option<io::Error>) {
        if self.input_done {
            return;
        }
        if let Some(error) = error {
            self.failure = Some(unreadable(&error));
        }
        // Whether it breaks off matters no more.
        let _ = self.encode(|lines, take| lines.finish(take));
        if self.framing == Framing::Raw {
            // The last line had no newline, and gets none.
            self.encoded.pop();
        }
        self.send_encoded(context);
        self.stop_input(context);
    }

    /// How it ended, once the connection is closed: well, or with everything that went wrong.
    fn outcome(&mut self, stats: &Stats, reason: CloseReason) -> Result<(), Failure> {
        let failure = self.failure.take();
        // For these reasons only the client itself closes, and it has said why.
        let by_us = matches!(reason, CloseReason::Aborted | CloseReason::FrameTooLong);
        let end = End {
            peer: self.dialer.peer(),
            sent: stats.bytes_out,
            unsent: stats.dropped,
            unread: !self.input_done && !self.interactive,
        };
        let broken = end.words(reason).filter(|_| failure.is_none() || !by_us);
        let all: Vec<Failure> = failure
            .into_iter()
            .chain(broken.map(Failure::runtime))
            .collect();
        Failure::all(&all).map_or(Ok(()), Err)
    }
}

impl Handler for Client {
    type Session = ();
    type Message = Message;

    /// Nobody calls: there is no listener.
    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        let peer = self.dialer.peer();
        if self.interactive {
            log::info!("connected to {peer}; a line that is only q or Q ends it");
        } else {
            log::debug!("connected to {peer}");
        }
        if let Err(failure) = self.input.start() {
            self.failure = Some(failure);
            connection.abort(CloseReason::Aborted);
        }
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, ()>,
        _: ConnectionId,
        (): (),
        error: io::Error,
    ) {
        self.dialer.failed(&error);
        self.dial(context);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        if self.framing != Framing::Raw {
            return self.print_frames(connection, data);
        }
        if self.output.offer(data.to_vec()).is_ok() {
            log_message("received from", self.dialer.address(), data);
            return data.len();
        }
        connection.pause();
        0
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, rest: &[u8]) {
        if !rest.is_empty() {
            self.print_start(rest);
            if !self.framing.ends_with_stream() {
                let text = format!("the server finished {} bytes into a message", rest.len());
                self.failure = Some(Failure::runtime(text));
            }
        }
        if self.input_done {
            return;
        }
        if self.interactive {
            log::info!("the server has finished");
            self.input_done = true;
            connection.finish();
            connection.context().timer(GRACE, GOODBYE);
        } else {
            // It may read on, and nothing but a write tells: so the input goes on to its end.
            // Should the server be gone altogether, a probe finds out where no input comes.
            if let Err(error) = connection.set_keepalive(Keepalive::default()) {
                log::debug!("the server will not be probed: {}", Reason(&error));
            }
            connection.context().timer(GRACE, INPUT_OPEN);
        }
    }

    fn on_drained(&mut self, _: &mut Connection<'_, ()>) {
        for buffer in self.held.drain(..) {
            self.input.give_back(buffer);
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, ()>,
        _: ConnectionId,
        (): (),
        reason: CloseReason,
    ) {
        self.connection = None;
        let outcome = self.outcome(&context.stats(), reason);
        self.result.get_or_insert(outcome);
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, key: u64) {
        if key == INPUT_OPEN {
            if !self.input_done {
                log::info!("the server has finished; what the input still brings is sent to it");
            }
            return;
        }
        // The server does not end, or does not take what was sent to it.
        let pending = self.connection(context).map_or(0, |it| it.pending());
        let peer = self.dialer.peer();
        self.result.get_or_insert(match pending {
            0 => Ok(()),
            _ => Err(Failure::runtime(format!(
                "{peer} did not take all that was sent to it: {} bytes were not sent",
                Count(pending as u64)
            ))),
        });
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, message: Message) {
        match message {
            Message::Input(buffer) => self.forward(context, buffer),
            Message::InputEnd(error) => self.input_ended(context, error),
            Message::Room => {
                if let Some(mut connection) = self.connection(context) {
                    connection.resume();
                }
            }
            // Why is told at the end, with what may fail later still.
            Message::OutputFailed => {
                self.result.get_or_insert(Ok(()));
            }
        }
    }
}
