//! Several protocols in one reactor.

use oread::{
    Accepted, Both, CloseReason, Connection, Context, Echo, EchoOptions, Handler, ListenOptions,
};

use super::peers::{ask, beside};

struct Status; // tells each client how many connections are open

impl Handler for Status {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        let open = connection.context().stats().open; // in the whole reactor
        writeln!(connection, "{open} open");
        connection.close(CloseReason::Closed);
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn each_listener_speaks_its_own_protocol() -> std::io::Result<()> {
    let mut reactor = oread::Reactor::new()?;

    let mut both = Both::new(Echo::new(EchoOptions::default()), Status);
    let mut context = reactor.context();
    let any = ListenOptions::new(([127, 0, 0, 1], 0));
    let echo = both.with_first(&mut context, |_, context| context.listen(&any))?;
    let status = both.with_second(&mut context, |_, context| context.listen(&any))?;

    let [echo, status] = [echo, status].map(|id| {
        let address = context.listener_addr(id).unwrap();
        address.socket_addr().unwrap()
    });
    let client = || {
        assert_eq!(ask(echo, "hello"), "hello");
        assert!(ask(status, "").ends_with(" open\n"));
    };
    let (_, ended) = beside(&reactor.handle(), client, || reactor.run(&mut both));
    ended.map(drop)
}
