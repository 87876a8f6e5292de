//! What the tests of known faults have in common: a host with a handler that does what each of them
//! needs, watched.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_debug_implementations
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "hosts.rs"]
mod hosts;
#[path = "watched.rs"]
mod watched;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::sim::{Host, World};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Echo, EchoOptions, Ended, Handler,
    Limits, ListenOptions, Pressure,
};

pub use hosts::{SECOND, address, idle, listening};
pub use watched::{Life, Watched, look_at};

/// A host with a listener.
pub fn host<H: Handler>(world: &mut World, handler: H, limits: Limits) -> Host<Watched<H>> {
    hosts::listening(world, Watched::new(handler), limits)
}

pub fn echo(framing: &str) -> Echo {
    let framing = framing.parse().unwrap();
    Echo::new(EchoOptions {
        framing,
        ..EchoOptions::default()
    })
}

pub fn lives<H: Handler>(host: &Host<Watched<H>>) -> Vec<&Life> {
    host.handler.lives.values().collect()
}

/// What a handler here does with its input.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// Takes it, and does nothing.
    Take,
    /// Echoes each line, and pauses and resumes for it. The first one is followed by so many bytes.
    PauseAndResume(usize),
    /// Answers with so many bytes, and closes.
    AnswerAndClose(usize),
    /// Answers the first input with so many bytes, and stays.
    Answer(usize),
    /// Answers each line with so many bytes, and leaves what is behind it.
    AnswerLine(usize),
    /// Answers the first input with so many pieces of so many bytes, or fewer if it's told to stop.
    AnswerInPieces(usize, usize),
    /// Answers the first input with so many bytes, and pauses until they are out.
    AnswerAndPause(usize),
    /// Takes it, and doesn't finish when the peer has.
    Owe,
}

pub struct Plain {
    pub way: Way,
    /// Everybody who was opened, in order.
    pub opened: Vec<ConnectionId>,
    pub taken_on: u32,
    /// Pieces that were written before it was told to stop.
    pub pieces: usize,
}

/// What is to be done with a connection, from outside its callbacks.
pub enum Order {
    /// Write so many pieces of so many bytes.
    Write(ConnectionId, usize, usize),
    Idle(ConnectionId, Duration),
}

impl Plain {
    pub fn new(way: Way) -> Plain {
        Plain {
            way,
            opened: Vec::new(),
            taken_on: 0,
            pieces: 0,
        }
    }
}

/// The length of the first line of `data`, its newline counted.
fn line(data: &[u8]) -> Option<usize> {
    let end = data.iter().position(|&byte| byte == b'\n')?;
    Some(end + 1)
}

impl Handler for Plain {
    type Session = ();
    type Message = Order;

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        self.taken_on += 1;
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.opened.push(connection.id());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        match self.way {
            Way::Take | Way::Owe => {}
            Way::PauseAndResume(more) => {
                let Some(count) = line(data) else {
                    return 0;
                };
                connection.pause();
                connection.write(&data[..count]);
                connection.write(&vec![b'r'; more]);
                connection.resume();
                self.way = Way::PauseAndResume(0);
                return count;
            }
            Way::AnswerAndClose(count) => {
                connection.write(&vec![b'r'; count]);
                connection.close(CloseReason::Closed);
            }
            Way::Answer(count) => {
                connection.write(&vec![b'r'; count]);
                self.way = Way::Take;
            }
            Way::AnswerAndPause(count) => {
                connection.write(&vec![b'r'; count]);
                connection.pause();
                self.way = Way::Take;
            }
            Way::AnswerLine(size) => {
                let Some(count) = line(data) else {
                    return 0;
                };
                connection.write(&vec![b'r'; size]);
                return count;
            }
            Way::AnswerInPieces(count, size) => {
                self.way = Way::Take;
                while self.pieces < count && connection.pressure() == Pressure::Low {
                    connection.write(&vec![b'r'; size]);
                    self.pieces += 1;
                }
            }
        }
        data.len()
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, ()>) {
        connection.resume();
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, _: &[u8]) {
        if self.way != Way::Owe {
            connection.finish();
        }
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, order: Order) {
        match order {
            Order::Write(id, pieces, size) => {
                for _ in 0..pieces {
                    if let Some(mut connection) = context.connection(id) {
                        connection.write(&vec![b'm'; size]);
                    }
                }
            }
            Order::Idle(id, timeout) => {
                if let Some(mut connection) = context.connection(id) {
                    connection.set_idle_timeout(Some(timeout));
                }
            }
        }
    }
}

type OnData = Box<dyn FnMut(&mut Connection<'_, ()>, &[u8]) -> usize>;
type OnConnection = Box<dyn FnMut(&mut Connection<'_, ()>)>;
type OnContext = Box<dyn FnMut(&mut Context<'_, ()>)>;

/// A handler that is made up of what one test needs, and keeps what it was told.
#[derive(Default)]
pub struct Scripted {
    /// All input is consumed where there is none.
    pub data: Option<OnData>,
    pub closing: Option<OnConnection>,
    pub close: Option<OnContext>,
    pub timer: Option<OnContext>,
    /// Everybody who was opened, in order.
    pub opened: Vec<ConnectionId>,
    pub closed: Vec<(CloseReason, Instant)>,
    /// When timers fired.
    pub fired: Vec<Instant>,
    pub messages: Vec<u32>,
}

impl Scripted {
    pub fn on_data(data: impl FnMut(&mut Connection<'_, ()>, &[u8]) -> usize + 'static) -> Self {
        Scripted {
            data: Some(Box::new(data)),
            ..Scripted::default()
        }
    }

    /// One that puts every drain's end off.
    pub fn that_stays() -> Self {
        Scripted {
            closing: Some(Box::new(|connection| connection.stay_open())),
            ..Scripted::default()
        }
    }

    pub fn reasons(&self) -> Vec<CloseReason> {
        self.closed.iter().map(|closed| closed.0).collect()
    }
}

impl Handler for Scripted {
    type Session = ();
    type Message = u32;

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.opened.push(connection.id());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        let act = self.data.as_mut();
        act.map_or(data.len(), |act| act(connection, data))
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, ()>, _: CloseReason) {
        if let Some(act) = &mut self.closing {
            act(connection);
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, ()>,
        _: ConnectionId,
        (): (),
        why: CloseReason,
    ) {
        self.closed.push((why, context.now()));
        if let Some(act) = &mut self.close {
            act(context);
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, _: u64) {
        self.fired.push(context.now());
        if let Some(act) = &mut self.timer {
            act(context);
        }
    }

    fn on_message(&mut self, _: &mut Context<'_, ()>, message: u32) {
        self.messages.push(message);
    }
}

/// Turns a host that nobody turns any more when it has stopped.
pub fn turn_until_stopped<H: Handler>(host: &mut Host<H>) {
    let mut turn = || host.turn(Some(Duration::ZERO)).unwrap().ended;
    let ended = (0..10).find_map(|_| turn());
    assert_eq!(ended, Some(Ended::Stopped));
}
