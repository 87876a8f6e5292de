//! A handler that dials, in a simulated network.

use oread::sim::{Fault, World};
use oread::{ConnectOptions, Connection, ConnectionId, Context, Handler, Limits};

#[derive(Default)]
struct Client {
    heard: Vec<u8>,
    failed: u32,
}

impl Handler for Client {
    type Session = ();
    type Message = ();

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.heard.extend_from_slice(data);
        data.len()
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Context<'_, ()>,
        _: ConnectionId,
        _: (),
        _: std::io::Error,
    ) {
        self.failed += 1;
    }
}

#[test]
fn of_two_dials_the_first_is_refused() -> std::io::Result<()> {
    let mut world = World::new(7);
    let address = ([10, 0, 0, 2], 80).into();
    let server = world.listen(address);
    let mut host = world.host(Client::default(), Limits::default())?;
    world.fault(Fault::ConnectRefused, 1); // at its first chance
    for _ in 0..2 {
        host.context().connect(&ConnectOptions::new(address), ())?;
    }
    world.settle(&mut host)?;
    let peer = server.accept().expect("the second one");
    peer.send(b"hello");
    world.settle(&mut host)?;
    assert_eq!(
        (host.handler.failed, host.handler.heard.as_slice()),
        (1, &b"hello"[..])
    );
    Ok(())
}
