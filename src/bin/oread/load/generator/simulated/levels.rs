//! Connections over time, as the servers saw them come and go.

use oread::sim::World;

use super::bench::Ran;
use super::truth::{AT_ONCE, Times};
use super::{Drawn, Manners, Script, TCP, run, stages};
use crate::load::clock::{SECOND, nanos};
use crate::load::options::stages::Stages;

/// How long it may take until a connection is there that is to be, and gone that is not: a jump is
/// dialed at the connect rate, and one that is to be closed has an answer to come.
const LATE: u64 = SECOND / 5;

/// How many there are to be at a time, as a number with a fraction.
fn asked_at(stages: &Stages, time: u64) -> f64 {
    let mut begins = 0;
    for stage in stages.all.iter() {
        let whole = nanos(stage.time);
        if time < begins + whole {
            let part = time.saturating_sub(begins) as f64 / whole as f64;
            return stage.from as f64 + (stage.to as f64 - stage.from as f64) * part;
        }
        begins += whole;
    }
    stages.all.last().map_or(0.0, |last| last.to as f64)
}

/// How many a server had at a time.
fn open_at(ran: &Ran, time: u64) -> f64 {
    let is_open = |from: u64, to: Option<u64>| from <= time && to.is_none_or(|to| time < to);
    let calls = ran.calls.iter();
    calls
        .filter(|call| is_open(call.accepted, call.left))
        .count() as f64
}

/// At each time there are as many as the stages say, and each of them is one in the ledger.
pub(super) fn over_time(world: &mut World) {
    let text = stages(world, "connection-stages", &[2, 3, 5, 11, 30], 150);
    let traffic = world.pick(&[
        "",
        "--think 5ms",
        "--idle",
        "--idle --heartbeat 20ms",
        "-R 300",
    ]);
    let threads = world.pick(&[1, 2]);
    let warmup = world.pick(&["", "--warmup 30ms"]);
    let delay = world.pick(&[1, 5, 20]);
    let manners = Manners {
        delay: (delay, delay),
        seed: world.roll(u64::MAX),
        ..Manners::default()
    };
    let drawn = Drawn {
        arguments: format!("{text} {traffic} {warmup} -t {threads} {}", TCP[0]),
        manners: vec![manners],
        script: Script::default(),
        latency: (AT_ONCE.0, AT_ONCE.1),
    };
    world.latency(std::time::Duration::ZERO..=std::time::Duration::ZERO);
    let ran = run(world, &drawn);
    let stages = ran.load.connection_stages.clone().unwrap();
    let times = Times::of(&ran);
    let step = (times.until - times.from) / 200 + 1;
    let mut at = times.from;
    while at < times.until {
        let around = (0..=40).rev().map(|part| {
            let early = (at + SECOND / 100).saturating_sub(part * (LATE + SECOND / 100) / 40);
            asked_at(&stages, early.saturating_sub(times.from))
        });
        let around: Vec<f64> = around.collect();
        let least = around.iter().copied().fold(f64::MAX, f64::min);
        // Those that are to go may still be there beside all that have come meanwhile.
        let more = around.windows(2).map(|two| (two[1] - two[0]).max(0.0));
        let most = around[0] + more.sum::<f64>();
        let open = open_at(&ran, at);
        assert!(
            open >= (least - 0.51).floor() && open <= (most + 0.51).ceil(),
            "{open} were open at {at}, and there must be {least} to {most}"
        );
        at += step;
    }
    check_ledger(&ran, &stages);
}

/// Those of the ramp, and each by which there are to be more than before.
fn check_ledger(ran: &Ran, stages: &Stages) {
    let mut asked = stages.all[0].from;
    let mut before = asked;
    for stage in stages.all.iter() {
        asked += stage.from.saturating_sub(before) + stage.to.saturating_sub(stage.from);
        before = stage.to;
    }
    let c = &ran.tally.connections;
    assert_eq!(
        (c.asked, c.dialed, c.confirmed),
        (asked, asked, asked),
        "{c:?}"
    );
    assert_eq!((c.missing, c.lost, c.open), (0, 0, before), "{c:?}");
    assert_eq!(c.closed, asked - before, "{c:?}");
    assert_eq!(ran.calls.len() as u64, asked);
    assert_eq!(ran.tally.stages.len(), stages.all.len());
}
