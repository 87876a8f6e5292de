//! A small Redis: PING, ECHO, GET, SET, DEL, INCR, INFO, COMMAND and QUIT, answered in Redis's own
//! words.
//!
//! `cargo run --release --example resp`, then `redis-cli -p 7779`, or `nc 127.0.0.1 7779`. [`cut`]
//! finds a command in bytes, [`Database`] keeps the entries and answers. There is no password: keep
//! it on loopback. `benches/resp.sh` measures it beside the real one.
//!
//! What bounds its memory: the entries take `MAXMEMORY`, which is 1 GiB unless told otherwise. Each
//! of [`MAX_CLIENTS`] may leave one command unfinished, 1 GiB all together, and one reply unread,
//! half of that; and a buffer may be twice as large as what is in it.
//!
//! Where it differs from Redis, beside what it lacks (types, expiry, databases, eviction, RESP3):
//!
//! - A bulk is at most 1 MiB, not 512 MB; a command that grows over 2 MiB ends the connection
//!   without a word. The line of a count is refused at 32 bytes, not at 64 KiB. All of SET's
//!   options are a syntax error.
//! - An inline command is split at blanks: quotes mean nothing.
//! - In an error that quotes the client, what isn't UTF-8 becomes U+FFFD, and a zero byte doesn't
//!   end the quote.
//! - Replies that a client doesn't read stop its commands, and after 60 s in which it took no byte
//!   it's cut off. Redis keeps them without a bound.
//! - Clients over the limit wait until one has left; Redis tells them so, and closes.
//! - The table of entries grows and shrinks in one go, while all clients wait. Redis moves it bit
//!   by bit.

use std::collections::HashMap;
use std::io::Write as _;
use std::{io, mem, net::SocketAddr, time::Duration};

use oread::{
    Accepted, CloseReason, Connection, Context, Handler, Keepalive, Limits, ListenOptions,
    Pressure, Reactor,
};

/// The most arguments, as in Redis: nothing is reserved for them.
const MAX_ARGS: i64 = i32::MAX as i64;
/// Bytes of the longest one. A reply of so many must fit into `Limits::max_output`.
const MAX_BULK: i64 = 1 << 20;
/// Bytes of the longest command, the most that one connection can make us keep: past them it's
/// closed.
const MAX_COMMAND: usize = 2 << 20;
const MAX_CLIENTS: usize = 512;
/// Bytes of the longest inline command, as in Redis; and of a count, whose digits are 19 at most.
const MAX_LINE: usize = 64 << 10;
const MAX_COUNT: usize = 32;
/// Bytes of an entry beside its key and value: its place in a table of which two thirds may be
/// vacant (see `Database::remove`), and what the allocator adds.
const ENTRY: usize = 176;

/// How much of a command is understood that has not come whole. It's read on from there, so a
/// thousand arguments that come byte by byte are read twice, not a thousand times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Arguments still to be found.
    pub(crate) left: usize,
    /// Where the next one begins, 0 before the first line is there; or how many bytes don't end an
    /// inline command.
    pub(crate) at: usize,
}

/// Finds the first command in `input`, which is not empty: its length, and in `args` its arguments,
/// borrowed. `None`: it has not come whole. An error: it makes no sense, and nobody knows where the
/// next one begins.
pub(crate) fn cut<'a>(
    input: &'a [u8],
    known: &mut Progress,
    args: &mut Vec<&'a [u8]>,
) -> Option<Result<usize, String>> {
    let nonsense = |why: &str| Some(Err(format!("ERR Protocol error: {why}")));
    args.clear();
    if input[0] != b'*' {
        // Inline, as people type it: a line of words.
        let Some(end) = input[known.at..].iter().position(|&b| b == b'\n') else {
            known.at = input.len();
            if known.at > MAX_LINE {
                return nonsense("too big inline request");
            }
            return None;
        };
        let end = mem::take(known).at + end;
        let words = input[..end].split(u8::is_ascii_whitespace);
        args.extend(words.filter(|word| !word.is_empty()));
        return Some(Ok(end + 1));
    }
    let resumed = known.at > 0;
    if !resumed {
        let (left, at) = count(input)?;
        if left > MAX_ARGS {
            return nonsense("invalid multibulk length");
        }
        (known.left, known.at) = (left.max(0) as usize, at);
    }
    while known.left > 0 {
        let rest = &input[known.at..];
        let (length, start) = count(rest)?;
        if rest[0] != b'$' {
            return nonsense(&format!("expected '$', got {}", quote(rest, 1)));
        }
        if !(0..=MAX_BULK).contains(&length) {
            return nonsense("invalid bulk length");
        }
        // A long argument is jumped over, not searched; and so are CR and LF behind it.
        let end = start + length as usize;
        if rest.len() < end + 2 {
            return None;
        }
        args.push(&rest[start..end]);
        (known.left, known.at) = (known.left - 1, known.at + end + 2);
    }
    let length = mem::take(known).at;
    if resumed {
        // Whole at last; but its first arguments were found by earlier calls.
        return cut(input, known, args);
    }
    Some(Ok(length))
}

/// The number in a line behind its mark, and the line's length; too large a number if it's none.
/// `None`: the line has not come whole.
fn count(line: &[u8]) -> Option<(i64, usize)> {
    let end = line.iter().take(MAX_COUNT).position(|&b| b == b'\r');
    let end = end.unwrap_or(MAX_COUNT);
    let digits = line.get(..end + 2)?.get(1..end).unwrap_or_default();
    Some((integer(digits).unwrap_or(i64::MAX), end + 2))
}

/// A number as Redis writes it, and no other way: no plus sign, no blank, no leading zero.
fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !matches!(digits, [b'1'..=b'9', ..]) && text != b"0" {
        return None;
    }
    // By hand, for there is one in each line: std's way by `str` is an eighth more instructions a
    // command.
    let sign = if digits.len() < text.len() { -1 } else { 1 };
    digits.iter().try_fold(0_i64, |sum, &digit| {
        let digit = char::from(digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(sign * i64::from(digit))
    })
}

/// The handler. The reactor lends it to one callback at a time, so it owns the entries, and needs
/// no lock.
#[derive(Default)]
pub(crate) struct Database {
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
    /// Bytes that the entries take, and may take.
    used: usize,
    pub(crate) limit: usize,
}

type Client<'a> = Connection<'a, Progress>;

impl Handler for Database {
    type Session = Progress;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Progress>, _: &Accepted) -> Option<Progress> {
        Some(Progress::default())
    }

    /// Answers all commands that have come whole; the answers leave in one write. A client that
    /// doesn't read them is not served on: the rest of the input comes again when the pressure is
    /// low.
    fn on_data(&mut self, client: &mut Client<'_>, data: &[u8]) -> usize {
        let (mut done, mut args, mut known) = (0, Vec::new(), *client.session());
        while done < data.len() && client.pressure() == Pressure::Low {
            match cut(&data[done..], &mut known, &mut args) {
                None => break,
                Some(Ok(length)) => {
                    done += length;
                    if let Err(why) = self.answer(client, &args) {
                        error(client, &why);
                    }
                }
                Some(Err(why)) => {
                    error(client, &why);
                    client.close(CloseReason::Closed);
                }
            }
        }
        *client.session_mut() = known;
        done
    }
}

impl Database {
    fn answer(&mut self, client: &mut Client<'_>, args: &[&[u8]]) -> Result<(), String> {
        let Some((typed, args)) = args.split_first() else {
            return Ok(());
        };
        let name = typed.to_ascii_lowercase();
        match (name.as_slice(), args) {
            (b"ping", []) => _ = client.write(b"+PONG\r\n"),
            (b"ping" | b"echo", [text]) => bulk(client, text),
            (b"get", [key]) => match self.entries.get(*key) {
                Some(value) => bulk(client, value),
                None => _ = client.write(b"$-1\r\n"),
            },
            (b"set", [key, value]) => {
                self.set(key, value)?;
                client.write(b"+OK\r\n");
            }
            (b"set", [_, _, _, ..]) => return Err("ERR syntax error".into()),
            (b"del", [_, ..]) => {
                let removed = args.iter().filter(|key| self.remove(key)).count();
                number(client, b":", removed as i64);
            }
            (b"incr", [key]) => {
                let old = self.entries.get(*key).map_or(Some(0), |old| integer(old));
                let old = old.ok_or("ERR value is not an integer or out of range")?;
                let new = old.checked_add(1);
                let new = new.ok_or("ERR increment or decrement would overflow")?;
                self.set(key, new.to_string().as_bytes())?;
                number(client, b":", new);
            }
            (b"info", _) => {
                let (clients, used) = (client.context().stats().open, self.used);
                let text = format!("connected_clients:{clients}\r\nused_memory:{used}\r\n");
                let text = format!("{text}db0:keys={}\r\n", self.entries.len());
                bulk(client, text.as_bytes());
            }
            // What redis-cli would show as hints: none.
            (b"command", _) => number(client, b"*", 0),
            (b"quit", _) => {
                client.write(b"+OK\r\n");
                client.close(CloseReason::Closed);
            }
            // HTTP: any web page can have its browser send commands to loopback, in the body of a
            // request.
            (b"post" | b"host:", _) => client.close(CloseReason::Closed),
            (b"ping" | b"echo" | b"get" | b"set" | b"del" | b"incr", _) => {
                let name = quote(&name, 128);
                return Err(format!("ERR wrong number of arguments for {name} command"));
            }
            _ => {
                let (name, mut quoted) = (quote(typed, 128), String::new());
                for arg in args {
                    if quoted.len() < 128 {
                        quoted += &(quote(arg, 128 - quoted.len()) + " ");
                    }
                }
                let why = format!("unknown command {name}, with args beginning with: {quoted}");
                return Err(format!("ERR {why}"));
            }
        }
        Ok(())
    }

    /// Sets an entry, if there is memory for it.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let old = self.entries.get_mut(key);
        let freed = old.as_ref().map_or(0, |old| key.len() + old.len() + ENTRY);
        let used = self.used - freed + key.len() + value.len() + ENTRY;
        if used > self.limit {
            return Err("OOM command not allowed when used memory > 'maxmemory'.".into());
        }
        self.used = used;
        match old {
            Some(old) if old.len() == value.len() => old.copy_from_slice(value),
            Some(old) => *old = value.into(),
            None => _ = self.entries.insert(key.into(), value.into()),
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(old) = self.entries.remove(key) else {
            return false;
        };
        self.used -= key.len() + old.len() + ENTRY;
        // By itself a table never shrinks. At a third it's halved, and not at a half, or one entry
        // that comes and goes could have it moved each time.
        let room = self.entries.capacity();
        if room > 64 && self.entries.len() < room / 3 {
            self.entries.shrink_to(room / 2);
        }
        true
    }
}

/// Three writes, of which the reactor makes one: `write!` would make one here, and take longer.
fn number(client: &mut Client<'_>, mark: &[u8], number: i64) {
    client.write(mark);
    client.write(number.to_string().as_bytes());
    client.write(b"\r\n");
}

fn bulk(client: &mut Client<'_>, bytes: &[u8]) {
    number(client, b"$", bytes.len() as i64);
    client.write(bytes);
    client.write(b"\r\n");
}

/// An error is one line, whatever it quotes.
fn error(client: &mut Client<'_>, why: &str) {
    client.write(format!("-{}\r\n", why.replace(['\r', '\n'], " ")).as_bytes());
}

fn quote(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]);
    format!("'{text}'")
}

fn serve(listen: SocketAddr, limit: usize) -> io::Result<()> {
    let mut reactor = Reactor::with_limits(Limits {
        max_connections: MAX_CLIENTS,
        max_input: MAX_COMMAND,
        // Clients on this machine pay for waking us: better to look again for a moment before we
        // sleep.
        spin: Duration::from_micros(20),
        ..Limits::default()
    })?;
    let mut options = ListenOptions::new(listen);
    // A client that has vanished gives its place up, as in Redis.
    options.keepalive = Some(Keepalive::default());
    let listener = reactor.context().listen(&options)?;
    let at = reactor.context().listener_addr(listener);
    writeln!(io::stdout(), "listening on {}", at.unwrap_or(listen.into()))?;
    let mut database = Database {
        limit,
        ..Database::default()
    };
    reactor.run(&mut database).map(drop)
}

fn run(words: &[String]) -> Result<(), (i32, String)> {
    let usage = "usage: resp [ADDRESS:PORT [MAXMEMORY]], as in: resp 127.0.0.1:7779 1000000";
    let misused = |word: &str, what| (2, format!("{word:?} is {what}\n{usage}"));
    let word = |at: usize, default| words.get(at).map_or(default, String::as_str);
    let (listen, limit) = (word(1, "127.0.0.1:7779"), word(2, "1073741824"));
    let address = listen.parse();
    let address = address.map_err(|_| misused(listen, "no address with a port"))?;
    let bytes = limit.parse();
    let bytes = bytes.map_err(|_| misused(limit, "no number of bytes"))?;
    if bytes <= ENTRY {
        return Err(misused(limit, "too few bytes for a single entry"));
    }
    if let Some(word) = words.get(3) {
        return Err(misused(word, "one argument too many"));
    }
    serve(address, bytes).map_err(|error| (1, format!("can't serve on {address}: {error}")))
}

fn main() {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    if let Err((code, why)) = run(&words.collect::<Vec<_>>()) {
        eprintln!("resp: {why}");
        std::process::exit(code);
    }
}
