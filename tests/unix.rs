//! Unix sockets: what TCP has, they have, and a file, a name, and who is at the other end besides.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use common::{
    PATIENCE, Probe, World, connect_to as connect, loopback, pattern, write_until_blocked,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sendmsg, setsockopt,
    socket, sockopt,
};
use oread::{
    Address, CloseReason, ConnectOptions, ConnectionLimits, Credentials, Keepalive, Limits,
    ListenOptions, ListenerId,
};

/// A folder of the test's own, where sockets have their files.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let name = format!("oread-{test}-{}", std::process::id());
        // Paths of sockets must be short.
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A listener whose abstract name the system chooses; its address.
fn listen(world: &mut World) -> (ListenerId, Address) {
    let options = ListenOptions::new(Address::unix(""));
    let id = world.context().listen(&options).unwrap();
    (id, world.context().listener_addr(id).unwrap())
}

/// Listens, connects one client, and waits until it's open.
fn client(world: &mut World) -> TcpStream {
    let (_, address) = listen(world);
    let client = connect(&address);
    world.until_opened(1);
    client
}

#[test]
fn a_listener_has_its_file_with_its_mode_for_as_long_as_it_listens() {
    let folder = Folder::new("mode");
    let path = folder.path("x.sock");
    let mut world = World::new();
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let options = ListenOptions {
        mode: Some(0o640),
        uid: Some(user.as_raw()),
        gid: Some(group.as_raw()),
        ..ListenOptions::new(Address::unix(&path))
    };
    let id = world.context().listen(&options).unwrap();
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o640);
    assert_eq!((file.uid(), file.gid()), (user.as_raw(), group.as_raw()));
    let address = world.context().listener_addr(id).unwrap();
    assert_eq!(address, options.address);
    assert_eq!(address.to_string(), format!("unix:{}", path.display()));
    let mut client = connect(&address);
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
    world.context().close_listener(id);
    world.settle();
    assert!(!path.exists());
    // With the reactor its listeners are closed.
    world.context().listen(&options).unwrap();
    assert!(path.exists());
    drop(world);
    assert!(!path.exists());
}

#[test]
fn a_mode_or_an_owner_that_cannot_be_had_leaves_no_file_behind() {
    let folder = Folder::new("owner");
    let path = folder.path("x.sock");
    let mut world = World::new();
    let options = ListenOptions {
        uid: Some(u32::MAX - 1),
        unlink: false,
        ..ListenOptions::new(Address::unix(&path))
    };
    match world.context().listen(&options) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(!path.exists());
        }
        // Root may give it to anybody.
        Ok(_) => assert_eq!(fs::metadata(&path).unwrap().uid(), u32::MAX - 1),
    }
    let missing = folder.path("missing/x.sock");
    let options = ListenOptions::new(Address::unix(&missing));
    let error = world.context().listen(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_that_nobody_listens_at_is_replaced_and_any_other_stays() {
    let folder = Folder::new("stale");
    let (path, plain) = (folder.path("x.sock"), folder.path("plain"));
    let options = ListenOptions::new(Address::unix(&path));
    let mut world = World::new();
    drop(UnixListener::bind(&path).unwrap());
    let careful = ListenOptions {
        unlink: false,
        ..options.clone()
    };
    let error = world.context().listen(&careful).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let id = world.context().listen(&options).unwrap();
    // Somebody listens there now: this reactor.
    let error = world.context().listen(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    // It was asked without a connection.
    world.settle();
    assert_eq!(world.stats().accepted, 0);
    assert!(world.context().close_listener(id));
    world.settle();
    let id = world.context().listen(&careful).unwrap();
    world.context().close_listener(id);
    world.settle();
    assert!(path.exists(), "it was to be left");

    let datagrams = UnixDatagram::bind(folder.path("datagrams")).unwrap();
    File::create(&plain).unwrap().write_all(b"mine").unwrap();
    for taken in [folder.path("datagrams"), plain.clone()] {
        let options = ListenOptions::new(Address::unix(&taken));
        let error = world.context().listen(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(taken.exists());
    }
    assert_eq!(fs::read(&plain).unwrap(), b"mine");
    drop(datagrams);
}

#[test]
fn an_abstract_name_is_in_no_file_system_and_free_again_with_its_listener() {
    let name = format!("oread-name-{}", std::process::id());
    let address: Address = format!("unix:@{name}").parse().unwrap();
    let mut world = World::new();
    let options = ListenOptions::new(address.clone());
    let id = world.context().listen(&options).unwrap();
    assert_eq!(world.context().listener_addr(id), Some(address.clone()));
    let mut client = connect(&address);
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
    let error = world.context().listen(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    world.context().close_listener(id);
    world.settle();
    world.context().listen(&options).unwrap();
    let (_, chosen) = listen(&mut world);
    assert!(chosen.to_string().starts_with("unix:@"), "{chosen}");
    let long = ListenOptions::new(Address::unix("x".repeat(200)));
    let error = world.context().listen(&long).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ENAMETOOLONG as i32));
}

#[test]
fn each_end_is_told_who_is_at_the_other_one() {
    let us = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
        Some(std::process::id()),
    );
    let mut world = World::new();
    world.handler.accept = Some(Box::new(move |seen, _, caller| {
        let found = Credentials::of(caller.fd().unwrap()).unwrap();
        assert_eq!((found.uid, found.gid, found.pid), us);
        assert_eq!(caller.peer, Address::unix(""));
        assert_eq!(caller.local_addr().unwrap().socket_addr(), None);
        assert!(getsockopt(&caller.fd().unwrap(), sockopt::PeerCredentials).is_ok());
        seen.count += 1;
        Some(1)
    }));
    let (_, address) = listen(&mut world);
    let dialed = world
        .context()
        .connect(&ConnectOptions::new(address.clone()), 2);
    world.until_opened(2);
    let dialed = dialed.unwrap();
    let connection = world.connection(dialed).unwrap();
    let found = Credentials::of(&connection).unwrap();
    assert_eq!((found.uid, found.gid, found.pid), us);
    assert_eq!(connection.peer_addr().unwrap(), address);
    assert_eq!(connection.local_addr().unwrap(), Address::unix(""));
    assert_eq!(world.seen().count, 1);

    let mut world = World::new();
    world.handler.accept = Some(Box::new(|_, _, caller| {
        assert_eq!(
            Credentials::of(caller.fd().unwrap()).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            caller.local_addr().unwrap().socket_addr().unwrap().ip(),
            loopback().ip()
        );
        Some(0)
    }));
    let _client = world.client();
    let id = world.seen().opened[0];
    let error = Credentials::of(world.connection(id).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn what_says_who_may_connect_is_refused_where_it_cannot_be_had() {
    let mut world = World::new();
    let abstracted = Address::unix(format!("\0oread-refused-{}", std::process::id()));
    for address in [abstracted.clone(), Address::unix(""), loopback().into()] {
        let plain = ListenOptions::new(address);
        let (mut mode, mut uid, mut gid) = (plain.clone(), plain.clone(), plain);
        mode.mode = Some(0o600);
        uid.uid = Some(0);
        gid.gid = Some(0);
        for options in [mode, uid, gid] {
            let error = world.context().listen(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("mode, uid and gid"), "{error}");
        }
    }
    let shared = ListenOptions {
        reuse_port: true,
        ..ListenOptions::new(abstracted)
    };
    let error = world.context().listen(&shared).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no port"), "{error}");
}

#[test]
fn what_means_nothing_to_a_unix_socket_is_left_out() {
    let mut world = World::new();
    let listening = ListenOptions {
        only_v6: Some(true),
        keepalive: Some(Keepalive::default()),
        user_timeout: Some(Duration::from_secs(1)),
        send_buffer: Some(20_000),
        ..ListenOptions::new(Address::unix(""))
    };
    let id = world.context().listen(&listening).unwrap();
    let address = world.context().listener_addr(id).unwrap();
    let dialing = ConnectOptions {
        keepalive: listening.keepalive,
        user_timeout: listening.user_timeout,
        recv_buffer: Some(20_000),
        ..ConnectOptions::new(address)
    };
    world.context().connect(&dialing, 0).unwrap();
    world.until_opened(2);
    for id in world.seen().opened.clone() {
        let connection = world.connection(id).unwrap();
        connection.set_nodelay(true).unwrap();
        connection.set_keepalive(Keepalive::default()).unwrap();
        let buffers = (
            getsockopt(&connection, sockopt::SndBuf).unwrap(),
            getsockopt(&connection, sockopt::RcvBuf).unwrap(),
        );
        let dialed = connection.peer_addr().unwrap() != Address::unix("");
        assert!(if dialed { buffers.1 } else { buffers.0 } == 40_000);
    }
    let wrong = ConnectOptions {
        source: Some(loopback()),
        ..dialing
    };
    let refused = world.context().connect(&wrong, 7).unwrap_err();
    assert_eq!(
        (refused.session, refused.error.kind()),
        (7, ErrorKind::InvalidInput)
    );
}

/// The same as over TCP: `tests/tcp.rs`.
#[test]
fn a_hundred_megabytes_come_back_whole_to_a_client_that_reads_late_and_finishes_early() {
    const TOTAL: usize = 100_000_000;
    const BLOCK: usize = 64 << 10;
    let mut world = World::new();
    world.handler.forgetful = true;
    let mut receiver = client(&mut world);
    let mut sender = receiver.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let pattern = pattern(BLOCK + 251);
        let mut sent = 0;
        while sent < TOTAL {
            let count = BLOCK.min(TOTAL - sent);
            sender
                .write_all(&pattern[sent % 251..sent % 251 + count])
                .unwrap();
            sent += count;
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    world.until("the server stops reading", |world| {
        world.stats().pressure_pauses > 0
    });
    let receiving = std::thread::spawn(move || {
        let pattern = pattern(BLOCK + 251);
        let mut buffer = vec![0; BLOCK];
        let mut got = 0;
        loop {
            // Small bites at first, so that the server has to stop and go on many times.
            let bite = if got < 200_000 { 100 } else { BLOCK };
            let count = receiver.read(&mut buffer[..bite]).unwrap();
            if count == 0 {
                return got;
            }
            let expected = &pattern[got % 251..got % 251 + count];
            assert!(buffer[..count] == *expected, "wrong bytes after {got}");
            got += count;
        }
    });
    assert_eq!(world.until_closed(1), CloseReason::Finished);
    sending.join().unwrap();
    assert_eq!(receiving.join().unwrap(), TOTAL);
    let stats = world.stats();
    assert_eq!(
        (stats.bytes_in, stats.bytes_out),
        (TOTAL as u64, TOTAL as u64)
    );
}

#[test]
fn a_half_close_ends_one_direction_and_what_was_written_is_read_after_both_ends_are_closed() {
    let mut world = World::new();
    world.handler.eof = Some(Box::new(|_, connection| {
        connection.write(b"last words");
        connection.close(CloseReason::Closed);
    }));
    let mut stream = client(&mut world);
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(world.until_closed(1), CloseReason::Closed);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"hellolast words");

    // The other way round: our end first, and the peer goes on.
    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| connection.finish()));
    world.handler.data = Some(Box::new(|_, _, data| data.len()));
    let mut stream = client(&mut world);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    stream.write_all(b"still here").unwrap();
    world.until("it is read", |world| {
        world.handler.seen.bytes == b"still here"
    });
    drop(stream);
    assert_eq!(world.until_closed(1), CloseReason::Finished);
}

#[test]
fn a_peer_that_is_gone_with_our_bytes_unread_has_reset_the_connection_and_so_have_we() {
    let mut world = World::new();
    let mut stream = client(&mut world);
    stream.write_all(b"hello").unwrap();
    world.until("it is echoed", |world| world.handler.seen.bytes == b"hello");
    drop(stream);
    assert_eq!(world.until_closed(1), CloseReason::Reset);

    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| connection.pause()));
    let mut stream = client(&mut world);
    stream.write_all(b"hello").unwrap();
    let id = world.seen().opened[0];
    world.connection(id).unwrap().abort(CloseReason::Aborted);
    assert_eq!(world.until_closed(1), CloseReason::Aborted);
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    // Where all was read there is no reset to give: it's an end.
    let mut world = World::new();
    let mut stream = client(&mut world);
    assert_eq!(world.exchange(&mut stream, b"hello"), b"hello");
    let id = world.seen().opened[0];
    world.connection(id).unwrap().abort(CloseReason::Aborted);
    assert_eq!(world.until_closed(1), CloseReason::Aborted);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

/// A read stops behind descriptors that came along, whether or not they are wanted, and no edge
/// comes for what follows.
#[test]
fn bytes_around_descriptors_that_came_along_are_all_echoed() {
    let null = File::open("/dev/null").unwrap();
    for turns_between in [false, true] {
        let mut world = World::new();
        let mut stream = client(&mut world);
        stream.write_all(b"0123456789").unwrap();
        if turns_between {
            world.settle();
        }
        let fds = [null.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let (fd, byte) = (stream.as_raw_fd(), [IoSlice::new(b"!")]);
        let flags = MsgFlags::empty();
        assert_eq!(sendmsg::<()>(fd, &byte, &rights, flags, None), Ok(1));
        if turns_between {
            world.settle();
        }
        stream.write_all(b"abcdefghij").unwrap();
        assert_eq!(world.receive(&mut stream, 21), b"0123456789!abcdefghij");
        assert_eq!(world.exchange(&mut stream, b"and on"), b"and on");
    }
    // Dialed, and adopted.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut world = World::new();
    world.context().adopt(ours, 0).unwrap();
    world.until_opened(1);
    let fds = [null.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let (fd, byte) = (theirs.as_raw_fd(), [IoSlice::new(b"!")]);
    sendmsg::<()>(fd, &byte, &rights, MsgFlags::empty(), None).unwrap();
    theirs.write_all(b"more").unwrap();
    world.until("all is read", |world| world.handler.seen.bytes == b"!more");
}

#[test]
fn a_dial_to_nobody_fails_at_once_and_gives_its_session_back() {
    let folder = Folder::new("nobody");
    let path = folder.path("x.sock");
    let mut world = World::new();
    let dial = ConnectOptions::new(Address::unix(&path));
    let refused = world.context().connect(&dial, 7).unwrap_err();
    assert_eq!(
        (refused.session, refused.error.kind()),
        (7, ErrorKind::NotFound)
    );
    drop(UnixListener::bind(&path).unwrap());
    let refused = world.context().connect(&dial, 8).unwrap_err();
    assert_eq!(
        (refused.session, refused.error.kind()),
        (8, ErrorKind::ConnectionRefused)
    );
    // Where too many wait there is nothing to wait for: no event would come.
    let options = ListenOptions {
        backlog: 1,
        ..ListenOptions::new(Address::unix(&path))
    };
    let mut server = World::new();
    server.context().listen(&options).unwrap();
    let mut dial = || world.context().connect(&dial, 9).map(drop);
    let refused = (0..10).find_map(|_| dial().err()).unwrap();
    assert_eq!(refused.error.kind(), ErrorKind::WouldBlock);
    server.until_opened(1);
    dial().unwrap();
}

#[test]
fn a_blocked_peer_puts_a_unix_connection_under_pressure_as_any_other() {
    let mut world = World::with(Limits {
        write_timeout: Some(Duration::from_millis(200)),
        ..Limits::default()
    });
    world.handler.forgetful = true;
    let mut stream = client(&mut world);
    let mut sent = 0;
    world.until("the server stops reading", |world| {
        sent += write_until_blocked(&mut stream);
        world.stats().pressure_pauses > 0
    });
    assert!(sent > 0);
    assert_eq!(world.until_closed(1), CloseReason::WriteTimeout);
}

#[test]
fn a_drain_lets_in_who_waits_at_a_unix_socket_and_asks_no_further() {
    let mut world = World::new();
    let (_, address) = listen(&mut world);
    let mut clients = [(); 3].map(|()| connect(&address));
    clients
        .iter_mut()
        .for_each(|client| client.write_all(b"in time").unwrap());
    world.context().drain(PATIENCE);
    for client in &mut clients {
        let (bytes, end) = world.receive_to_end(client);
        assert_eq!(bytes, b"in time");
        end.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    assert_eq!(world.until_closed(3), CloseReason::Drained);
}

#[test]
fn sockets_of_others_are_taken_over_by_what_they_are() {
    let mut world = World::new();
    let options = ListenOptions::default();
    let kind =
        |result: Result<_, std::io::Error>| result.map(|_: ListenerId| ()).unwrap_err().kind();
    let (stream, mut other) = UnixStream::pair().unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let bound = UnixDatagram::unbound().unwrap();
    let mut context = world.context();
    let stream_as_listener = context.adopt_listener(stream.try_clone().unwrap(), &options);
    assert_eq!(kind(stream_as_listener), ErrorKind::InvalidInput);
    let datagrams_as_listener = context.adopt_listener(datagrams.try_clone().unwrap(), &options);
    assert_eq!(kind(datagrams_as_listener), ErrorKind::InvalidInput);
    let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
    let unbound = socket(family, SockType::Stream, flags, None).unwrap();
    let unbound_as_listener = context.adopt_listener(unbound, &options);
    assert_eq!(kind(unbound_as_listener), ErrorKind::InvalidInput);
    let file_as_listener = context.adopt_listener(File::open("/dev/null").unwrap(), &options);
    assert_eq!(kind(file_as_listener), ErrorKind::InvalidInput);
    let udp = oread::UdpOptions::new(loopback());
    assert!(context.adopt_udp(bound, &udp).is_err());
    assert!(
        context
            .adopt_udp(stream.try_clone().unwrap(), &udp)
            .is_err()
    );
    let refused = context.adopt(datagrams, 5).unwrap_err();
    assert_eq!(
        (refused.session, refused.error.kind()),
        (5, ErrorKind::InvalidInput)
    );
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    assert_eq!(
        context.adopt(listener, 6).unwrap_err().error.kind(),
        ErrorKind::NotConnected
    );
    let id = context.adopt(stream, 7).unwrap();
    world.until_opened(1);
    assert_eq!(world.seen().opened, [id]);
    other.write_all(b"hello").unwrap();
    world.until("it is echoed", |world| world.handler.seen.bytes == b"hello");
}

#[test]
fn what_an_adopted_connection_is_to_be_like_is_set_before_its_first_event() {
    let mut world = World::new();
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    other.write_all(b"hello").unwrap();
    let limits = ConnectionLimits {
        max_input: 4,
        write_timeout: Some(Duration::from_secs(2)),
        ..Limits::default().of_connection()
    };
    let id = world.context().adopt(stream, 7).unwrap();
    let mut connection = world.connection(id).unwrap();
    connection.set_limits(limits).unwrap();
    connection.set_nodelay(true).unwrap();
    connection.set_keepalive(Keepalive::default()).unwrap();
    setsockopt(&connection, sockopt::SndBuf, &30_000).unwrap();
    assert_eq!(connection.limits(), limits);
    let fd = connection.as_fd();
    assert!(getsockopt(&fd, sockopt::TcpNoDelay).unwrap());
    assert_eq!(getsockopt(&fd, sockopt::TcpKeepIdle).unwrap(), 60);
    assert_eq!(getsockopt(&fd, sockopt::TcpUserTimeout).unwrap(), 3_000);
    assert_eq!(getsockopt(&fd, sockopt::SndBuf).unwrap(), 60_000);
    // The limits are those of its first read.
    world.handler.data = Some(Box::new(|_, _, _| 0));
    assert_eq!(world.until_closed(1), CloseReason::InputOverflow);
}

#[test]
fn the_connections_of_an_adopted_listener_are_as_its_options_say() {
    let mut world = World::new();
    let keepalive = Keepalive {
        idle: Duration::from_secs(41),
        ..Keepalive::default()
    };
    let options = ListenOptions {
        keepalive: Some(keepalive),
        send_buffer: Some(30_000),
        backlog: 3,
        ..ListenOptions::default()
    };
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let id = world.context().adopt_listener(listener, &options).unwrap();
    assert_eq!(world.context().listener_addr(id), Some(address.into()));
    assert_eq!(world.context().listener_backlog(id), Some(3));
    let _client = common::connect(address);
    world.until_opened(1);
    let opened = world.seen().opened[0];
    let connection = world.connection(opened).unwrap();
    let fd = connection.as_fd();
    assert!(getsockopt(&fd, sockopt::TcpNoDelay).unwrap());
    assert!(getsockopt(&fd, sockopt::KeepAlive).unwrap());
    assert_eq!(getsockopt(&fd, sockopt::TcpKeepIdle).unwrap(), 41);
    assert_eq!(getsockopt(&fd, sockopt::SndBuf).unwrap(), 60_000);
    // 41 s of silence and six probes of ten: the keepalive's own time.
    assert_eq!(getsockopt(&fd, sockopt::TcpUserTimeout).unwrap(), 101_000);
    // What the system offers beyond this can be asked.
    let mss = getsockopt(&fd, sockopt::TcpMaxSeg).unwrap();
    assert!(mss > 500, "{mss}");
    let listening = world.context();
    let listening = listening.listener_fd(id).unwrap();
    assert!(getsockopt(&listening, sockopt::AcceptConn).unwrap());
}

#[test]
fn a_listener_is_handed_to_a_successor_and_nobody_who_connects_notices() {
    let folder = Folder::new("successor");
    let path = folder.path("x.sock");
    let mut old = World::new();
    let options = ListenOptions::new(Address::unix(&path));
    let id = old.context().listen(&options).unwrap();
    let address = old.context().listener_addr(id).unwrap();
    let mut first = connect(&address);
    old.until_opened(1);
    let waits = connect(&address);
    let context = old.context();
    let duplicate = context.listener_fd(id).unwrap().try_clone_to_owned();
    let mut new: World<Probe> = World::new();
    let adopted = new.context().adopt_listener(duplicate.unwrap(), &options);
    adopted.unwrap();
    old.context().close_listener(id);
    // Somebody listens at the file still.
    assert!(path.exists());
    let later = connect(&address);
    for mut client in [waits, later] {
        assert_eq!(
            new.exchange(&mut client, b"to the new one"),
            b"to the new one"
        );
    }
    assert_eq!(
        old.exchange(&mut first, b"to the old one"),
        b"to the old one"
    );
    drop(new);
    // Whoever has the listener last removes its file.
    assert!(!path.exists());
}

#[test]
fn all_who_wait_are_let_in_when_a_unix_socket_is_closed() {
    let mut world = World::new();
    let folder = Folder::new("closing");
    let options = ListenOptions {
        backlog: 1,
        ..ListenOptions::new(Address::unix(folder.path("x.sock")))
    };
    let id = world.context().listen(&options).unwrap();
    let address = world.context().listener_addr(id).unwrap();
    // One more than the number says may wait.
    let waiting = [connect(&address), connect(&address)];
    assert!(world.context().close_listener(id));
    for mut client in waiting {
        assert_eq!(world.exchange(&mut client, b"in"), b"in");
    }
}
