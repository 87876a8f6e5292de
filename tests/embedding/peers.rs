//! The other ends of the programs, and a handler that several of them need.

/// An echo, for programs that need one.
pub(crate) struct Echo;

impl oread::Handler for Echo {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut oread::Context<'_, ()>, _: &oread::Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut oread::Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }
}

/// Serves `handler` on a listener of its own while `clients` runs in a thread, then stops; what
/// `clients` came to. A client that panics fails the test, and doesn't leave the reactor running.
pub(crate) fn serve<H: oread::Handler, T: Send>(
    handler: &mut H,
    clients: impl FnOnce(std::net::SocketAddr) -> T + Send,
) -> T {
    let mut reactor = oread::Reactor::new().unwrap();
    let address = listen(&mut reactor);
    beside(
        &reactor.handle(),
        || clients(address),
        || reactor.run(handler).unwrap(),
    )
    .0
}

/// Runs `clients` in a thread beside `run`, and stops the reactor of `handle` when they're done.
pub(crate) fn beside<M: Send + 'static, T: Send, R>(
    handle: &oread::Handle<M>,
    clients: impl FnOnce() -> T + Send,
    run: impl FnOnce() -> R,
) -> (T, R) {
    std::thread::scope(|scope| {
        let stop = StopAtEnd(handle.clone());
        let clients = scope.spawn(move || {
            let _stop = stop;
            clients()
        });
        let ended = run();
        (clients.join().unwrap(), ended)
    })
}

/// A listener on loopback; its address.
pub(crate) fn listen<H: oread::Handler>(reactor: &mut oread::Reactor<H>) -> std::net::SocketAddr {
    let mut context = reactor.context();
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = context
        .listen(&oread::ListenOptions::new(loopback))
        .unwrap();
    let address = context.listener_addr(listener).unwrap();
    address.socket_addr().unwrap()
}

/// Calls, says `words`, finishes, and reads to the end.
pub(crate) fn ask(address: std::net::SocketAddr, words: &str) -> String {
    use std::io::Write;
    let mut stream = call(address);
    stream.write_all(words.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// A connection whose reads fail rather than wait for good.
pub(crate) fn call(address: std::net::SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    let patience = std::time::Duration::from_secs(60);
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

/// Reads as many bytes as `words` has, which they must be.
pub(crate) fn expect(stream: &mut std::net::TcpStream, words: &str) {
    use std::io::Read;
    let mut came = vec![0; words.len()];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(String::from_utf8_lossy(&came), words);
}

/// Stops a reactor when it's dropped, by a panic too.
struct StopAtEnd<M: Send + 'static>(oread::Handle<M>);

impl<M: Send + 'static> Drop for StopAtEnd<M> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
