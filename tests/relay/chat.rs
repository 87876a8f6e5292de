//! The chat: what one member says reaches every other one, once and in order; lines are left out
//! for who is slow, and those are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use oread::sim::{Fault, Host, Peer, World, check};
use oread::{Limits, ListenOptions};

use crate::hosts::listening;
use crate::watched::Watched;
use crate::{address, end, is_calm, run, settle};

use example::Room;

#[allow(dead_code)]
#[path = "../../examples/chat.rs"]
mod example;

/// Long enough for a play, if no process stands still.
const IDLE: Duration = Duration::from_secs(100);

/// Longer than anything takes on its way.
const MOMENT: Duration = Duration::from_secs(1);

/// Somebody in the room, or about to be.
struct Guest {
    peer: Peer,
    nick: String,
    /// Each line that was said, and to how many of the others: those who were known to be there.
    said: Vec<String>,
    /// For each of the others, from which of their lines on they must be heard.
    hears: BTreeMap<usize, usize>,
    joined: bool,
    left: bool,
}

impl Guest {
    fn new(peer: Peer, number: usize) -> Guest {
        let nick = format!("guest-{number}");
        peer.send(format!("{nick}\n").as_bytes());
        Guest {
            peer,
            nick,
            said: Vec::new(),
            hears: BTreeMap::new(),
            joined: false,
            left: false,
        }
    }

    fn act(&mut self, world: &mut World) {
        if self.left {
            return;
        }
        match world.roll(30) {
            0..=11 => {
                for _ in 0..world.count(6) {
                    self.say(world);
                }
            }
            12 => self.peer.stop_reading(),
            13..=15 => self.peer.start_reading(),
            16 => {
                let pause = Duration::from_micros(world.roll(50_000));
                self.peer.read_slowly(1 + world.roll(500) as usize, pause);
            }
            17 => self.peer.send(b"/who\r\n"),
            18 if world.one_in(6) => self.leave(|peer| peer.send(b"/quit\n")),
            19 if world.one_in(6) => self.leave(Peer::finish),
            20 if world.one_in(6) => self.leave(Peer::reset),
            21 if world.one_in(20) => self.leave(Peer::vanish),
            _ => {}
        }
    }

    fn say(&mut self, world: &mut World) {
        let text = format!("{}:{}", self.said.len(), "la".repeat(world.size(300)));
        let end = if world.one_in(4) { "\r\n" } else { "\n" };
        let line = format!("{text}{end}");
        if world.one_in(6) {
            let pause = Duration::from_micros(world.roll(300));
            self.peer.send_slowly(line.as_bytes(), 7, pause);
        } else {
            self.peer.send(line.as_bytes());
        }
        self.said.push(text);
    }

    fn leave(&mut self, how: impl Fn(&Peer)) {
        self.left = true;
        how(&self.peer);
    }

    /// The whole lines that it has got.
    fn lines(&self) -> Vec<String> {
        let got = String::from_utf8(self.peer.received()).expect("lines are text");
        let whole = got.rfind('\n').map_or(0, |end| end + 1);
        got[..whole].lines().map(str::to_owned).collect()
    }
}

/// What one guest has heard.
#[derive(Default)]
struct Heard {
    /// The numbers of the lines of each of the others.
    lines: BTreeMap<String, Vec<usize>>,
    /// Lines that were left out, as it was told.
    left_out: usize,
    dismissed: bool,
}

/// Sorts out what a guest has heard, and whether it was said so.
fn hear(guest: &Guest, guests: &[Guest]) -> Heard {
    let mut heard = Heard::default();
    for line in guest.lines() {
        if let Some(count) = line.strip_prefix("* you are slow: ") {
            let count = count.split(' ').next().unwrap();
            heard.left_out += count.parse::<usize>().unwrap();
        }
        heard.dismissed |= line.starts_with("* good-bye");
        let Some((nick, text)) = line.strip_prefix('<').and_then(|l| l.split_once("> ")) else {
            assert!(line.starts_with(['*', '!']), "nobody says {line:?}");
            continue;
        };
        assert_ne!(nick, guest.nick, "it hears itself");
        let by = guests.iter().find(|by| by.nick == nick).expect("a nick");
        let number: usize = text.split(':').next().unwrap().parse().unwrap();
        assert_eq!(by.said.get(number).map(String::as_str), Some(text));
        let lines = heard.lines.entry(nick.to_owned()).or_default();
        let next = lines.last().is_none_or(|last| *last < number);
        assert!(next, "{nick}'s line {number} comes behind {lines:?}");
        lines.push(number);
    }
    heard
}

struct Play {
    room: Host<Watched<Room>>,
    guests: Vec<Guest>,
}

impl Play {
    fn draw(world: &mut World) -> Option<Play> {
        world.unleash();
        let mut limits = Room::limits(IDLE);
        if world.one_in(2) {
            limits.high_water = world.pick(&[200, 2000, 64 << 10]);
            limits.low_water = limits.high_water / 2;
            limits.io_budget = world.pick(&[1, 8]);
            limits.events = world.pick(&[1, 1024]);
            limits.read_buffer = world.pick(&[100, 2 << 10]);
        }
        let mut room = world.host(Watched::new(Room::new(IDLE)), limits).ok()?;
        let listening = room.context().listen(&ListenOptions {
            send_buffer: world.pick(&[None, Some(4096)]),
            ..ListenOptions::new(address())
        });
        listening.ok()?;
        room.context().timer(IDLE, 0);
        let guests = Vec::new();
        Some(Play { room, guests })
    }

    fn act(&mut self, world: &mut World) {
        if self.guests.len() < 6 && world.one_in(3) {
            let peer = world.connect(address());
            self.guests.push(Guest::new(peer, self.guests.len()));
        }
        self.look_who_is_there();
        for guest in &mut self.guests {
            guest.act(world);
        }
    }

    /// Notes who is known to have joined: from now on it must hear the others.
    fn look_who_is_there(&mut self) {
        for n in 0..self.guests.len() {
            let guest = &self.guests[n];
            if guest.joined || !guest.lines().iter().any(|l| l.starts_with("* welcome")) {
                continue;
            }
            let said: BTreeMap<usize, usize> = self
                .guests
                .iter()
                .map(|by| by.said.len())
                .enumerate()
                .collect();
            let guest = &mut self.guests[n];
            guest.joined = true;
            guest.hears = said;
        }
    }

    /// Everybody who has stayed has heard the others, but for the lines that were left out.
    fn compare(&self, world: &World) {
        let stood_still = world.faults_met().contains(&Fault::StoodStill);
        for guest in &self.guests {
            let heard = hear(guest, &self.guests);
            let stays = guest.joined && !guest.left && !heard.dismissed;
            if !stays || !is_calm(world) || stood_still {
                continue;
            }
            let mut missing = 0;
            for (by, from) in &guest.hears {
                let by = &self.guests[*by];
                if by.left || by.nick == guest.nick {
                    continue;
                }
                let lines = heard.lines.get(&by.nick).map_or(&[][..], Vec::as_slice);
                let due = lines.iter().filter(|line| *line >= from).count();
                missing += by.said.len() - from - due;
            }
            assert!(
                missing <= heard.left_out,
                "{} misses {missing} lines, and was told of {}",
                guest.nick,
                heard.left_out
            );
        }
    }
}

fn chat(world: &mut World) {
    let Some(mut play) = Play::draw(world) else {
        return;
    };
    for _ in 0..world.count(30) {
        play.act(world);
        let time = Duration::from_micros(world.roll(20_000));
        run(world, &mut play.room, time);
    }
    for guest in &play.guests {
        guest.peer.start_reading();
    }
    settle(world, &mut play.room);
    play.compare(world);
    // Who has left without a word is silent for too long, and so is everybody else by then.
    run(world, &mut play.room, 10 * IDLE);
    let open = play.room.context().stats().open;
    assert_eq!(open, 0, "{:#?}", play.room.handler.lives);
    end(world, &mut play.room);
}

#[test]
fn in_a_chat_each_line_reaches_every_other_member_once_and_in_order() {
    check(0..3000, chat);
}

#[test]
fn a_member_is_heard_to_its_end_though_its_answers_can_be_sent_no_more() {
    let mut world = World::new(1);
    // A few bytes at a time: the first line's answer has failed before the others are shown.
    let limits = Limits {
        read_buffer: 8,
        ..Room::limits(IDLE)
    };
    let mut room = listening(&mut world, Watched::new(Room::new(IDLE)), limits);
    let [speaks, hears] = [0, 1].map(|number| Guest::new(world.connect(address()), number));
    settle(&mut world, &mut room);
    // All that it says is there, and then the reset, before the room reads any of it.
    speaks.peer.send(b"/who\none\ntwo\nthree\nfour");
    speaks.peer.finish();
    world.advance(&mut (), MOMENT).unwrap();
    speaks.peer.reset();
    world.advance(&mut (), MOMENT).unwrap();
    settle(&mut world, &mut room);
    let told = hears.lines().join("\n");
    let due = "\n<guest-0> one\n<guest-0> two\n<guest-0> three\n<guest-0> four\n";
    assert!(told.contains(due), "{told}");
    end(&mut world, &mut room);
}
