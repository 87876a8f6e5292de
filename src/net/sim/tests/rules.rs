//! What the model says of itself, rule by rule. Those of datagrams are in `datagrams.rs`.

use std::io::ErrorKind;

use super::*;
use crate::nonblocking::Stream;

/// Reads what there is.
fn read(stream: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut buffer = vec![0; 100_000];
    let count = stream.read(&mut buffer).map_err(|error| error.kind())?;
    buffer.truncate(count);
    Ok(buffer)
}

/// Reads all that comes, to the end.
fn read_to_end(host: &Machine, stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match read(stream) {
            Ok(bytes) if bytes.is_empty() => return all,
            Ok(bytes) => all.extend(bytes),
            Err(ErrorKind::WouldBlock | ErrorKind::NotFound) => host.settle(),
            Err(error) => panic!("{error:?} after {} bytes", all.len()),
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let net = Net::with(seed, Settings::default(), Faults::drawn(seed, |_| true));
        net.trace(true);
        let mut host = Machine::on(net, Poller::Epoll);
        let to = address("10.0.0.1:80");
        for _ in 0..5 {
            let peer = host.net.connect_peer(to);
            peer.send(&[7; 5_000]);
            peer.finish();
        }
        let mut streams = Vec::new();
        for _ in 0..60 {
            let timeout = Some(Duration::from_millis(5));
            host.system.wait(&mut host.events, timeout).unwrap();
            if let Ok((mut stream, _)) = host.listener.accept() {
                let _ = host.system.register_stream(&mut stream, streams.len());
                streams.push(stream);
            }
            for stream in &mut streams {
                if let Ok(bytes) = read(stream) {
                    let _ = stream.write(&bytes);
                }
            }
        }
        host.net.traced()
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}

#[test]
fn bytes_arrive_in_order_through_small_buffers_and_the_end_comes_behind_them() {
    for seed in 0..50 {
        let net = Net::new(seed);
        net.set_fault(Fault::SmallBuffers, 1_000_000);
        let mut host = Machine::on(net, Poller::Epoll);
        let (peer, mut stream) = host.accept(0);
        let bytes: Vec<u8> = (0..20_000).map(|n| n as u8).collect();
        peer.send(&bytes);
        peer.finish();
        assert_eq!(read_to_end(&host, &mut stream), bytes, "seed {seed}");
        assert_eq!(read(&mut stream), Ok(Vec::new()));
        host.settle();
        let all = peer.ledger(|ledger| (ledger.acknowledged, ledger.finish_acknowledged));
        assert_eq!(all, (20_000, true));
    }
}

#[test]
fn what_a_peer_does_not_read_fills_the_buffers_and_room_is_told_of_only_to_whoever_found_none() {
    let mut host = Machine::new(1, Poller::Epoll);
    let (peer, mut stream) = host.accept(0);
    peer.read(Reading::Nothing);
    host.told(0);
    let mut sent = 0;
    loop {
        match stream.write(&[1; 10_000]) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                let before = sent;
                host.settle();
                if let Ok(count) = stream.write(&[1; 10_000]) {
                    sent += count;
                }
                if sent == before {
                    break;
                }
            }
        }
    }
    assert!(stream.in_flight().unwrap() > 0);
    host.told(0);
    assert_eq!(host.told(0), Readiness::EMPTY);
    peer.read(Reading::All);
    host.settle();
    assert!(host.told(0).contains(Readiness::WRITABLE));
    assert_eq!(peer.received().len(), sent);
    assert_eq!(stream.in_flight(), Some(0));
    stream.write(&[1]).unwrap();
    host.settle();
    assert_eq!(host.told(0), Readiness::EMPTY, "room was not looked for");
}

#[test]
fn a_full_backlog_drops_a_dial_which_comes_again() {
    let net = Net::new(3);
    let system = net.process(Poller::Epoll).system().unwrap();
    let at = ListenOptions {
        backlog: 1,
        ..ListenOptions::new(address("10.0.0.1:80"))
    };
    let listener = system.listen(&at, None).unwrap();
    let to = inet(&at.address).unwrap();
    let peers: Vec<Peer> = (0..4).map(|_| net.connect_peer(to)).collect();
    net.advance(Duration::from_millis(500));
    assert!(listener.accept().is_ok() && listener.accept().is_ok());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    net.advance(Duration::from_secs(10));
    assert!(listener.accept().is_ok() && listener.accept().is_ok());
    let connected = |peer: &Peer| peer.ledger(|ledger| ledger.connected.is_some());
    assert!(peers.iter().all(connected));
}

#[test]
fn a_dial_where_nobody_listens_is_refused_and_one_to_a_host_that_is_gone_times_out() {
    let net = Net::new(3);
    let system = net.process(Poller::Epoll).system().unwrap();
    let dial = |to| {
        let options = ConnectOptions::new(address(to));
        let mut stream = system.dial(&options).unwrap();
        system.register_stream(&mut stream, 1).unwrap();
        stream
    };
    let refused = dial("10.0.0.9:1");
    net.advance(Duration::from_secs(1));
    let error = refused.established().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    net.vanish_host("10.0.0.8".parse().unwrap());
    let gone = dial("10.0.0.8:1");
    net.advance(Duration::from_secs(120));
    assert!(!gone.established().unwrap());
    net.advance(Duration::from_secs(10));
    assert_eq!(gone.established().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_dial_that_is_there_at_once_is_answered_once_and_resets_nobody_after_a_good_end() {
    for seed in 0..20 {
        let ms = Duration::from_millis(1);
        let host = Machine::new(seed, Poller::Epoll);
        host.net.latency(ms..=ms);
        host.net.fault_at(Fault::ConnectAtOnce, 1);
        // A second answer would come late.
        host.net.fault_at(Fault::LatencySpike, 1);
        let to = ConnectOptions::new(address("10.0.0.1:80"));
        let (mut dialled, mut accepted) = host.dial(&to);
        dialled.shutdown_write().unwrap();
        host.net.advance(10 * ms);
        assert_eq!(read(&mut accepted), Ok(Vec::new()));
        accepted.shutdown_write().unwrap();
        // The dialled end is over long before the accepted one knows.
        host.net.latency(4_000 * ms..=4_000 * ms);
        host.net.advance(10 * ms);
        assert_eq!(read(&mut dialled), Ok(Vec::new()));
        host.net.advance(10_000 * ms);
        let error = accepted.take_error().unwrap();
        assert!(error.is_none(), "seed {seed}: {error:?}");
    }
}

#[test]
fn a_vanished_peer_is_given_up_after_the_user_timeout_or_fifteen_minutes_and_never_while_idle() {
    for (asked, seconds) in [(Some(Duration::from_secs(30)), 31), (None, 930)] {
        let mut host = Machine::new(4, Poller::Epoll);
        let (peer, mut stream) = host.accept(0);
        let timeout = crate::options::UserTimeout {
            asked,
            before: None,
            by_default: None,
        };
        stream.set_user_timeout(timeout).unwrap();
        peer.vanish();
        host.net.advance(Duration::from_secs(5_000));
        assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
        stream.write(b"are you there?").unwrap();
        host.net.advance(Duration::from_secs(seconds - 10));
        assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
        host.net.advance(Duration::from_secs(10));
        assert!(host.told(0).contains(Readiness::ERROR));
        assert_eq!(read(&mut stream), Err(ErrorKind::TimedOut));
    }
}

#[test]
fn keepalive_finds_a_vanished_peer_out() {
    let mut host = Machine::new(4, Poller::Epoll);
    let (peer, mut stream) = host.accept(0);
    stream
        .set_keepalive(crate::options::Keepalive::default())
        .unwrap();
    host.net.advance(Duration::from_secs(1_000));
    assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
    peer.vanish();
    host.net.advance(Duration::from_secs(121));
    assert_eq!(read(&mut stream), Err(ErrorKind::TimedOut));
}

#[test]
fn what_a_partition_holds_up_arrives_when_it_is_over() {
    let mut host = Machine::new(5, Poller::Epoll);
    let (peer, mut stream) = host.accept(0);
    let (own, other) = peer.addresses().unwrap();
    host.net.partition(own.ip(), other.ip());
    peer.send(b"late");
    stream.write(b"too").unwrap();
    host.net.advance(Duration::from_secs(19));
    assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
    assert!(stream.in_flight().unwrap() > 0);
    host.net.heal(own.ip(), other.ip());
    host.net.advance(Duration::from_secs(60));
    assert_eq!(read(&mut stream), Ok(b"late".to_vec()));
    assert_eq!(peer.received(), b"too");
    assert_eq!(stream.in_flight(), Some(0));
}

#[test]
fn a_wait_without_end_with_nothing_to_come_is_an_error_that_says_for_what() {
    let mut host = Machine::new(6, Poller::Epoll);
    let (_peer, _stream) = host.accept(0);
    host.told(0);
    let error = host.system.wait(&mut host.events, None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("nothing will ever happen"), "{text}");
    assert!(text.contains("l0") && text.contains("c0.1"), "{text}");
}

#[test]
fn a_wait_ends_with_its_timeout_in_whole_milliseconds() {
    let mut host = Machine::new(6, Poller::Epoll);
    let before = host.net.elapsed();
    let timeout = Some(Duration::from_micros(1_100));
    host.system.wait(&mut host.events, timeout).unwrap();
    assert_eq!(host.net.elapsed() - before, Duration::from_millis(2));
}

#[test]
fn a_signal_interrupts_a_wait_at_its_beginning_or_later_and_not_one_that_does_not_wait() {
    let (mut at_once, mut later) = (0, 0);
    for seed in 0..50 {
        let mut host = Machine::new(seed, Poller::Epoll);
        host.net.fault_at(Fault::WaitInterrupted, 1);
        host.system
            .wait(&mut host.events, Some(Duration::ZERO))
            .unwrap();
        assert_eq!(host.net.faults_met(), []);
        let (second, before) = (Duration::from_secs(1), host.net.elapsed());
        host.system.wait(&mut host.events, Some(second)).unwrap();
        assert!(host.events.is_empty());
        match host.net.elapsed() - before {
            Duration::ZERO => at_once += 1,
            waited => {
                assert!(waited < second, "{waited:?}");
                later += 1;
            }
        }
    }
    assert!(at_once > 10 && later > 10, "{at_once}, {later}");
}

#[test]
fn kqueue_tells_reading_and_writing_apart_and_reads_say_a_reset_after_the_end() {
    let mut host = Machine::new(7, Poller::Kqueue);
    let (peer, mut stream) = host.accept(0);
    host.told(0);
    peer.send(b"x");
    host.settle();
    host.system
        .wait(&mut host.events, Some(Duration::ZERO))
        .unwrap();
    let events: Vec<_> = host.events.iter().map(|event| event.readiness()).collect();
    // No word of what may be written; and urgent data may be there, of which nothing would tell.
    assert_eq!(events, [Readiness::READABLE | Readiness::PRIORITY]);
    assert_eq!(read(&mut stream), Ok(b"x".to_vec()));
    peer.finish();
    host.settle();
    assert!(host.told(0).contains(Readiness::READ_CLOSED));
    assert_eq!(read(&mut stream), Ok(Vec::new()));
    peer.reset();
    host.settle();
    assert!(host.told(0).contains(Readiness::ERROR));
    assert_eq!(
        stream.write(b"y").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    assert_eq!(read(&mut stream), Err(ErrorKind::ConnectionReset));
    assert_eq!(stream.in_flight(), None);
}

#[test]
fn poll2_tells_once_until_a_call_has_said_not_now_and_drops_at_a_hang_up() {
    let mut host = Machine::new(8, Poller::Poll2);
    let (peer, mut stream) = host.accept(0);
    assert_eq!(host.told(0), Readiness::WRITABLE);
    peer.send(b"ab");
    host.settle();
    assert_eq!(host.told(0), Readiness::READABLE);
    let mut one = [0; 1];
    stream.read(&mut one).unwrap();
    peer.send(b"c");
    host.settle();
    assert_eq!(host.told(0), Readiness::EMPTY, "nothing was armed");
    assert_eq!(read(&mut stream), Ok(b"bc".to_vec()));
    assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
    // Both interests are there again.
    assert_eq!(host.told(0), Readiness::WRITABLE);
    peer.reset();
    host.settle();
    let told = host.told(0);
    assert!(
        told.contains(Readiness::ERROR | Readiness::READ_CLOSED),
        "{told:?}"
    );
    assert_eq!(read(&mut stream), Err(ErrorKind::ConnectionReset));
    assert!(!stream.short_is_blocked());
}

#[test]
fn what_a_fault_holds_back_comes_with_an_event() {
    for fault in [Fault::ReadBlocked, Fault::ReadShort] {
        let mut host = Machine::new(9, Poller::Epoll);
        let (peer, mut stream) = host.accept(0);
        peer.send(&[3; 100]);
        host.settle();
        host.told(0);
        host.net.fault_at(fault, 1);
        let first = read(&mut stream).map_or(0, |bytes| bytes.len());
        assert!(first < 100, "{fault:?}");
        host.settle();
        assert!(host.told(0).contains(Readiness::READABLE), "{fault:?}");
        assert_eq!(read(&mut stream).unwrap().len(), 100 - first);
    }
}

#[test]
fn what_is_behind_an_exactly_full_read_arrives_right_after_whoever_reads_it_when() {
    for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
        let mut host = Machine::new(9, poller);
        let (peer, mut stream) = host.accept(0);
        let mut full = [0; 10];
        for reads_at_once in [true, false] {
            peer.send(&[3; 100]);
            host.settle();
            host.told(0);
            host.net.fault_at(Fault::ReadFull, 1);
            assert_eq!(stream.read(&mut full).unwrap(), 10);
            if reads_at_once {
                assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
                let early = host.told(0);
                assert!(
                    !early.contains(Readiness::READABLE),
                    "{poller:?}: {early:?}"
                );
            }
            host.settle();
            if reads_at_once || poller != Poller::Poll2 {
                assert!(host.told(0).contains(Readiness::READABLE), "{poller:?}");
            }
            assert_eq!(read(&mut stream), Ok(vec![3; 90]), "{poller:?}");
        }
    }
}

/// A stream at which a peer's 100 bytes are, of which ten were read: exactly as many as were asked
/// for. What is behind them is to arrive right after.
fn read_full(peer: impl Fn(&Peer)) -> (Machine, Peer, TcpStream) {
    let mut host = Machine::new(9, Poller::Epoll);
    let (sender, mut stream) = host.accept(0);
    host.net.latency(Duration::ZERO..=Duration::ZERO);
    sender.send(&[3; 100]);
    peer(&sender);
    host.settle();
    host.told(0);
    host.net.fault_at(Fault::ReadFull, 1);
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
    (host, sender, stream)
}

#[test]
fn what_is_behind_an_exactly_full_read_is_there_before_what_arrives_after_it() {
    let (mut host, peer, mut stream) = read_full(|_| ());
    assert_eq!(read(&mut stream), Err(ErrorKind::WouldBlock));
    peer.send(b"more");
    host.net.advance(Duration::ZERO);
    assert!(host.told(0).contains(Readiness::READABLE));
    assert_eq!(read(&mut stream), Ok([&[3; 90], &b"more"[..]].concat()));
}

#[test]
fn what_is_behind_an_exactly_full_read_is_there_before_a_reset() {
    let (mut host, _peer, mut stream) = read_full(|_| ());
    host.net.fault_at(Fault::ResetBeforeWrite, 1);
    let reset = stream.write(b"x").unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert!(host.told(0).contains(Readiness::READABLE));
    assert_eq!(read(&mut stream), Ok(vec![3; 90]));
    assert_eq!(read(&mut stream), Ok(Vec::new()));
}

#[test]
fn nothing_is_held_back_behind_an_exactly_full_read_where_what_comes_after_it_is_known_of() {
    let afterwards: [fn(&Peer); 3] = [Peer::finish, Peer::reset, |peer| peer.send_urgent(b'!')];
    for after in afterwards {
        let (host, _peer, mut stream) = read_full(after);
        assert_eq!(read(&mut stream), Ok(vec![3; 90]));
        assert!(!host.net.faults_met().contains(&Fault::ReadFull));
    }
}

#[test]
fn who_reads_on_learns_that_its_peer_has_given_up_before() {
    let mut host = Machine::new(4, Poller::Epoll);
    let (peer, mut stream) = host.accept(0);
    peer.read(Reading::Nothing);
    let timeout = crate::options::UserTimeout {
        asked: Some(Duration::from_secs(30)),
        before: None,
        by_default: None,
    };
    stream.set_user_timeout(timeout).unwrap();
    while stream.write(&[1; 10_000]).is_ok() {
        host.settle();
    }
    host.net.advance(Duration::from_secs(100));
    assert_eq!(read(&mut stream), Err(ErrorKind::TimedOut));
    let failed = |ledger: &Ledger| ledger.failed.map(|(_, error)| error);
    assert_eq!(peer.ledger(failed), None, "nothing was sent");
    peer.read(Reading::All);
    host.settle();
    assert_eq!(peer.ledger(failed), Some(Errno::ECONNRESET));
}

#[test]
fn who_has_finished_in_good_order_resets_nobody_whose_window_opens_after_that() {
    let ms = Duration::from_millis(1);
    let host = Machine::new(4, Poller::Epoll);
    host.net.latency(ms..=ms);
    let options = ConnectOptions {
        recv_buffer: Some(2_000),
        ..ConnectOptions::new(address("10.0.0.1:80"))
    };
    let (mut dialled, mut accepted) = host.dial(&options);
    assert_eq!(accepted.write(&[1; 2_000]).unwrap(), 2_000);
    accepted.shutdown_write().unwrap();
    host.settle();
    // The accepted end is over as soon as this end is there, and the dialled one when it hears so.
    dialled.shutdown_write().unwrap();
    host.net.fault_at(Fault::AckDelayed, 1);
    host.net.advance(2 * ms);
    assert_eq!(read(&mut dialled), Ok(vec![1; 2_000]));
    host.settle();
    assert_eq!(host.net.faults_met(), [Fault::AckDelayed]);
    assert!(dialled.take_error().unwrap().is_none());
}

#[test]
fn an_end_that_could_not_be_sent_is_sent_a_while_later() {
    let mut host = Machine::new(5, Poller::Epoll);
    let (peer, mut stream) = host.accept(1);
    host.net.fault_at(Fault::ShutdownFails, 1);
    let error = stream.shutdown_write().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ENOBUFS as i32));
    // It's the end of what is written all the same.
    let error = stream.write(b"more").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EPIPE as i32));
    host.settle();
    assert!(!peer.has_ended());
    host.net.advance(Duration::from_millis(200));
    assert!(peer.has_ended() && !peer.was_reset());
}

#[test]
fn a_process_that_is_out_of_descriptors_accepts_nobody() {
    let net = Net::new(10);
    let process = net.process(Poller::Epoll);
    process.descriptors(2);
    let system = process.system().unwrap();
    let at = ListenOptions::new(address("10.0.0.1:80"));
    let listener = system.listen(&at, None).unwrap();
    for _ in 0..2 {
        net.connect_peer(inet(&at.address).unwrap());
    }
    net.advance(Duration::from_secs(1));
    let (first, _) = listener.accept().unwrap();
    let error = listener.accept().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EMFILE as i32));
    assert_eq!(process.sockets(), 2);
    drop(first);
    assert!(listener.accept().is_ok());
}

#[test]
fn a_waker_ends_a_wait_and_several_wakes_are_one_event() {
    let mut host = Machine::new(12, Poller::Epoll);
    let (waker, _woken) = host.system.waker(7).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| (0..3).for_each(|_| waker.wake().unwrap()));
    });
    host.system.wait(&mut host.events, None).unwrap();
    let tokens: Vec<usize> = host.events.iter().map(|event| event.token()).collect();
    assert_eq!(tokens, [7]);
    assert_eq!(host.told(7), Readiness::EMPTY);
}

#[test]
fn two_processes_in_rotation_talk_to_each_other_without_bounds_on_their_waits() {
    let net = Net::new(13);
    let mut one = Machine::on(net.clone(), Poller::Epoll);
    let mut other = net.process(Poller::Epoll).system().unwrap();
    let to = ConnectOptions::new(address("10.0.0.1:80"));
    let mut dialled = other.dial(&to).unwrap();
    other.register_stream(&mut dialled, 1).unwrap();
    let mut events = Events::with_capacity(8);
    let mut accepted = None;
    let mut turns = 0;
    while accepted.is_none() || !dialled.established().unwrap() {
        turns += 1;
        assert!(turns < 20);
        other.wait(&mut events, None).unwrap();
        if accepted.is_none() {
            one.system.wait(&mut one.events, None).unwrap();
            accepted = one.listener.accept().ok();
        }
    }
    assert!(net.elapsed() < Duration::from_secs(1));
}
