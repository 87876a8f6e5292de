//! The other threads' way in: messages, stop, drain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, World, connect, loopback};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, Context, Echo, EchoOptions, Ended, Handle,
    Handler, Limits, ListenOptions, Reactor, SendError, UdpOptions,
};

#[test]
fn messages_of_many_threads_arrive_in_each_senders_order_none_lost_none_twice() {
    const SENDERS: u64 = 8;
    const EACH: u64 = 2_000;
    let mut world = World::with(Limits {
        mailbox: 64,
        message_budget: 16,
        ..Limits::default()
    });
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let handle = world.reactor.handle();
            thread::spawn(move || {
                for number in 0..EACH {
                    let mut message = sender << 32 | number;
                    while let Err(error) = handle.send(message) {
                        assert!(matches!(error, SendError::Full(_)));
                        message = error.into_message();
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut last = 0;
    let deadline = Instant::now() + PATIENCE;
    while world.seen().messages.len() < (SENDERS * EACH) as usize {
        assert!(Instant::now() < deadline);
        // It waits without end: only the senders wake it.
        world.turn_for(PATIENCE);
        let now = world.seen().messages.len();
        assert!(now - last <= 16, "{} messages in one turn", now - last);
        last = now;
    }
    for sender in senders {
        sender.join().unwrap();
    }
    let mut next = [0; SENDERS as usize];
    for message in &world.seen().messages {
        let sender = (message >> 32) as usize;
        assert_eq!(message & 0xffff_ffff, next[sender], "of sender {sender}");
        next[sender] += 1;
    }
    assert_eq!(next, [EACH; SENDERS as usize]);
    assert_eq!(world.stats().messages, SENDERS * EACH);
}

#[test]
fn a_full_mailbox_gives_the_message_back_and_loses_none() {
    let mut world = World::with(Limits {
        mailbox: 4,
        ..Limits::default()
    });
    let handle = world.reactor.handle();
    for message in 0..4 {
        assert!(handle.send(message).is_ok());
    }
    assert!(matches!(handle.send(99), Err(SendError::Full(99))));
    world.until("there is room again", |world| {
        world.handler.seen.messages.len() == 4
    });
    assert!(handle.send(4).is_ok());
    world.until("the last one is there", |world| {
        world.handler.seen.messages.len() == 5
    });
    assert_eq!(world.seen().messages, [0, 1, 2, 3, 4]);
}

#[test]
fn messages_beyond_a_turn_s_budget_come_in_the_next_though_nobody_posts_another() {
    let mut world = World::with(Limits {
        message_budget: 4,
        ..Limits::default()
    });
    let handle = world.reactor.handle();
    for message in 0..10 {
        handle.send(message).unwrap();
    }
    for count in [4, 8, 10] {
        let turn = world.turn_for(PATIENCE);
        assert_eq!(world.seen().messages.len(), count);
        assert_eq!(turn.more, count < 10);
    }
}

#[test]
fn a_handle_outlives_its_reactor_and_says_so() {
    let world = World::new();
    let handle = world.reactor.handle();
    drop(world);
    assert!(matches!(handle.clone().send(1), Err(SendError::Gone(1))));
    handle.stop();
    handle.drain(Duration::ZERO);
}

#[test]
fn a_stop_comes_between_the_messages_before_it_and_those_behind_it() {
    let mut world = World::with(Limits {
        message_budget: 16,
        ..Limits::default()
    });
    let handle = world.reactor.handle();
    for message in 0..100 {
        handle.send(message).unwrap();
    }
    handle.stop();
    // The same stop: it's not seen yet.
    handle.stop();
    for message in 100..150 {
        handle.send(message).unwrap();
    }
    assert_eq!(
        world.reactor.run(&mut world.handler).unwrap(),
        Ended::Stopped
    );
    assert_eq!(world.seen().messages, (0..100).collect::<Vec<_>>());
    handle.stop();
    assert_eq!(
        world.reactor.run(&mut world.handler).unwrap(),
        Ended::Stopped
    );
    assert_eq!(world.seen().messages, (0..150).collect::<Vec<_>>());
}

#[test]
fn a_drain_delivers_every_message_that_was_accepted_and_then_none_is() {
    let mut world = World::with(Limits {
        message_budget: 16,
        ..Limits::default()
    });
    let handle = world.reactor.handle();
    for message in 0..500 {
        handle.send(message).unwrap();
    }
    handle.drain(PATIENCE);
    for message in 500..1000 {
        handle.send(message).unwrap();
    }
    assert_eq!(
        world.reactor.run(&mut world.handler).unwrap(),
        Ended::Drained { cut: 0 }
    );
    assert_eq!(world.seen().messages, (0..1000).collect::<Vec<_>>());
    assert_eq!(world.stats().messages, 1000);
    assert!(matches!(handle.send(7), Err(SendError::Gone(7))));
    handle.stop();
    // It's over, and stays so.
    assert_eq!(
        world.reactor.run(&mut world.handler).unwrap(),
        Ended::Drained { cut: 0 }
    );
    assert!(world.reactor.into_messages().is_empty());
}

#[test]
fn a_drain_waits_for_the_messages_before_it_and_not_for_those_behind_it() {
    let mut world = World::new();
    world.handler.message = Some(Box::new(|seen, context, _| {
        seen.count += u64::from(context.is_draining());
    }));
    let handle = world.reactor.handle();
    handle.send(1).unwrap();
    handle.send(2).unwrap();
    handle.drain(PATIENCE);
    handle.send(3).unwrap();
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 0 });
    assert_eq!(world.seen().messages, [1, 2, 3]);
    assert_eq!(world.seen().count, 1, "messages that came during the drain");
}

#[test]
fn what_a_reactor_that_is_given_up_has_not_delivered_comes_back() {
    let mut world = World::new();
    let handle = world.reactor.handle();
    for message in 0..3 {
        handle.send(message).unwrap();
    }
    handle.stop();
    for message in 3..6 {
        handle.send(message).unwrap();
    }
    handle.drain(PATIENCE);
    assert_eq!(run_out(&mut world), Ended::Stopped);
    assert_eq!(world.seen().messages, [0, 1, 2]);
    assert_eq!(world.reactor.into_messages(), [3, 4, 5]);
    assert!(matches!(handle.send(6), Err(SendError::Gone(6))));
}

#[test]
fn the_messages_behind_one_that_makes_the_handler_panic_come_back() {
    let mut world = World::new();
    world.handler.message = Some(Box::new(|_, _, message| assert_ne!(message, 2, "as asked")));
    let handle = world.reactor.handle();
    for message in 0..6 {
        handle.send(message).unwrap();
    }
    let turns = AssertUnwindSafe(|| world.reactor.run(&mut world.handler));
    catch_unwind(turns).unwrap_err();
    handle.send(6).unwrap();
    assert_eq!(world.reactor.into_messages(), [3, 4, 5, 6]);
}

/// A message that sends another one when it's dropped, and tells how that went.
struct Clingy(Option<(Handle<Clingy>, mpsc::Sender<bool>)>);

impl Drop for Clingy {
    fn drop(&mut self) {
        if let Some((handle, told)) = self.0.take() {
            let gone = matches!(handle.send(Clingy(None)), Err(SendError::Gone(_)));
            told.send(gone).unwrap();
        }
    }
}

struct Deaf;

impl Handler for Deaf {
    type Session = ();
    type Message = Clingy;

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn a_message_whose_drop_uses_a_handle_does_not_lock_the_mailbox_up() {
    let (told, hears) = mpsc::channel();
    // In a thread, which may hang: the test would not.
    thread::spawn(move || {
        let reactor: Reactor<Deaf> = Reactor::new().unwrap();
        let handle = reactor.handle();
        let message = Clingy(Some((handle.clone(), told)));
        assert!(handle.send(message).is_ok());
        drop(reactor);
    });
    assert_eq!(hears.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn a_message_reaches_a_connection() {
    let mut world = World::new();
    world.handler.message = Some(Box::new(|seen, context, _| {
        let mut connection = context.connection(seen.opened[0]).unwrap();
        connection.write(b"from another thread");
    }));
    let mut client = world.client();
    world.reactor.handle().send(1).unwrap();
    assert_eq!(world.receive(&mut client, 19), b"from another thread");
}

#[test]
fn a_stopped_reactor_keeps_its_connections_and_runs_again() {
    let mut world = World::new();
    let mut client = world.client();
    for _ in 0..3 {
        let handle = world.reactor.handle();
        let stopping = thread::spawn(move || handle.stop());
        assert_eq!(
            world.reactor.run(&mut world.handler).unwrap(),
            Ended::Stopped
        );
        stopping.join().unwrap();
    }
    assert_eq!(world.exchange(&mut client, b"still here"), b"still here");
    assert!(world.seen().closed.is_empty());
}

#[test]
fn a_handler_that_has_what_it_wanted_ends_the_run_itself() {
    let mut world = World::new();
    world.handler.message = Some(Box::new(|_, context, _| context.stop()));
    let mut client = world.client();
    world.reactor.handle().send(1).unwrap();
    let ended = world.reactor.run(&mut world.handler).unwrap();
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(world.exchange(&mut client, b"still here"), b"still here");
}

#[test]
fn what_the_last_callback_writes_to_others_goes_out_before_a_stop() {
    let mut world = World::new();
    world.handler.close = Some(Box::new(|seen, context, _| {
        let mut other = context.connection(seen.opened[0]).unwrap();
        other.write(b"the result");
        context.stop();
    }));
    let (_, address) = world.listen();
    let mut stays = connect(address);
    world.until_opened(1);
    let goes = connect(address);
    world.until_opened(2);
    drop(goes);
    let ended = world.reactor.run(&mut world.handler).unwrap();
    assert_eq!(ended, Ended::Stopped);
    drop(world);
    let mut came = Vec::new();
    stays.read_to_end(&mut came).unwrap();
    assert_eq!(came, b"the result");
}

#[test]
fn a_stop_between_two_turns_ends_the_next_one_which_does_not_wait() {
    let mut world = World::new();
    world.reactor.context().stop();
    assert_eq!(world.reactor.next_timeout(), Some(Duration::ZERO));
    let ended = world.reactor.run(&mut world.handler).unwrap();
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(world.turn().ended, None);
}

#[test]
fn a_sender_that_waits_gets_in_when_there_is_room_and_hears_of_the_end() {
    let mut world = World::with(Limits {
        mailbox: 2,
        ..Limits::default()
    });
    let handle = world.reactor.handle();
    let sender = thread::spawn(move || {
        for n in 0..100 {
            handle.send_wait(n).unwrap();
        }
        // Nobody turns the reactor any more: these fill the mailbox, and one waits.
        (100..).find_map(|n| handle.send_wait(n).err())
    });
    world.until("a hundred messages came", |world| {
        world.handler.seen.messages.len() >= 100
    });
    let came = world.seen().messages.len() as u64;
    drop(world);
    let refused = sender.join().unwrap().unwrap();
    assert!(
        (came..came + 4).contains(&refused),
        "{refused} after {came}"
    );
}

#[test]
fn a_connection_that_stays_open_in_a_drain_is_ended_by_its_handler() {
    let mut world = World::new();
    world.handler.closing = Some(Box::new(|_, connection| connection.stay_open()));
    world.handler.message = Some(Box::new(|seen, context, _| {
        let mut connection = context.connection(seen.opened[0]).unwrap();
        connection.write(b" and the rest");
        connection.close(CloseReason::Drained);
    }));
    let mut client = world.client();
    client.write_all(b"an answer").unwrap();
    world.context().drain(PATIENCE);
    let handle = world.reactor.handle();
    world.until("the drain would close it", |world| {
        !world.handler.seen.closing.is_empty()
    });
    handle.send(1).unwrap();
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(bytes, b"an answer and the rest");
    end.unwrap();
    drop(client);
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 0 });
    assert_eq!(world.seen().closing.len(), 1);
}

#[test]
fn a_connection_that_stays_open_is_cut_at_the_drain_s_deadline() {
    let mut world = World::new();
    world.handler.closing = Some(Box::new(|_, connection| connection.stay_open()));
    let _client = world.client();
    world.context().drain(Duration::from_millis(50));
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 1 });
}

#[test]
fn a_reactor_may_be_built_in_one_thread_and_run_in_another() {
    let mut reactor = Reactor::new().unwrap();
    let listener = reactor.context().listen(&ListenOptions::new(loopback()));
    let address = reactor.context().listener_addr(listener.unwrap());
    let address = address.unwrap().socket_addr().unwrap();
    let handle = reactor.handle();
    let runs = thread::spawn(move || {
        let mut echo = Echo::new(EchoOptions::default());
        reactor.run(&mut echo).unwrap()
    });
    let mut client = connect(address);
    client.write_all(b"over there").unwrap();
    let mut bytes = [0; 10];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"over there");
    handle.stop();
    assert_eq!(runs.join().unwrap(), Ended::Stopped);
}

#[test]
fn everybody_is_reached_by_one_call() {
    let mut world = World::new();
    let (_, address) = world.listen();
    let mut clients = [connect(address), connect(address), connect(address)];
    world.until_opened(3);
    let gone = world.seen().opened[1];
    let mut context = world.context();
    context
        .connection(gone)
        .unwrap()
        .abort(CloseReason::Aborted);
    let mut count = 0;
    context.for_each(|connection| {
        assert_ne!(connection.id(), gone);
        connection.write(b"to all");
        connection.finish();
        count += 1;
    });
    assert_eq!(count, 2);
    let heard = clients
        .each_mut()
        .map(|client| world.receive_to_end(client).0);
    assert_eq!(heard.iter().filter(|heard| *heard == b"to all").count(), 2);
}

/// Turns until the reactor ends, and says how.
fn run_out(world: &mut World) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline);
        if let Some(ended) = world.turn().ended {
            return ended;
        }
    }
}

#[test]
fn a_drain_with_nobody_there_is_over_at_once() {
    let mut world = World::new();
    world.listen();
    world.bind_udp();
    let handle = world.reactor.handle();
    handle.drain(2 * PATIENCE);
    // It's over for good: to run it once more waits for nothing.
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(
            world.reactor.run(&mut world.handler).unwrap(),
            Ended::Drained { cut: 0 }
        );
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn a_drain_answers_what_had_arrived_and_then_finishes() {
    let mut world = World::new();
    let mut clients = [world.client(), world.client()];
    // Nobody has polled since these were sent.
    for client in &mut clients {
        client.write_all(b"last words").unwrap();
    }
    world.context().drain(PATIENCE);
    for client in &mut clients {
        let (bytes, end) = world.receive_to_end(client);
        assert_eq!(bytes, b"last words");
        end.unwrap();
    }
    drop(clients);
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 0 });
    for (_, _, reason) in &world.seen().closed {
        assert_eq!(*reason, CloseReason::Drained);
    }
    assert_eq!(world.seen().closed.len(), 2);
}

#[test]
fn a_drain_lets_the_handler_say_goodbye_behind_the_answers() {
    let mut world = World::new();
    world.handler.closing = Some(Box::new(|_, connection| {
        assert!(connection.is_open());
        connection.write(b", goodbye");
    }));
    let (_, address) = world.listen();
    let mut clients = [connect(address), connect(address)];
    world.until_opened(2);
    clients[0].write_all(b"hello").unwrap();
    // This one is done before, and hears no more than its end.
    clients[1].shutdown(Shutdown::Write).unwrap();
    world.until_closed(1);
    world.context().drain(PATIENCE);
    let said = clients
        .each_mut()
        .map(|client| world.receive_to_end(client).0);
    assert_eq!(said, [b"hello, goodbye".to_vec(), vec![]]);
    drop(clients);
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 0 });
    let reasons: Vec<_> = world
        .seen()
        .closing
        .iter()
        .map(|closing| closing.1)
        .collect();
    assert_eq!(reasons, [CloseReason::Drained]);
}

#[test]
fn a_drain_serves_the_callers_in_the_backlog() {
    const CALLERS: usize = 150;
    for adopted in [false, true] {
        let mut world = World::with(Limits {
            accept_budget: 10,
            ..Limits::default()
        });
        let address = if adopted {
            let socket = TcpListener::bind(loopback()).unwrap();
            let address = socket.local_addr().unwrap();
            let options = ListenOptions::default();
            world.context().adopt_listener(socket, &options).unwrap();
            address
        } else {
            world.listen_with(&ListenOptions::new(loopback())).1
        };
        // std listens with a backlog of 128 where it binds itself.
        let callers = if adopted { 100 } else { CALLERS };
        let mut clients: Vec<_> = (0..callers).map(|_| connect(address)).collect();
        for client in &mut clients {
            client.write_all(b"let me in").unwrap();
        }
        world.context().drain(PATIENCE);
        for client in &mut clients {
            let (bytes, end) = world.receive_to_end(client);
            assert_eq!(bytes, b"let me in");
            end.unwrap();
        }
        drop(clients);
        assert_eq!(run_out(&mut world), Ended::Drained { cut: 0 });
        assert_eq!(world.stats().accepted, callers as u64);
    }
}

#[test]
fn a_drain_cuts_whoever_stays_at_its_deadline_and_says_how_many() {
    let mut world = World::with(Limits {
        linger_timeout: PATIENCE,
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.write(&[0; 8 << 20]);
        data.len()
    }));
    let (_, address) = world.listen_with(&ListenOptions {
        send_buffer: Some(4 << 10),
        ..ListenOptions::new(loopback())
    });
    let mut reads_nothing = connect(address);
    let stays = connect(address);
    let leaves = connect(address);
    world.until_opened(3);
    reads_nothing.write_all(b"x").unwrap();
    world.until("its output is pending", |world| world.stats().pending > 0);
    let start = Instant::now();
    world.reactor.handle().drain(Duration::from_millis(300));
    drop(leaves);
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 2 });
    assert!(start.elapsed() >= Duration::from_millis(300));
    let cut = |c: &&(_, _, CloseReason)| c.2 == CloseReason::Cut;
    assert_eq!(world.seen().closed.iter().filter(cut).count(), 2);
    let (_, end) = world.receive_to_end(&mut reads_nothing);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(stays);
}

#[test]
fn a_draining_reactor_opens_nothing_new() {
    let mut world = World::new();
    let (listener, address) = world.listen();
    let _client = connect(address);
    world.until_opened(1);
    world.context().drain(Duration::from_millis(100));
    assert!(world.context().is_draining());
    let options = ConnectOptions::new(address);
    let refused = world.context().connect(&options, 5).unwrap_err();
    let kind = refused.error.kind();
    assert_eq!((refused.session, kind), (5, ErrorKind::NotConnected));
    assert_eq!(std::io::Error::from(refused).kind(), kind);
    let error = world.context().listen(&ListenOptions::new(loopback()));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotConnected);
    let error = world.context().bind_udp(&UdpOptions::new(loopback()));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotConnected);
    let listening = TcpListener::bind(loopback()).unwrap();
    let options = ListenOptions::default();
    let mut context = world.context();
    assert!(context.adopt_listener(listening, &options).is_err());
    let bound = UdpSocket::bind(loopback()).unwrap();
    assert!(
        context
            .adopt_udp(bound, &UdpOptions::new(loopback()))
            .is_err()
    );
    world.turn();
    assert_eq!(world.context().listener_addr(listener), None);
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 1 });
}

#[test]
fn a_dial_under_way_fails_when_the_reactor_drains() {
    let mut silent = World::new();
    let (_, address) = silent.listen_with(&ListenOptions {
        backlog: 0,
        ..ListenOptions::new(loopback())
    });
    let mut world = World::new();
    for session in 0..4 {
        let options = ConnectOptions::new(address);
        world.context().connect(&options, session).unwrap();
    }
    world.settle();
    world.context().drain(Duration::from_millis(100));
    run_out(&mut world);
    let seen = world.seen();
    assert_eq!(seen.failed.len() + seen.closed.len(), 4);
    for (_, _, kind) in &seen.failed {
        assert_eq!(*kind, ErrorKind::ConnectionAborted);
    }
}

/// A word as the whole handler gets it: its length.
fn length(word: String) -> u64 {
    assert!(!word.is_empty(), "no word at all");
    word.into_bytes().len() as u64
}

#[test]
fn a_part_s_handle_posts_what_is_its_own_and_has_it_back_as_it_was() {
    let mut world = World::with(Limits {
        mailbox: 3,
        ..Limits::default()
    });
    let handle = world.reactor.handle();
    let words = handle.part(length);
    let letters = words.part(|letter: char| letter.to_string().repeat(5));
    handle.send(1).unwrap();
    words.send("ab".to_owned()).unwrap();
    letters.clone().send('c').unwrap();
    let full = words.send("abcd".to_owned());
    assert_eq!(full, Err(SendError::Full("abcd".to_owned())));
    assert_eq!(letters.send('e'), Err(SendError::Full('e')));
    let waits = thread::spawn({
        let letters = letters.clone();
        move || letters.send_wait('f')
    });
    world.until("there was room for the last", |world| {
        world.handler.seen.messages.len() == 4
    });
    assert_eq!(waits.join().unwrap(), Ok(()));
    assert_eq!(world.seen().messages, [1, 2, 5, 5]);

    letters.stop();
    assert_eq!(run_out(&mut world), Ended::Stopped);
    letters.drain(PATIENCE);
    assert_eq!(run_out(&mut world), Ended::Drained { cut: 0 });
    assert_eq!(letters.send('g'), Err(SendError::Gone('g')));
    drop(world);
    assert_eq!(
        words.send_wait("abc".to_owned()),
        Err("abc".to_owned()),
        "it's gone"
    );
}

#[test]
fn a_part_that_panics_over_its_message_harms_no_other() {
    let mut world = World::new();
    let words = world.reactor.handle().part(length);
    let caught = catch_unwind(|| words.send(String::new()));
    assert!(caught.is_err());
    words.send("abc".to_owned()).unwrap();
    world.until("the next is there", |world| {
        world.handler.seen.messages == [3]
    });
}

#[test]
fn a_handle_may_go_to_any_thread_and_through_a_panic() {
    fn may<T: Send + Sync + UnwindSafe + RefUnwindSafe>(_: &T) {}
    let handle = World::new().reactor.handle();
    may(&handle);
    may(&handle.part(length));
}
