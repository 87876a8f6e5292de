//! A chat room: what one member says, all the others read. One thread, and nothing shared.
//!
//! Run it with `cargo run --example chat`, and join it from several terminals with
//! `oread connect 127.0.0.1:7777`, `nc` or `telnet`. The first line is your nick; after it there
//! are `/who`, `/quit`, and whatever you have to say.
//!
//! - The room keeps the **ids** of connections. `Context::connection` finds those who are still
//!   there, from any callback.
//! - **A slow reader waits alone.** `write` never blocks. While 64 KiB wait for a member
//!   (`Pressure::High`), lines are left out for that one, who is told how many in `on_drained`.
//!   Such a member isn't read either, for what it asks makes more output; so it counts as silent.
//!   One who takes no byte for the idle time is cut off.
//! - **The silent are asked, then dropped**, by one timer for all. A line moves no timer, it only
//!   leaves its time.
//! - **Nothing that a member sends acts on another's terminal**: lines are escaped, nicks are
//!   letters and digits.
//! - **Whoever has finished sending has left**, once the last line is heard, newline or not, and
//!   all output is out.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::{
    Accepted, CloseReason, ConnectionId as Id, Escaped, Framing, Handler, Limits, ListenOptions,
    Pressure, Reactor,
};

const USAGE: &str = "\nusage: chat [LISTEN [IDLE_SECONDS]], by default 127.0.0.1:7777 60";
/// In bytes. What is escaped of it gets up to four times as long.
const MAX_LINE: usize = 1024;

/// What is kept of a connection, as long as it's there.
pub(crate) struct Member {
    /// `None` before it has one, and again when it has been dismissed.
    nick: Option<String>,
    /// When its last line came; before it has a nick, when it came itself.
    heard: Instant,
    /// Whether it was asked for a sign of life since then.
    asked: bool,
    /// Lines left out since its output came under `Pressure::High`.
    left_out: u64,
}

pub(crate) struct Room {
    /// By their nicks.
    members: BTreeMap<String, Id>,
    /// How often it's looked for those who have been silent for so long, or have no nick for so
    /// long.
    idle: Duration,
}

type Context<'a> = oread::Context<'a, Member>;
type Caller<'a> = oread::Connection<'a, Member>;

impl Room {
    pub(crate) fn new(idle: Duration) -> Room {
        let members = BTreeMap::new();
        Room { members, idle }
    }

    /// What a room is run with.
    pub(crate) fn limits(idle: Duration) -> Limits {
        Limits {
            // In a full room where nobody reads, 1,000 times 128 KiB of output wait at most: 131
            // MB, in buffers that may have twice the room.
            max_connections: 1000,
            max_output: 128 << 10,
            // So little of one is read before the others' output is flushed that pasted text
            // doesn't put them under `High`, though the nick makes a line of one letter ten times
            // as long.
            read_buffer: 2 << 10,
            io_budget: 1,
            write_timeout: Some(idle),
            ..Limits::default()
        }
    }

    /// A line for all members but `except`. Nobody waits for those who are slow.
    fn tell(&self, context: &mut Context<'_>, except: Option<Id>, line: &str) {
        for &id in self.members.values().filter(|&&id| Some(id) != except) {
            match context.connection(id) {
                Some(mut slow) if slow.pressure() == Pressure::High => {
                    slow.session_mut().left_out += 1;
                }
                Some(mut member) => _ = writeln!(member, "{line}"),
                None => {}
            }
        }
    }

    fn hear(&mut self, from: &mut Caller, line: &[u8]) {
        // telnet ends its lines with CR LF.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(nick) = &from.session().nick else {
            return self.join(from, &String::from_utf8_lossy(line));
        };
        match line {
            b"" => {} // enough to answer a ping
            b"/who" => {
                let nicks: Vec<&str> = self.members.keys().map(String::as_str).collect();
                writeln!(from, "* here: {}", nicks.join(", "));
            }
            b"/quit" => self.dismiss(from, "quit"),
            [b'/', ..] => _ = writeln!(from, "! there are /who and /quit"),
            _ => {
                let said = format!("<{nick}> {}", Escaped::new(line).prose());
                let id = from.id();
                self.tell(from.context(), Some(id), &said);
            }
        }
        from.session_mut().heard = from.context().now();
        from.session_mut().asked = false;
    }

    fn join(&mut self, caller: &mut Caller, nick: &str) {
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if !(1..=16).contains(&nick.len()) || !nick.chars().all(valid) {
            writeln!(caller, "! a nick is 1 to 16 letters a-z, digits, - or _");
        } else if self.members.keys().any(|k| k.eq_ignore_ascii_case(nick)) {
            // ALICE would be taken for alice.
            writeln!(caller, "! {nick} is here already, take another nick");
        } else {
            writeln!(caller, "* welcome, {nick}; there are /who and /quit");
            self.tell(caller.context(), None, &format!("* {nick} has joined"));
            self.members.insert(nick.to_owned(), caller.id());
            caller.session_mut().nick = Some(nick.to_owned());
            caller.session_mut().heard = caller.context().now();
        }
    }

    /// Closes a connection. `on_close` may be long in coming, for what is pending is sent first;
    /// the nick is free at once.
    fn dismiss(&mut self, caller: &mut Caller, why: &str) {
        writeln!(caller, "* good-bye: {why}");
        caller.close(CloseReason::Closed);
        let nick = caller.session_mut().nick.take();
        self.leave(caller.context(), nick, why);
    }

    fn leave(&mut self, context: &mut Context<'_>, nick: Option<String>, why: &str) {
        if let Some(nick) = nick {
            self.members.remove(&nick);
            self.tell(context, None, &format!("* {nick} has left: {why}"));
        }
    }
}

impl Handler for Room {
    type Session = Member;
    type Message = ();

    fn on_accept(&mut self, context: &mut Context<'_>, _: &Accepted) -> Option<Member> {
        Some(Member {
            nick: None,
            heard: context.now(),
            asked: false,
            left_out: 0,
        })
    }

    fn on_open(&mut self, caller: &mut Caller) {
        writeln!(caller, "* what is your nick?");
    }

    fn on_data(&mut self, from: &mut Caller, data: &[u8]) -> usize {
        // 0: the start of so short a line may as well be searched again each time.
        let mut lines = Framing::Lines.frames(data, 0, MAX_LINE);
        // Under `High` the rest is left: it comes again when the answers so far are out. One whose
        // answers can't be sent any more is heard to its end; one that was dismissed is not.
        while from.is_open() && from.pressure() != Pressure::High {
            match lines.next() {
                Some(Ok(line)) => self.hear(from, line.payload),
                Some(Err(_)) => {
                    self.dismiss(from, &format!("a line has at most {MAX_LINE} bytes"));
                }
                None => break,
            }
        }
        lines.consumed()
    }

    fn on_eof(&mut self, from: &mut Caller, rest: &[u8]) {
        if !rest.is_empty() {
            self.hear(from, rest);
        }
        self.dismiss(from, "finished");
    }

    fn on_drained(&mut self, slow: &mut Caller) {
        let left_out = std::mem::take(&mut slow.session_mut().left_out);
        if left_out > 0 {
            writeln!(slow, "* you are slow: {left_out} lines were left out");
        }
    }

    /// Looks at everybody, once in an idle time: so whoever is asked at one look has as long until
    /// the next.
    fn on_timer(&mut self, context: &mut Context<'_>, _: u64) {
        let now = context.now();
        context.for_each(|caller| {
            // One who was dismissed may still be there, until all output is out.
            if !caller.is_open() || now - caller.session().heard < self.idle {
                return;
            }
            if caller.session().nick.is_none() {
                self.dismiss(caller, "no nick in time");
            } else if caller.session().asked {
                self.dismiss(caller, "silent for too long");
            } else {
                caller.session_mut().asked = true;
                writeln!(caller, "* ping: still there? Any line will do");
            }
        });
        context.timer(self.idle, 0);
    }

    /// Comes once for every connection, dismissed or broken; one who was dismissed has no nick any
    /// more.
    fn on_close(&mut self, context: &mut Context<'_>, _: Id, gone: Member, why: CloseReason) {
        self.leave(context, gone.nick, &why.to_string());
    }
}

fn serve(address: SocketAddr, idle: Duration) -> io::Result<()> {
    let mut reactor = Reactor::with_limits(Room::limits(idle))?;
    let mut context = reactor.context();
    let listener = context.listen(&ListenOptions {
        // By itself the system takes megabytes for one who doesn't read, before anything has to
        // wait here.
        send_buffer: Some(64 << 10),
        ..ListenOptions::new(address)
    })?;
    let bound = context.listener_addr(listener).unwrap_or(address.into());
    writeln!(io::stdout(), "listening on {bound}")?;
    context.timer(idle, 0);
    reactor.run(&mut Room::new(idle)).map(|_| ())
}

fn run(words: &[String]) -> Result<(), (i32, String)> {
    let misused = |why: String| (2, why + USAGE);
    let word = |at: usize, default| words.get(at).map_or(default, String::as_str);
    let (listen, idle) = (word(1, "127.0.0.1:7777"), word(2, "60"));
    let address = listen.parse();
    let address = address.map_err(|_| misused(format!("{listen:?} is no address with a port")))?;
    let seconds = idle.parse().ok().filter(|s| (0.001..=86400.0).contains(s));
    let wrong = || misused(format!("{idle:?} is no idle time from 0.001 to 86400"));
    let idle = Duration::from_secs_f64(seconds.ok_or_else(wrong)?);
    if let Some(word) = words.get(3) {
        return Err(misused(format!("{word:?} is one argument too many")));
    }
    serve(address, idle).map_err(|error| (1, format!("can't serve on {address}: {error}")))
}

fn main() {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    if let Err((code, why)) = run(&words.collect::<Vec<_>>()) {
        eprintln!("chat: {why}");
        std::process::exit(code);
    }
}
