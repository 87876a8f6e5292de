//! A chat room: what one member says, all the others read. One thread, and nothing shared.
//!
//! Run it with `cargo run --example chat`, and join it from several terminals with `oread connect 127.0.0.1:7777`, `nc` or
//! `telnet`. The first line is your nick; after it there are `/who`, `/quit`, and what you have to say.
//!
//! - The room keeps the **ids** of connections. `Context::connection` finds whoever is still there, from any callback.
//! - **A slow reader waits alone.** `write` never blocks. While 64 KiB wait for a member (`Pressure::High`), lines are
//!   left out for that one, who is told how many in `on_drained`. Who takes no byte for the idle time is cut off.
//! - **The silent are asked, then dropped**, by a timer each. A line doesn't move the timer: when it fires, it looks
//!   whether there was one.
//! - **Nothing that a member sends acts on another's terminal**: lines are escaped, nicks are letters and digits.
//! - **Who has finished sending has left**, once the last line is heard, newline or not, and all output is out.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use oread::{Accepted, CloseReason, Connection, ConnectionId, Context, Escaped, Framing, Handler};
use oread::{Limits, ListenOptions, Pressure, Reactor, TimerId};

const USAGE: &str = "\nusage: chat [LISTEN [IDLE_SECONDS]], by default 127.0.0.1:7777 60";
/// In bytes. What is escaped of it gets up to four times as long.
const MAX_LINE: usize = 1024;

/// What is kept of a connection, as long as it's there.
struct Member {
    /// `None` before it has one, and again when it has been dismissed.
    nick: Option<String>,
    /// When its last line came; before it has a nick, when it came itself.
    heard: Instant,
    /// Lines left out since its output came under `Pressure::High`.
    left_out: u64,
    timer: Option<TimerId>,
}

struct Room {
    /// By their nicks.
    members: BTreeMap<String, ConnectionId>,
    /// How long a member may be silent, before the ping and after it; and how long one may have no nick.
    idle: Duration,
}

type Caller<'a> = Connection<'a, Member>;

impl Room {
    /// A line for all members but `except`. Nobody waits for those who are slow.
    fn tell(&self, context: &mut Context<Member>, except: Option<ConnectionId>, line: &str) {
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

    fn hear(&mut self, from: &mut Caller<'_>, line: &[u8]) {
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
    }

    fn join(&mut self, caller: &mut Caller<'_>, nick: &str) {
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

    /// Closes a connection. `on_close` may be long in coming, for what is pending is sent first; the nick is free at once.
    fn dismiss(&mut self, caller: &mut Caller<'_>, why: &str) {
        writeln!(caller, "* good-bye: {why}");
        caller.close(CloseReason::Closed);
        let nick = caller.session_mut().nick.take();
        self.leave(caller.context(), nick, why);
    }

    fn leave(&mut self, context: &mut Context<Member>, nick: Option<String>, why: &str) {
        if let Some(nick) = nick {
            self.members.remove(&nick);
            self.tell(context, None, &format!("* {nick} has left: {why}"));
        }
    }
}

/// Has `on_timer` look at a connection; once it's gone, the key leads to nobody.
fn look_after(wait: Duration, caller: &mut Caller<'_>) {
    let key = caller.id().to_bits();
    caller.session_mut().timer = Some(caller.context().timer(wait, key));
}

impl Handler for Room {
    type Session = Member;
    type Message = std::convert::Infallible;

    fn on_accept(&mut self, context: &mut Context<Member>, _: &Accepted) -> Option<Member> {
        Some(Member {
            nick: None,
            heard: context.now(),
            left_out: 0,
            timer: None,
        })
    }

    fn on_open(&mut self, caller: &mut Caller<'_>) {
        writeln!(caller, "* what is your nick?");
        look_after(self.idle, caller);
    }

    fn on_data(&mut self, from: &mut Caller<'_>, data: &[u8]) -> usize {
        // 0: the start of so short a line may as well be searched again each time.
        let mut lines = Framing::Lines.frames(data, 0, MAX_LINE);
        // Under `High` the rest is left: it comes again when the answers so far are out. `Closed`: he was dismissed.
        while from.pressure() == Pressure::Low {
            match lines.next() {
                Some(Ok(line)) => self.hear(from, line.payload),
                Some(Err(_)) => self.dismiss(from, "a line has at most 1,024 bytes"),
                None => break,
            }
        }
        lines.consumed()
    }

    fn on_eof(&mut self, from: &mut Caller<'_>, rest: &[u8]) {
        if !rest.is_empty() {
            self.hear(from, rest);
        }
        self.dismiss(from, "finished");
    }

    fn on_drained(&mut self, slow: &mut Caller<'_>) {
        let left_out = std::mem::take(&mut slow.session_mut().left_out);
        if left_out > 0 {
            writeln!(slow, "* you are slow: {left_out} lines were left out");
        }
    }

    fn on_timer(&mut self, context: &mut Context<Member>, key: u64) {
        let found = context.connection(ConnectionId::from_bits(key));
        let Some(mut caller) = found.filter(Connection::is_open) else {
            return;
        };
        let now = caller.context().now();
        let silent = now.saturating_duration_since(caller.session().heard);
        if silent < self.idle {
            look_after(self.idle - silent, &mut caller);
        } else if caller.session().nick.is_none() {
            self.dismiss(&mut caller, "no nick in time");
        } else if silent < 2 * self.idle {
            writeln!(caller, "* ping: still there? Any line will do");
            look_after(2 * self.idle - silent, &mut caller);
        } else {
            self.dismiss(&mut caller, "silent for too long");
        }
    }

    /// Comes once for every connection, dismissed or broken; one who was dismissed has no nick any more.
    fn on_close(
        &mut self,
        context: &mut Context<Member>,
        _: ConnectionId,
        gone: Member,
        reason: CloseReason,
    ) {
        if let Some(timer) = gone.timer {
            context.cancel(timer);
        }
        self.leave(context, gone.nick, &reason.to_string());
    }
}

fn serve(address: SocketAddr, idle: Duration) -> io::Result<()> {
    let mut reactor = Reactor::with_limits(Limits {
        // Both together bound the memory: at most 128 MB wait, in a full room where nobody reads.
        max_connections: 1000,
        max_output: 128 << 10,
        // So little of one is read before the others' output is flushed that what he pastes doesn't put them under
        // `High`, though his nick makes a line of one letter ten times as long.
        read_buffer: 2 << 10,
        io_budget: 1,
        write_timeout: Some(idle),
        ..Limits::default()
    })?;
    let listener = reactor.context().listen(&ListenOptions {
        // By itself the system takes megabytes for one who doesn't read, before anything has to wait here.
        send_buffer: Some(64 << 10),
        ..ListenOptions::new(address)
    })?;
    let bound = reactor.context().listener_addr(listener);
    writeln!(io::stdout(), "listening on {}", bound.unwrap_or(address))?;
    io::stdout().flush()?;
    let members = BTreeMap::new();
    reactor.run(&mut Room { members, idle }).map(|_| ())
}

fn arguments(words: &[String]) -> Result<(SocketAddr, Duration), String> {
    let word = |at: usize, default| words.get(at).map_or(default, String::as_str);
    let (listen, idle) = (word(0, "127.0.0.1:7777"), word(1, "60"));
    if let Some(word) = words.get(2) {
        return Err(format!("there is no third argument, such as {word:?}"));
    }
    let address = listen.parse();
    let address = address.map_err(|_| format!("{listen:?} is no address with a port"))?;
    let seconds = idle.parse().ok().filter(|s| (0.001..=86400.0).contains(s));
    let seconds = seconds.ok_or_else(|| format!("{idle:?} is no idle time from 0.001 to 86400"))?;
    Ok((address, Duration::from_secs_f64(seconds)))
}

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let (code, why) = match arguments(&words.collect::<Vec<_>>()) {
        Err(why) => (2, why + USAGE),
        Ok((address, idle)) => match serve(address, idle) {
            Err(error) => (1, format!("can't serve on {address}: {error}")),
            Ok(()) => return ExitCode::SUCCESS,
        },
    };
    eprintln!("chat: {why}");
    ExitCode::from(code)
}
