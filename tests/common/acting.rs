//! A handler that does in each callback what its test tells it, and keeps a log of them.

#![allow(dead_code, unreachable_pub, missing_debug_implementations)]

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Handler, Traffic, UdpId,
};

type OnData = Box<dyn FnMut(&mut Connection<'_, ()>, &[u8]) -> usize>;
type OnConnection = Box<dyn FnMut(&mut Connection<'_, ()>)>;
type OnContext = Box<dyn FnMut(&mut Context<()>)>;

#[derive(Default)]
pub struct Acting {
    pub accept: Option<OnContext>,
    pub open: Option<OnConnection>,
    pub data: Option<OnData>,
    pub eof: Option<OnConnection>,
    pub drained: Option<OnConnection>,
    pub closing: Option<OnConnection>,
    pub timer: Option<OnContext>,
    /// Whether it refuses callers.
    pub refuses: bool,
    pub opened: Vec<ConnectionId>,
    /// Its callbacks of connections, in words.
    pub log: Vec<String>,
    pub closed: Vec<(ConnectionId, CloseReason, Instant)>,
    /// What those that have closed had moved, where they were counted.
    pub moved: Vec<Option<Traffic>>,
    pub failed: Vec<io::ErrorKind>,
    pub fired: Vec<Instant>,
    pub from: Vec<SocketAddr>,
}

impl Acting {
    pub fn on_accept(mut self, act: impl FnMut(&mut Context<()>) + 'static) -> Self {
        self.accept = Some(Box::new(act));
        self
    }

    pub fn on_open(mut self, act: impl FnMut(&mut Connection<'_, ()>) + 'static) -> Self {
        self.open = Some(Box::new(act));
        self
    }

    pub fn on_data(
        mut self,
        act: impl FnMut(&mut Connection<'_, ()>, &[u8]) -> usize + 'static,
    ) -> Self {
        self.data = Some(Box::new(act));
        self
    }

    pub fn on_eof(mut self, act: impl FnMut(&mut Connection<'_, ()>) + 'static) -> Self {
        self.eof = Some(Box::new(act));
        self
    }

    pub fn on_drained(mut self, act: impl FnMut(&mut Connection<'_, ()>) + 'static) -> Self {
        self.drained = Some(Box::new(act));
        self
    }

    pub fn on_closing(mut self, act: impl FnMut(&mut Connection<'_, ()>) + 'static) -> Self {
        self.closing = Some(Box::new(act));
        self
    }

    pub fn on_timer(mut self, act: impl FnMut(&mut Context<()>) + 'static) -> Self {
        self.timer = Some(Box::new(act));
        self
    }

    pub fn reasons(&self) -> Vec<CloseReason> {
        self.closed.iter().map(|one| one.1).collect()
    }
}

impl Handler for Acting {
    type Session = ();
    type Message = u32;

    fn on_accept(&mut self, context: &mut Context<()>, _: &Accepted) -> Option<()> {
        if let Some(act) = &mut self.accept {
            act(context);
        }
        (!self.refuses).then_some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.opened.push(connection.id());
        self.log.push("open".into());
        if let Some(act) = &mut self.open {
            act(connection);
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        let count = self
            .data
            .as_mut()
            .map_or(data.len(), |act| act(connection, data));
        self.log.push(format!("data {count} of {}", data.len()));
        count
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, rest: &[u8]) {
        self.log.push(format!("eof {}", rest.len()));
        match &mut self.eof {
            Some(act) => act(connection),
            None => connection.finish(),
        }
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, ()>) {
        self.log.push("drained".into());
        if let Some(act) = &mut self.drained {
            act(connection);
        }
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, ()>, why: CloseReason) {
        self.log.push(format!("closing {why:?}"));
        if let Some(act) = &mut self.closing {
            act(connection);
        }
    }

    fn on_close(&mut self, context: &mut Context<()>, id: ConnectionId, (): (), why: CloseReason) {
        self.log.push(format!("close {why:?}"));
        self.closed.push((id, why, context.now()));
        self.moved.push(context.traffic(id));
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Context<()>,
        _: ConnectionId,
        (): (),
        error: io::Error,
    ) {
        self.log.push(format!("failed {:?}", error.kind()));
        self.failed.push(error.kind());
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, data: &[u8]) {
        self.from.push(datagram.from());
        datagram.reply(data);
    }

    fn on_datagram_error(&mut self, _: &mut Context<()>, _: UdpId, _: io::Error) {}
    fn on_timer(&mut self, context: &mut Context<()>, _: u64) {
        self.fired.push(context.now());
        if let Some(act) = &mut self.timer {
            act(context);
        }
    }

    fn on_message(&mut self, _: &mut Context<()>, _: u32) {
        self.log.push("message".into());
    }
}
