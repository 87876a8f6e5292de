//! Unix sockets.

use oread::{Accepted, Address, Connection, Context, Credentials, Handler, ListenOptions, Reactor};

use super::peers::beside;

struct Private {
    user: u32,
}

impl Handler for Private {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, client: &Accepted) -> Option<()> {
        let who = Credentials::of(client.fd().ok()?).ok()?;
        [0, self.user].contains(&who.uid).then_some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }
}

#[test]
fn the_same_user_is_accepted_and_the_file_goes_with_the_listener() -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("oread-guide-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let path = folder.join("private.sock");
    let user = nix::unistd::geteuid().as_raw();

    let options = ListenOptions {
        mode: Some(0o600), // only users who may write to the file can connect
        ..ListenOptions::new(Address::unix(&path))
    };
    let mut reactor = Reactor::new()?;
    reactor.context().listen(&options)?;

    let client = || {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        std::io::Write::write_all(&mut stream, b"hello").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(std::io::read_to_string(stream).unwrap(), "hello");
    };
    let mut private = Private { user };
    let (_, ended) = beside(&reactor.handle(), client, || reactor.run(&mut private));
    ended?;
    drop(reactor);
    assert!(!path.exists());
    std::fs::remove_dir(folder)
}
