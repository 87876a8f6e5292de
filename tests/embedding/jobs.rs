//! Other threads.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use oread::{Accepted, CloseReason, Connection, ConnectionId, Context, Handle, Handler};

use super::peers::{beside, call, listen};

#[derive(Default)]
struct Client {
    outstanding: u32,
    finished: bool,
    closing: bool,
}

struct Server {
    jobs: SyncSender<(ConnectionId, u64)>,
}

impl Handler for Server {
    type Session = Client;
    type Message = (ConnectionId, u64);

    fn on_accept(&mut self, _: &mut Context<'_, Client>, _: &Accepted) -> Option<Client> {
        Some(Client::default())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Client>, data: &[u8]) -> usize {
        // Long work goes to a thread, by a bounded queue. Its answer comes back as a message.
        match self.jobs.try_send((connection.id(), data.len() as u64)) {
            Ok(()) => connection.session_mut().outstanding += 1,
            Err(_) => {
                connection.write(b"busy\n");
            }
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Client>, _: &[u8]) {
        connection.session_mut().finished = true;
        if connection.session().outstanding == 0 {
            connection.finish();
        }
    }

    fn on_message(&mut self, context: &mut Context<'_, Client>, (id, answer): (ConnectionId, u64)) {
        let Some(mut connection) = context.connection(id) else {
            return; // the client did not wait
        };
        writeln!(connection, "{answer}");
        let client = connection.session_mut();
        client.outstanding -= 1;
        if client.outstanding == 0 && client.finished {
            connection.finish();
        } else if client.outstanding == 0 && client.closing {
            connection.close(CloseReason::Drained);
        }
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, Client>, _: CloseReason) {
        // An idle timeout closes all the same: it should be longer than any job.
        if connection.session().outstanding > 0 {
            connection.session_mut().closing = true;
            connection.stay_open(); // from here on it's ours to close
        }
    }
}

fn work(jobs: Receiver<(ConnectionId, u64)>, reactor: &Handle<(ConnectionId, u64)>) {
    for (id, count) in jobs {
        // It waits while the mailbox is full; `send` would give the message back instead.
        if reactor.send_wait((id, (1..=count).sum())).is_err() {
            return; // the reactor has ended
        }
    }
}

#[test]
fn a_drain_waits_for_answers_of_another_thread() {
    let mut reactor = oread::Reactor::new().unwrap();
    let (address, handle) = (listen(&mut reactor), reactor.handle());
    let (begin, may_begin) = std::sync::mpsc::channel();
    let drains = handle.clone();
    let client = move || {
        let mut stays = call(address);
        std::io::Write::write_all(&mut stays, b"123456").unwrap();
        let mut finishes = call(address);
        std::io::Write::write_all(&mut finishes, b"12345").unwrap();
        finishes.shutdown(std::net::Shutdown::Write).unwrap();
        let mut asks = call(address);
        // The worker stands still until the drain was asked for.
        drains.drain(Duration::from_secs(60));
        begin.send(()).unwrap();
        assert_eq!(std::io::read_to_string(&mut finishes).unwrap(), "15\n");
        assert_eq!(std::io::read_to_string(&mut stays).unwrap(), "21\n");
        assert_eq!(std::io::read_to_string(&mut asks).unwrap(), "");
    };
    let (jobs, waiting) = std::sync::mpsc::sync_channel(64);
    let back = reactor.handle();
    let worker = std::thread::spawn(move || {
        may_begin.recv().unwrap();
        work(waiting, &back);
    });
    let (_, ended) = beside(&handle, client, || {
        reactor.run(&mut Server { jobs }).unwrap()
    });
    assert_eq!(ended, oread::Ended::Drained { cut: 0 });
    worker.join().unwrap();
}
