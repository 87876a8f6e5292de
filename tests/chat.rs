//! The example `chat`, as three `oread connect` use it, and as everybody who means it ill or knows
//! no better does.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;
#[path = "common/example.rs"]
mod example;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use cli::{Client, LONG};
use example::{Example, command};

/// A room whose members may be silent for longer than any test takes.
fn room() -> Example {
    Example::start("chat", &["127.0.0.1:0", "3600"])
}

/// A member over a plain socket: it reads only when it's told to.
struct Raw(BufReader<TcpStream>);

impl Raw {
    /// A connection, before it has said anything.
    fn call(room: &Example) -> Raw {
        let stream = TcpStream::connect(room.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Raw(BufReader::new(stream));
        raw.hears("* what is your nick?");
        raw
    }

    /// A member of this nick.
    fn join(room: &Example, nick: &str) -> Raw {
        let mut raw = Raw::call(room);
        raw.say(format!("{nick}\n").as_bytes());
        raw.hears(&format!("* welcome, {nick}; there are /who and /quit"));
        raw
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next line, without its newline; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        (!line.is_empty()).then(|| line.strip_suffix('\n').unwrap().to_owned())
    }

    #[track_caller]
    fn hears(&mut self, expected: &str) {
        assert_eq!(self.line().as_deref(), Some(expected));
    }

    #[track_caller]
    fn is_at_the_end(&mut self) {
        assert_eq!(self.line(), None);
    }
}

#[track_caller]
fn hears(client: &mut Client, expected: &str) {
    assert_eq!(client.hear_line(), format!("{expected}\n"));
}

#[test]
fn three_at_once_join_talk_ask_who_is_there_and_leave() {
    let room = room();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::start(room.address, &[])).collect();
    let [ann, bob, cem] = clients.as_mut_slice() else {
        unreachable!()
    };
    for (client, nick) in [(&mut *ann, "ann"), (&mut *bob, "bob"), (&mut *cem, "cem")] {
        hears(client, "* what is your nick?");
        client.say(format!("{nick}\n").as_bytes());
        hears(
            client,
            &format!("* welcome, {nick}; there are /who and /quit"),
        );
    }
    hears(ann, "* bob has joined");
    hears(ann, "* cem has joined");
    hears(bob, "* cem has joined");

    // To all others, and to these alone: what the speaker hears next is something else.
    ann.say("hello, \"both\" of you: C:\\ and ¡olé…\n".as_bytes());
    for client in [&mut *bob, &mut *cem] {
        hears(client, "<ann> hello, \"both\" of you: C:\\ and ¡olé…");
    }
    ann.say(b"/who\n");
    hears(ann, "* here: ann, bob, cem");
    bob.say(b"/dance\nhi\r\n");
    hears(bob, "! there are /who and /quit");
    hears(ann, "<bob> hi");
    hears(cem, "<bob> hi");

    // One asks to leave, one's input ends: both programs end well, with their input.
    bob.say(b"/quit\n");
    hears(bob, "* good-bye: quit");
    hears(ann, "* bob has left: quit");
    hears(cem, "* bob has left: quit");
    assert_eq!(clients.remove(1).finish().0, Some(0));
    let cem = clients.pop().unwrap();
    assert_eq!(cem.finish().1, b"* good-bye: finished\n");
    let ann = &mut clients[0];
    hears(ann, "* cem has left: finished");
    ann.say(b"/who\n");
    hears(ann, "* here: ann");
}

#[test]
fn a_nick_is_short_plain_and_nobody_elses() {
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let mut other = Raw::call(&room);
    for bad in [
        "",
        "a b",
        "\x1b[2J",
        "zoë",
        "an\u{200b}n",
        "a-nick-that-is-17",
        "/who",
    ] {
        other.say(format!("{bad}\n").as_bytes());
        other.hears("! a nick is 1 to 16 letters a-z, digits, - or _");
    }
    other.say(b"\xff\xfe\n");
    other.hears("! a nick is 1 to 16 letters a-z, digits, - or _");
    for taken in ["ann", "ANN"] {
        other.say(format!("{taken}\n").as_bytes());
        other.hears(&format!("! {taken} is here already, take another nick"));
    }
    other.say(b"A-nick_that-is16\n");
    other.hears("* welcome, A-nick_that-is16; there are /who and /quit");
    ann.hears("* A-nick_that-is16 has joined");

    // The nick is free as soon as its owner is dismissed, though that one's connection is still
    // there.
    ann.say(b"/quit\n");
    ann.hears("* good-bye: quit");
    other.hears("* ann has left: quit");
    let mut again = Raw::join(&room, "ann");
    other.hears("* ann has joined");
    again.say(b"it's me\n");
    other.hears("<ann> it's me");
    ann.is_at_the_end();
    again.say(b"/who\n");
    again.hears("* here: A-nick_that-is16, ann");
}

#[test]
fn nothing_that_is_said_acts_on_a_terminal() {
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let mut eve = Raw::join(&room, "eve");
    ann.hears("* eve has joined");
    eve.say(b"\x1b[2J\x1b]0;owned\x07 \x9b31m\xc2\x9b31m \x08\x7f\t\x00\n");
    ann.hears(r"<eve> \x1b[2J\x1b]0;owned\x07 \x9b31m\u{9b}31m \x08\x7f\t\x00");
    // A line within a line, and one that runs backwards.
    eve.say("a\r* root has joined\u{2028}\u{202e}cba\n".as_bytes());
    ann.hears(r"<eve> a\r* root has joined\u{2028}\u{202e}cba");
}

#[test]
fn a_line_that_is_too_long_is_refused_and_what_was_before_it_is_heard() {
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let mut eve = Raw::join(&room, "eve");
    ann.hears("* eve has joined");
    let longest = "x".repeat(1024);
    eve.say(format!("{longest}\n").as_bytes());
    ann.hears(&format!("<eve> {longest}"));
    // No newline: it's refused for what is there.
    eve.say(format!("before\n{longest}x").as_bytes());
    ann.hears("<eve> before");
    ann.hears("* eve has left: a line has at most 1024 bytes");
    eve.hears("* good-bye: a line has at most 1024 bytes");
    // What it still sends costs it no word of that.
    eve.say(longest.as_bytes());
    eve.is_at_the_end();
}

#[test]
fn the_last_line_needs_no_newline_and_its_answer_arrives() {
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let mut bob = Raw::join(&room, "bob");
    ann.hears("* bob has joined");
    bob.say(b"last words\n/who");
    bob.0.get_ref().shutdown(Shutdown::Write).unwrap();
    ann.hears("<bob> last words");
    ann.hears("* bob has left: finished");
    bob.hears("* here: ann, bob");
    bob.hears("* good-bye: finished");
    bob.is_at_the_end();
    // The same for one whose whole stay is a single piece, the nick included.
    let mut cem = Raw::call(&room);
    cem.say(b"cem\nin and out");
    cem.0.get_ref().shutdown(Shutdown::Write).unwrap();
    ann.hears("* cem has joined");
    ann.hears("<cem> in and out");
    ann.hears("* cem has left: finished");
}

#[test]
fn one_who_breaks_off_is_said_to_have_left() {
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let eve = Raw::join(&room, "eve");
    ann.hears("* eve has joined");
    ann.say(b"are you listening?\n");
    // When the line is there, and not read, a close is a reset.
    assert_eq!(eve.0.get_ref().peek(&mut [0]).unwrap(), 1);
    drop(eve);
    ann.hears("* eve has left: reset by the peer");
}

#[test]
fn the_silent_are_pinged_and_dropped_and_those_who_answer_stay() {
    let room = Example::start("chat", &["127.0.0.1:0", "3"]);
    let ping = "* ping: still there? Any line will do";
    let mut ann = Raw::join(&room, "ann");
    let mut sam = Raw::join(&room, "sam");
    ann.hears("* sam has joined");
    // She came before him: without her answers she would be dropped before him, or with him.
    let mut asked = 0;
    loop {
        let line = ann.line().unwrap();
        if line == "* sam has left: silent for too long" {
            break;
        }
        assert_eq!(line, ping);
        asked += 1;
        ann.say(b"\n");
    }
    assert!(asked > 0);
    sam.hears(ping);
    sam.hears("* good-bye: silent for too long");
    sam.is_at_the_end();
    ann.say(b"/who\n");
    let line = ann.line().unwrap();
    // Perhaps she was asked again, at the look at which he was dropped.
    let line = if line == ping {
        ann.line().unwrap()
    } else {
        line
    };
    assert_eq!(line, "* here: ann");
}

#[test]
fn one_who_gives_no_nick_is_dropped_whatever_else_it_sends() {
    let room = Example::start("chat", &["127.0.0.1:0", "0.3"]);
    let mut mute = Raw::call(&room);
    let mut fool = Raw::call(&room);
    mute.hears("* good-bye: no nick in time");
    mute.is_at_the_end();
    // One who tries again and again has no longer for it.
    loop {
        // It fails once the other end is closed.
        let _ = fool.0.get_mut().write_all(b"not a nick\n");
        match fool.line().as_deref() {
            Some("! a nick is 1 to 16 letters a-z, digits, - or _") => {}
            Some(other) => {
                assert_eq!(other, "* good-bye: no nick in time");
                break;
            }
            None => panic!("an end without a word"),
        }
    }
    // And both have given up nothing that they had: the room is as good as new.
    let mut ann = Raw::join(&room, "ann");
    ann.say(b"/who\n");
    ann.hears("* here: ann");
}

/// What a process has in memory of its own, in bytes (`RssAnon`, proc_pid_status(5)).
#[cfg(target_os = "linux")]
fn memory(room: &Example) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", room.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// Lines that are said at a time.
#[cfg(target_os = "linux")]
const AT_ONCE: usize = 32;

/// Lines of 1,000 bytes that `from` says, [`AT_ONCE`], and `to` reads, before the next few are
/// said: so nothing is lost to a reader that the machine is only slow to run.
#[cfg(target_os = "linux")]
fn talk(from: &mut Raw, nick: &str, to: &mut Raw, rounds: usize) {
    for round in 0..rounds {
        let lines: Vec<String> = (0..AT_ONCE)
            .map(|n| format!("{:01$}", round * AT_ONCE + n, 1000))
            .collect();
        from.say((lines.join("\n") + "\n").as_bytes());
        for line in lines {
            to.hears(&format!("<{nick}> {line}"));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_reader_costs_bounded_memory_holds_nobody_up_and_is_told_what_it_missed() {
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let mut bob = Raw::join(&room, "bob");
    ann.hears("* bob has joined");
    talk(&mut ann, "ann", &mut bob, 10);
    let before = memory(&room);
    let mut slow = Raw::join(&room, "slow");
    ann.hears("* slow has joined");
    bob.hears("* slow has joined");
    // 16 MB, of which the slow one reads nothing; and the others hear every line of it.
    talk(&mut ann, "ann", &mut bob, 250);
    talk(&mut bob, "bob", &mut ann, 250);
    let grown = memory(&room).saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes for one who doesn't read");

    // It gets them in order and whole, and where some are missing it's told exactly how many. (How
    // often that is the case depends on what the system takes for it meanwhile.)
    let (mut at, mut missing) = (0, 0);
    while at < 2 * 250 * AT_ONCE {
        let line = slow.line().unwrap();
        if let Some(notice) = line.strip_prefix("* you are slow: ") {
            let count = notice.strip_suffix(" lines were left out").unwrap();
            let count: usize = count.parse().unwrap();
            (at, missing) = (at + count, missing + count);
            continue;
        }
        let (nick, number) = match at.checked_sub(250 * AT_ONCE) {
            None => ("ann", at),
            Some(number) => ("bob", number),
        };
        assert!(
            line == format!("<{nick}> {number:01000}"),
            "{at}: {line:.20}"
        );
        at += 1;
    }
    assert!(missing > 250 * AT_ONCE, "only {missing} are missing");
    // And it's a member like any other again.
    ann.say(b"welcome back\n");
    slow.hears("<ann> welcome back");
    bob.hears("<ann> welcome back");
    slow.say(b"thanks\n");
    ann.hears("<slow> thanks");
}

#[cfg(target_os = "linux")]
#[test]
fn one_who_takes_nothing_at_all_is_cut_off() {
    let room = Example::start("chat", &["127.0.0.1:0", "2"]);
    let mut ann = Raw::join(&room, "ann");
    let deaf = Raw::join(&room, "deaf");
    ann.hears("* deaf has joined");
    // Though it talks all the time, until nothing can be said to it.
    let mut loud = deaf.0.get_ref().try_clone().unwrap();
    let lines = format!("{}\n", "x".repeat(1000)).repeat(32);
    let left = loop {
        ann.say(lines.as_bytes());
        let _ = loud.write_all(b"\n");
        ann.say(b"/who\n");
        let line = ann.line().unwrap();
        if line.starts_with("* deaf has left") {
            break line;
        }
        assert_eq!(line, "* here: ann, deaf");
    };
    assert_eq!(left, "* deaf has left: the peer stopped reading");
}

#[test]
fn what_one_pastes_is_lost_to_nobody() {
    const LINES: usize = 4096;
    let room = room();
    let mut ann = Raw::join(&room, "ann");
    let mut eve = Raw::join(&room, "sixteen-letters-");
    ann.hears("* sixteen-letters- has joined");
    // 8 KiB, said at once, are 88 KiB with the nick in front of every letter.
    eve.say("x\n".repeat(LINES).as_bytes());
    for _ in 0..LINES {
        ann.hears("<sixteen-letters-> x");
    }
}

#[test]
fn one_who_asks_and_asks_and_reads_no_answer_gets_all_of_them_later() {
    const QUESTIONS: usize = 4000;
    let room = room();
    let nicks: Vec<String> = (0..100).map(|n| format!("crowd-{n:010}")).collect();
    let mut crowd: Vec<Raw> = nicks.iter().map(|nick| Raw::join(&room, nick)).collect();
    let answer = format!("* here: {}", nicks.join(", "));
    let last = crowd.last_mut().unwrap();
    // 20 KB of questions, 7 MB of answers: far more than may ever wait for one.
    last.say("/who\n".repeat(QUESTIONS).as_bytes());
    // The room has time for others meanwhile.
    let mut ann = Raw::join(&room, "ann");
    ann.say(b"/who\n");
    ann.hears(&format!("* here: ann, {}", nicks.join(", ")));
    ann.say(b"/quit\n");
    // Among the first or the last of them are the answers from when ann was there, and the news of
    // her.
    let mut answers = 0;
    while answers < QUESTIONS {
        let line = last.line().unwrap();
        if line == answer || line == answer.replace(": ", ": ann, ") {
            answers += 1;
        } else {
            assert!(line.contains("ann") || line.contains("left out"), "{line}");
        }
    }
    last.say(b"/quit\n");
    let goodbye = std::iter::from_fn(|| last.line()).last();
    assert_eq!(goodbye.as_deref(), Some("* good-bye: quit"));
}

#[test]
fn bad_arguments_are_exit_code_2_and_a_taken_address_is_1_in_clear_words() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let usage = "\nusage: chat [LISTEN [IDLE_SECONDS]], by default 127.0.0.1:7777 60\n";
    for (arguments, code, words) in [
        (vec!["7777"], 2, "chat: \"7777\" is no address with a port"),
        (
            vec!["127.0.0.1:0", "0"],
            2,
            "chat: \"0\" is no idle time from 0.001 to 86400",
        ),
        (
            vec!["127.0.0.1:0", "NaN"],
            2,
            "chat: \"NaN\" is no idle time from 0.001 to 86400",
        ),
        (
            vec!["127.0.0.1:0", "1", "\x1b"],
            2,
            "chat: \"\\u{1b}\" is one argument too many",
        ),
        (vec![&taken], 1, "chat: can't serve on "),
    ] {
        let output = command("chat").args(&arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(output.stdout, b"");
        match code {
            2 => assert_eq!(said, format!("{words}{usage}")),
            _ => {
                assert!(said.starts_with(&format!("{words}{taken}: ")), "{said}");
                assert!(said.contains("in use"), "{said}");
            }
        }
    }
}
