//! One connection into another.

use std::net::SocketAddr;

use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Handler, Pressure,
};

use super::peers::{Echo, call, serve};

struct Proxy {
    upstream: SocketAddr,
}

type Other = Option<ConnectionId>; // the session

fn other<'a>(connection: &'a mut Connection<'_, Other>) -> Option<Connection<'a, Other>> {
    let id = (*connection.session())?;
    connection.context().connection(id)
}

impl Handler for Proxy {
    type Session = Other;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Other>, _: &Accepted) -> Option<Other> {
        Some(None)
    }

    fn on_open(&mut self, client: &mut Connection<'_, Other>) {
        if client.session().is_some() {
            return; // this is the upstream's own `on_open`
        }
        client.read_on(true);
        let (options, id) = (ConnectOptions::new(self.upstream), client.id());
        match client.context().connect(&options, Some(id)) {
            Ok(upstream) => *client.session_mut() = Some(upstream),
            // An end would look as if the upstream had nothing to say.
            Err(_) => client.abort(CloseReason::Aborted),
        }
    }

    fn on_data(&mut self, from: &mut Connection<'_, Other>, data: &[u8]) -> usize {
        if other(from).is_some_and(|mut to| to.write(data) == Pressure::High) {
            from.pause(); // all of `data` was taken; no more for now
        }
        data.len()
    }

    fn on_drained(&mut self, to: &mut Connection<'_, Other>) {
        if let Some(mut from) = other(to) {
            from.resume();
        }
    }

    fn on_eof(&mut self, from: &mut Connection<'_, Other>, _: &[u8]) {
        if let Some(mut to) = other(from) {
            to.finish(); // this direction is at its end, the other one goes on
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, Other>,
        _: ConnectionId,
        other: Other,
        why: CloseReason,
    ) {
        // After an orderly end the other side ends by itself. A cut must not look like an end.
        if let Some(mut other) = other.and_then(|id| context.connection(id))
            && why != CloseReason::Finished
        {
            other.abort(CloseReason::Aborted);
        }
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, Other>,
        _: ConnectionId,
        other: Other,
        _: std::io::Error,
    ) {
        if let Some(mut client) = other.and_then(|id| context.connection(id)) {
            client.abort(CloseReason::Aborted); // nothing else would end it
        }
    }

    fn on_closing(&mut self, one: &mut Connection<'_, Other>, _: CloseReason) {
        one.stay_open(); // a drain waits for what the other side still sends, up to its deadline
    }
}

#[test]
fn sixteen_megabytes_go_through_and_come_back() {
    let sent = "0123456789abcdef".repeat(1 << 20);
    serve(&mut Echo, |upstream| {
        serve(&mut Proxy { upstream }, |address| {
            let mut stream = call(address);
            let mut half = stream.try_clone().unwrap();
            let came = std::thread::scope(|scope| {
                let read = scope.spawn(|| std::io::read_to_string(&mut stream).unwrap());
                std::io::Write::write_all(&mut half, sent.as_bytes()).unwrap();
                half.shutdown(std::net::Shutdown::Write).unwrap();
                read.join().unwrap()
            });
            assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
        });
    });
}
