//! Datagrams in a drain.

use std::collections::VecDeque;
use std::time::Duration;

use oread::{Connection, Context, Datagram, Ended, Handler, Reactor, ReplyTo, UdpOptions};

#[derive(Default)]
struct Later {
    waiting: VecDeque<ReplyTo>,
    ending: bool,
}

impl Later {
    fn end_if_done(&self, context: &mut Context<'_, ()>) {
        if self.ending && self.waiting.is_empty() {
            context.drain(Duration::from_secs(5));
        }
    }
}

impl Handler for Later {
    type Session = ();
    type Message = (); // time to end

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, question: &mut Datagram<'_, ()>, _: &[u8]) {
        if self.ending {
            return; // the drain shows the last ones here
        }
        self.waiting.push_back(question.reply_to());
        question.context().timer(Duration::from_millis(20), 0); // stands for long work
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, _: u64) {
        if let Some(to) = self.waiting.pop_front() {
            context.reply(to, b"answer");
        }
        self.end_if_done(context);
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, _: ()) {
        self.ending = true;
        self.end_if_done(context);
    }
}

#[test]
fn the_drain_begins_when_the_last_answer_is_out() -> std::io::Result<()> {
    let (mut reactor, mut later) = (Reactor::new()?, Later::default());
    let socket = reactor.context().bind_udp(&UdpOptions::default())?;
    let asker = std::net::UdpSocket::bind("127.0.0.1:0")?;
    asker.send_to(b"question", reactor.context().udp_addr(socket).unwrap())?;
    while later.waiting.is_empty() {
        reactor.turn(&mut later, None)?;
    }
    let handle = reactor.handle();

    // There was a question, and another thread says that it's time to end:
    handle.send(()).unwrap();
    let ended = reactor.run(&mut later)?;
    assert_eq!(ended, Ended::Drained { cut: 0 });

    let mut answer = [0; 8];
    asker.set_read_timeout(Some(Duration::from_secs(60)))?;
    assert_eq!(asker.recv(&mut answer)?, 6);
    Ok(())
}
