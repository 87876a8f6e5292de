//! The whole generator in a simulated network, against servers that keep their own truth: what is
//! counted and measured is held against what they know.
//!
//! | file | what it is |
//! |---|---|
//! | `server` over `manners` | a server that misbehaves as told, and writes down what it saw |
//! | `bench` | turns generators and servers, and plays the lead |
//! | `truth` | what the servers know, as what must have been at the clients |
//! | `connections`, `messages`, `datagrams` | counts and latencies, held against that |
//! | `figures` | what gates look at, for the report's own test |
//! | `over_time` | seconds, dials and first answers |
//! | `flows` | who sends next, when, and when it's over |
//! | `speech` | what servers say whose answers are no echoes |
//! | `levels` | connections that become more, or fewer |
//! | `faults` | one run for each fault that there was |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod connections;
mod datagrams;
mod faults;
pub(crate) mod figures;
mod flows;
mod levels;
mod manners;
mod messages;
mod over_time;
mod server;
mod speech;
mod truth;

use std::time::Duration;

use oread::sim::{World, check};

use bench::{Bench, Ran, Script};
use manners::Manners;
use speech::Speech;
use truth::{AT_ONCE, SMALL, Way};

use crate::load::clock::SECOND;
use crate::load::options::load::Volume;

/// How late the lead tells the start, at most.
const LATEST_START: Duration = Duration::from_millis(60);
/// About how many messages a run has at most.
const MOST_MESSAGES: u64 = 600;

const TCP: [&str; 2] = ["10.0.0.1:7", "10.0.0.2:7"];
const UDP: [&str; 2] = ["udp://10.0.0.3:7", "udp://10.0.0.4:7"];

/// What a seed draws for a run.
struct Drawn {
    arguments: String,
    manners: Vec<Manners>,
    script: Script,
    /// How long a way takes, in nanoseconds.
    latency: (u64, u64),
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A rate of one in so many, or none.
fn rate(world: &mut World, most: u64) -> u64 {
    match world.roll(6) {
        0 => 1 + world.roll(most),
        _ => 0,
    }
}

fn manners(world: &mut World, is_udp: bool, is_blind: bool) -> Manners {
    let (least, most) = world.pick(&[(1, 1), (1, 20), (5, 5), (20, 100), (50, 51), (1, 300)]);
    let mut manners = Manners {
        delay: (least, most),
        slow: rate(world, 50),
        slow_by: world.pick(&[100, 600, 3000]),
        seed: world.roll(u64::MAX),
        ..Manners::default()
    };
    if world.one_in(5) {
        let from = SECOND + world.roll(3 * SECOND);
        manners.stall = Some((from, from + world.roll(2 * SECOND)));
    }
    if world.one_in(8) && !is_udp {
        let from = SECOND + world.roll(2 * SECOND);
        manners.shut = Some((from, from + 1 + world.roll(2 * SECOND)));
    }
    if world.one_in(3) {
        return manners;
    }
    manners.deaf = rate(world, 20);
    manners.mute = rate(world, 200);
    manners.double = rate(world, 200);
    manners.flip = rate(world, 200);
    manners.steal = rate(world, 200);
    if !is_udp {
        manners.swap = rate(world, 200);
        manners.cut = rate(world, 100);
        manners.finish = rate(world, 100);
        manners.close = rate(world, 100);
        manners.reset = rate(world, 100);
    }
    if is_blind {
        (manners.double, manners.swap, manners.steal) = (0, 0, 0);
    }
    manners
}

/// The rest of a command line, for about so many connections and answers that take about so many
/// milliseconds.
fn traffic(world: &mut World, connections: u64, delay: u64, is_udp: bool) -> String {
    let mut said = String::new();
    let messages = world.one_in(4);
    let mut most = 1 + MOST_MESSAGES;
    let kind = world.roll(5);
    let depth = world.pick(&[1, 1, 2, 3, 8]);
    let think = world.pick(&[1, 5, 40, 200]);
    let beat = world.pick(&[1, 10, 50, 300]);
    let rate = world.pick(&[5, 40, 150, 400, 999]);
    let is_idle = kind == 4 && !messages;
    let a_second = match kind {
        0 | 1 => connections * depth * 1000 / delay.max(1),
        2 => connections * depth * 1000 / (delay + think),
        4 if is_idle => connections * 1000 / beat,
        _ => rate,
    };
    let mut is_staged = false;
    match kind {
        0 | 1 => said += &format!(" --depth {depth}"),
        2 => said += &format!(" --depth {depth} --think {think}ms"),
        4 if is_idle => {
            said += " --idle";
            if !world.one_in(6) {
                said += &format!(" --heartbeat {beat}ms");
            }
        }
        _ if !messages && world.one_in(2) => {
            is_staged = true;
            said += &stages(world, "stages", &[1, 7, 40, 150, 399], 1);
        }
        _ => said += &format!(" -R {rate}"),
    }
    let longest = (most * 1000 / a_second.max(1)).clamp(30, 4000);
    if messages {
        most = world.roll((a_second * 3).clamp(1, 300)) + 1;
        said += &format!(" -n {most}");
    } else if !is_staged {
        said += &format!(
            " -d {}us",
            1000 * (1 + world.roll(longest)) + world.roll(1000)
        );
    }
    if world.one_in(3) && !is_staged {
        said += &format!(" --warmup {}us", 1 + world.roll(500_000));
    }
    let turnover = world.roll(6);
    match turnover {
        0 => said += &format!(" --churn {}", world.pick(&[1, 5, 30, 100])),
        1 => said += &format!(" --lifetime {}ms", world.pick(&[1, 30, 100, 500, 2000])),
        _ => {}
    }
    let timeout = world.pick(&[30, 100, 250, 1000, 5000, 5000]);
    said += &format!(" --message-timeout {timeout}ms");
    if !is_udp {
        said += &format!(
            " --connect-timeout {}ms",
            world.pick(&[50, 500, 3000, 10_000])
        );
    }
    if world.one_in(3) && turnover != 1 {
        said += &format!(" -r {}", world.pick(&[200, 300, 1000, 100_000]));
    }
    if world.one_in(4) {
        said += &format!(" --ramp-timeout {}ms", world.pick(&[20, 200, 2000]));
    }
    said
}

/// Some stages that go up and down, between some of these values, each at least so long.
fn stages(world: &mut World, option: &str, values: &[u64], least_ms: u64) -> String {
    let stages = (0..world.count(4)).map(|place| {
        let us = 1000 * (least_ms + world.roll(800)) + world.roll(1000);
        let [from, to] = [(); 2].map(|()| values[world.roll(values.len() as u64) as usize]);
        match world.roll(5) {
            0 if place > 0 => format!("{us}us:0"),
            1 => format!("{us}us:{from}..0"),
            2 => format!("{us}us:0..{to}"),
            3 => format!("{us}us:{from}..{to}"),
            _ => format!("{us}us:{from}"),
        }
    });
    format!(" --{option} {}", stages.collect::<Vec<_>>().join(","))
}

/// What messages consist of; whether nobody looks at them.
fn content(world: &mut World) -> (String, bool) {
    let framing = world.pick(&[
        "raw",
        "raw",
        "raw",
        "lines",
        "length:u16",
        "length:u32le",
        "length:u8",
        "fixed:40",
    ]);
    let size = match framing {
        "fixed:40" => "40".to_owned(),
        "raw" => world
            .pick(&["64", "12", "13-80", "300", "4", "7", "100"])
            .to_owned(),
        _ => world.pick(&["64", "4-12", "5-40", "200", "13"]).to_owned(),
    };
    let verify = world.pick(&["full", "full", "full", "sequence", "off"]);
    (
        format!(" --framing {framing} -s {size} --verify {verify}"),
        verify == "off",
    )
}

fn script(world: &mut World) -> Script {
    let mut script = Script::default();
    if world.one_in(4) {
        script.start_late = ms(world.roll(LATEST_START.as_millis() as u64));
    }
    if world.one_in(6) {
        script.stop = Some(ms(world.roll(5000)));
    }
    script
}

/// What goes with traffic: how long connections are kept, messages without an answer, and what is
/// told of it.
fn turnover(world: &mut World, mut traffic: String, is_udp: bool, script: &mut Script) -> String {
    let is_kept = ["--churn", "--lifetime", "--idle"]
        .iter()
        .all(|it| !traffic.contains(it));
    if !is_udp && is_kept && world.one_in(4) {
        traffic += &format!(" --per-connection {}", world.pick(&[1, 2, 5, 30]));
    }
    if let Some(speech) = &mut script.speech
        && (traffic.contains("-R") || traffic.contains("--heartbeat"))
        && world.one_in(2)
    {
        // With some answers awaited, and others not, heartbeats may come too fast.
        let all = !traffic.contains("-R") || world.one_in(2);
        speech.hush(world, all);
    }
    if world.one_in(3) {
        traffic += " --worst 2";
    }
    if !is_udp && world.one_in(6) {
        traffic += " --reconnect";
    }
    traffic
}

fn drawn(world: &mut World, is_udp: bool) -> Drawn {
    let connections = world.count(12);
    let targets = 1 + world.roll(2) as usize;
    let threads = match connections > 1 && world.one_in(4) {
        true => 2,
        false => 1,
    };
    let mut script = script(world);
    if !is_udp && world.one_in(3) {
        script.speech = Some(Speech::drawn(world));
    }
    let (content, is_blind) = match is_udp {
        // What is said is the script's; it's longer than a small message.
        _ if script.speech.is_some() => (
            " --framing lines --message ........................".to_owned(),
            true,
        ),
        true => {
            let verify = world.pick(&["full", "sequence", "off"]);
            let size = world.pick(&["24", "64", "24-90", "1200"]);
            (format!(" -s {size} --verify {verify}"), false)
        }
        false => content(world),
    };
    let mut manners: Vec<Manners> = (0..targets)
        .map(|_| manners(world, is_udp, is_blind))
        .collect();
    if script.speech.is_some() && world.one_in(3) {
        // No answer at all, where that can be told.
        manners[0].swap = rate(world, 200);
    }
    let delay = manners.iter().map(|m| u64::midpoint(m.delay.0, m.delay.1));
    let traffic = traffic(world, connections, delay.min().unwrap_or(1), is_udp);
    let traffic = turnover(world, traffic, is_udp, &mut script);
    let latency = match world.roll(4) {
        0 => {
            let least = world.pick(&[20_000, 1_000_000, 30_000_000]);
            (least, least + least / 4 + AT_ONCE.1)
        }
        _ => (AT_ONCE.0, AT_ONCE.1),
    };
    let names = if is_udp { UDP } else { TCP };
    Drawn {
        arguments: format!(
            "-c {connections} -t {threads}{content}{traffic} {}",
            names[..targets].join(" ")
        ),
        manners,
        script,
        latency,
    }
}

fn run(world: &mut World, drawn: &Drawn) -> Ran {
    try_run(world, drawn).unwrap()
}

/// Runs it where the servers can be had: the system may refuse them their sockets.
fn try_run(world: &mut World, drawn: &Drawn) -> Option<Ran> {
    let Drawn {
        arguments,
        manners,
        script,
        ..
    } = drawn;
    world.note(format_args!(
        "oread load {arguments}: {manners:?}, {script:?}"
    ));
    let bench = Bench::new(world, arguments, manners, script.clone()).ok()?;
    Some(bench.run())
}

/// Processes that each have a part of a load are that load: what they do in the same network, and
/// count, is the same.
fn shards(world: &mut World) {
    let is_udp = world.one_in(4);
    let mut drawn = drawn(world, is_udp);
    let threads = world.pick(&[2, 3, 4]);
    let connections = threads + world.roll(9);
    // It begins with both.
    let others = drawn.arguments.splitn(5, ' ').nth(4).unwrap();
    drawn.arguments = format!("-c {connections} -t {threads} --seed 7 {others}");
    let mut ran = [false, true].map(|is_sharded| {
        let mut world = World::new(world.seed());
        drawn.script.is_sharded = is_sharded;
        run(&mut world, &drawn)
    });
    let said = |ran: &mut Ran| {
        let calls = ran.calls.iter().map(|call| (call.from, call.accepted));
        let calls: Vec<_> = calls.collect();
        let asked = ran.calls.iter().flat_map(|call| &call.asked);
        let asked: Vec<_> = asked.map(|asked| (asked.at, asked.bytes.clone())).collect();
        (calls, asked)
    };
    let [one, several] = &mut ran;
    assert_eq!(said(one), said(several), "what the servers saw");
    let (one, several) = (&one.tally, &several.tally);
    assert_eq!(one.connections, several.connections);
    assert_eq!(one.messages, several.messages);
    assert_eq!(
        (one.bytes, one.datagrams),
        (several.bytes, several.datagrams)
    );
    assert_eq!(one.errors, several.errors);
    assert_eq!(one.seconds, several.seconds);
    let histograms = one.latency.named().chain(one.schedule.named());
    let others = several.latency.named().chain(several.schedule.named());
    for ((name, one), (_, other)) in histograms.zip(others) {
        assert_eq!(one, other, "{name}");
    }
}

/// A network that loses nothing: all counts follow.
fn streams(world: &mut World) {
    let drawn = drawn(world, false);
    let (least, most) = drawn.latency;
    // The world adds up to a quarter to what it draws.
    world.latency(Duration::from_nanos(least)..=Duration::from_nanos(least));
    let ran = run(world, &drawn);
    let way = Way(least, most);
    connections::check_loosely(&ran);
    over_time::check_by_whom(&ran);
    flows::check_end(&ran, way);
    let is_at_once = way.1 == AT_ONCE.1;
    let is_plain = drawn.manners.iter().all(Manners::is_honest)
        && ran.keeps()
        && ran.load.content.sizes().1 <= SMALL;
    // With time on the way, what crosses each other there can't be told.
    if is_at_once || is_plain {
        connections::check_connections(&ran, way);
        messages::check_messages(&ran, way);
        over_time::check_dials(&ran, way);
        over_time::check_state(&ran, way);
    }
    if is_at_once {
        flows::check_traffic(&ran);
        flows::check_turnover(&ran);
    }
}

/// A network that does what it likes, with whoever is in it.
fn anything(world: &mut World) {
    world.unleash();
    let is_udp = world.one_in(3);
    let mut drawn = drawn(world, is_udp);
    if !is_udp && world.one_in(4) {
        // More than buffers hold.
        drawn.arguments = drawn.arguments.replace("-s 300", "-s 30000");
    }
    let script = &mut drawn.script;
    if world.one_in(4) {
        let from = ms(world.roll(3000));
        let until = from + ms(1 + world.roll(4000));
        script.parted = Some((0, from, until));
    }
    if world.one_in(6) {
        script.vanishes = Some((0, ms(world.roll(3000))));
    }
    let Some(ran) = try_run(world, &drawn) else {
        return;
    };
    connections::check_loosely(&ran);
}

fn datagrams(world: &mut World) {
    let drawn = drawn(world, true);
    let (least, most) = drawn.latency;
    world.latency(Duration::from_nanos(least)..=Duration::from_nanos(least));
    let ran = run(world, &drawn);
    datagrams::check_datagrams(&ran, Way(least, most.min(least + AT_ONCE.1)));
}

/// Servers that answer everything at once, and a generator that stands still for a while: what has
/// come meanwhile is neither lost nor late for good.
fn standing_still(world: &mut World) {
    let is_udp = world.one_in(2);
    let connections = world.count(12);
    let delay = world.pick(&[1, 2, 5]);
    let manners = Manners {
        delay: (delay, delay),
        seed: world.roll(u64::MAX),
        ..Manners::default()
    };
    let traffic = traffic(world, connections, delay, is_udp);
    let target = if is_udp { UDP[0] } else { TCP[0] };
    world.latency(Duration::ZERO..=Duration::ZERO);
    let drawn = Drawn {
        arguments: format!("-c {connections} {traffic} {target}"),
        manners: vec![manners],
        script: Script {
            still: Some((ms(world.roll(2500)), ms(1 + world.roll(3000)))),
            ..Script::default()
        },
        latency: (AT_ONCE.0, AT_ONCE.1),
    };
    let ran = run(world, &drawn);
    let (m, c) = (&ran.tally.messages, &ran.tally.connections);
    assert_eq!((m.sent, m.lost, m.outstanding), (m.echoed, 0, 0), "{m:?}");
    assert_eq!((c.lost, c.failed, c.refused), (0, 0, 0), "{c:?}");
    if let Volume::Messages(all) = ran.load.volume {
        assert_eq!(m.sent, all.get(), "{m:?}");
    }
}

#[test]
fn a_generator_that_stands_still_loses_nothing_that_has_come_meanwhile() {
    check(0..1000, standing_still);
}

#[test]
fn there_are_as_many_connections_as_the_stages_say_at_any_time() {
    check(0..200, levels::over_time);
}

#[test]
fn shards_do_and_count_what_the_one_load_does_and_counts() {
    check(0..150, shards);
}

#[test]
fn what_is_counted_of_streams_is_what_the_servers_know() {
    check(0..2000, streams);
}

#[test]
fn what_is_counted_of_datagrams_is_what_the_servers_know() {
    check(0..1500, datagrams);
}

#[test]
fn whatever_the_network_does_nothing_is_made_up_and_every_run_ends() {
    check(0..1500, anything);
}
