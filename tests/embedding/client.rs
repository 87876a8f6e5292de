//! Dialing out.

use std::io;
use std::net::SocketAddr;

use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Handler, Reactor,
};

#[derive(Default)]
struct Client {
    answer: Vec<u8>,
    error: Option<io::Error>,
}

impl Handler for Client {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None // there's no listener
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.answer.extend_from_slice(data);
        data.len()
    }

    fn on_close(&mut self, context: &mut Context<'_, ()>, _: ConnectionId, _: (), _: CloseReason) {
        context.stop(); // or `run` would go on for ever
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, ()>,
        _: ConnectionId,
        _: (),
        error: io::Error,
    ) {
        self.error = Some(error);
        context.stop();
    }
}

fn ask(server: SocketAddr) -> io::Result<Client> {
    let (mut reactor, mut client) = (Reactor::new()?, Client::default());
    let mut context = reactor.context();
    let id = context.connect(&ConnectOptions::new(server), ())?; // an error holds the session
    if let Some(mut connection) = context.connection(id) {
        connection.write(b"hello");
        connection.finish(); // nothing follows; we still read
    }
    reactor.run(&mut client)?;
    Ok(client)
}

#[test]
fn a_client_hears_the_whole_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut copy = stream.try_clone().unwrap();
        io::copy(&mut copy, &mut stream).unwrap();
    });
    let client = ask(server).unwrap();
    echo.join().unwrap();
    assert_eq!(client.answer, b"hello");
    assert!(client.error.is_none());
}
