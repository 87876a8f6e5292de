//! The report in words.

use std::env;

use hdrhistogram::Histogram;
use oread::Address;

use crate::failure::Failure;
use crate::load::clock::nanos;
use crate::load::count::{CORRUPT, MISMATCHED, Tally, Told, over_an_hour, percentile};
use crate::load::options::load::{Traffic, Turnover};
use crate::load::options::shard::Shard;
use crate::load::options::values::{Arrivals, VerifyMode};
use crate::load::report::by_whom;
use crate::load::report::judgement::{Judgement, Warning, percents};
use crate::load::report::outcome::Outcome;
use crate::load::report::stages;
use crate::system::environment::{Environment, VERSION, command_line};
use crate::system::page::{Page, Tone};
use crate::values::units::{Count, Size, a_second, share, short};

/// The percentiles of the table, and how wide the terminal must be for each to stand there: those
/// that say the least go first.
const COLUMNS: [(f64, usize); 5] = [(50.0, 0), (90.0, 69), (99.0, 0), (99.9, 0), (99.99, 78)];

/// The error of a target where nothing listens.
const REFUSED: &str = "ECONNREFUSED";

/// The whole report. It begins with what matters most: the exit code and why, the gates, and what
/// became of the connections. What to beware of stands above what it is about.
pub(super) fn report(mut page: Page, outcome: &Outcome, judgement: &Judgement) -> String {
    verdict(&mut page, outcome, judgement);
    connections(&mut page, outcome);
    beware(&mut page, judgement, |warning| warning.cause.is_none());
    messages(&mut page, outcome, judgement);
    datagrams(&mut page, outcome);
    beware(&mut page, judgement, |warning| warning.cause.is_some());
    latency(&mut page, outcome);
    stages::table(&mut page, outcome);
    by_whom::tell(&mut page, outcome);
    generator(&mut page, outcome);
    let here = Environment::here();
    let (kernel, machine) = (here.kernel, here.machine);
    let (processors, descriptors) = (here.processors, Count(here.descriptors));
    let ran = format!(
        "oread {VERSION} on {kernel} {machine}, {processors} processors, {descriptors} descriptors"
    );
    page.line("ran", &ran);
    // Not broken, so that it can be copied.
    page.row(&format!("{:13}{}", "", command_line(env::args_os())));
    page.finish()
}

fn verdict(page: &mut Page, outcome: &Outcome, judgement: &Judgement) {
    let code = judgement.exit_code();
    // A server that hangs keeps its connections, and all is not well.
    let is_well = code == 0 && outcome.fell_silent().is_none();
    let well = is_well.then(|| {
        let c = outcome.ledger();
        let in_stages = outcome.plan.connection_stages.is_some();
        let there = match c.asked {
            asked if in_stages => &format!("all {} connections of the stages were", Count(asked)),
            1 => "the connection was",
            asked => &format!("all {} connections were", Count(asked)),
        };
        let gates = match judgement.gates.is_empty() {
            true => "",
            false => ", and all gates are met",
        };
        // The load itself had closed these.
        let but = match c.asked.saturating_sub(c.open) {
            0 => "",
            _ if in_stages => "",
            some => &format!(", but for {} being replaced", Count(some)),
        };
        let until = if in_stages {
            "in their time"
        } else {
            "at the end"
        };
        (Tone::Plain, format!("{there} there {until}{but}{gates}"))
    });
    let wrong = judgement.findings.iter().map(|it| match it.code {
        0 => (Tone::Warning, it.words.clone()),
        _ => (Tone::Bad, it.words.clone()),
    });
    page.lines(&format!("exit code {code}"), well.into_iter().chain(wrong));
    let [measured, ramp] = [outcome.measured, outcome.ramp].map(|time| short(nanos(time)));
    let measured = match outcome.measured.is_zero() {
        true => ": nothing was measured",
        false => &format!(" for {measured}"),
    };
    let targets = outcome.targets.join(", ");
    let words = format!("{targets}{measured}, after a ramp of {ramp}");
    page.line("loaded", &words);
    if let Some(shard) = outcome.plan.shard {
        let Shard { index, of, by } = shard;
        let words = format!("{index} of {of}, counted from 0, as {by} says: its part of the load");
        page.line("shard", &words);
    }
    for gate in &judgement.gates {
        let tone = if gate.met { Tone::Plain } else { Tone::Bad };
        page.toned(tone, "gate", &gate.words());
    }
}

fn beware(page: &mut Page, judgement: &Judgement, is_here: fn(&&Warning) -> bool) {
    for warning in judgement.warnings.iter().filter(is_here) {
        page.toned(Tone::Warning, "BEWARE", &warning.words);
    }
}

fn connections(page: &mut Page, outcome: &Outcome) {
    let tally = &outcome.tally;
    let c = outcome.ledger();
    page.lines("connections", c.told().map(|words| (Tone::Plain, words)));
    let is_told = c.replaced > 0 || matches!(outcome.plan.turnover, Turnover::Churn(_));
    if let Some((asked, reached)) = outcome.churn().filter(|_| is_told) {
        let (asked, reached) = (a_second(asked), a_second(reached));
        let replaced = format!("{} closed and dialed again", Count(c.replaced));
        let words = format!("{asked} asked for, {reached} reached: {replaced}");
        page.line("churn", &words);
    }
    if let (Turnover::After(_), Some(rate)) = (outcome.plan.turnover, outcome.a_second(c.replaced))
    {
        let (rate, replaced) = (a_second(rate), Count(c.replaced));
        page.line(
            "churn",
            &format!("{rate} reached: {replaced} closed and dialed again"),
        );
    }
    for (name, &count) in &tally.errors {
        let mut words = format!("{} {name}", Count(count));
        if name == REFUSED && outcome.plan.has_udp() && tally.errors.contains_key("message timeout")
        {
            words += "; a datagram that was sent and refused is a message timeout too";
        }
        if let Some(part) = tally.partial.get(name) {
            let (got, of) = (Count(part.got), Count(part.of));
            words += &format!("; of the first one's answer {got} of {of} bytes came");
        }
        page.toned(Tone::Bad, "error", &words);
        if let Some(answer) = &tally.corrupt_answer
            && matches!(&**name, CORRUPT | MISMATCHED)
        {
            page.toned(Tone::Bad, "", &format!("the first one: {answer}"));
        }
    }
    page.line("tip", &tip(outcome).unwrap_or_default());
}

/// What to try where a target refuses, with the words of `oread connect`; is no echo server; or
/// says nothing.
fn tip(outcome: &Outcome) -> Option<String> {
    let (tally, is_udp) = (&outcome.tally, outcome.plan.has_udp());
    let c = &tally.connections;
    let is_short = c.peak_confirmed < c.asked || c.missing > 0 || tally.datagrams.lost > 0;
    let has = |name| tally.errors.contains_key(name);
    if is_short && (has(REFUSED) || has("ENOENT")) {
        let [target] = &outcome.targets[..] else {
            return Some("start a server at each target, or check the addresses".to_owned());
        };
        if target.starts_with("tls://") {
            return Some("start a server there, or check the address".to_owned());
        }
        let address = target.split_once("://").map_or(&**target, |(_, at)| at);
        let address: Address = address.parse().ok()?;
        let refused = std::io::ErrorKind::ConnectionRefused.into();
        let failure = Failure::connect(&address, &refused);
        let serve = if is_udp { " serve --udp " } else { " serve " };
        return Some(failure.tip()?.replace(" serve ", serve));
    }
    if let Some(words) = tls_tip(tally) {
        return Some(words.to_owned());
    }
    // Where descriptors ran out, that's why some were not served.
    let is_mute = (c.silent > 0 || has("never answered")) && !has("EMFILE");
    let is_none = c.confirmed == 0;
    let is_other = is_none && (has(CORRUPT) || has("closed by peer") || has("ECONNRESET"));
    let words = match tally.partial.values().next() {
        Some(part) if is_none && outcome.plan.verify == VerifyMode::Off => &format!(
            "the answer is shorter than the message, and with --verify off their lengths must \
             match: try -s {}",
            part.got
        ),
        _ if is_other && is_udp => "this may be no echo server",
        _ if is_other => {
            "this may be no echo server, or have another --framing: --message sends what it \
             expects, and with --verify off any answer counts that is as long as the message"
        }
        Some(_) if is_mute && !is_udp => {
            "this may be no echo server: --message sends what it expects, and with --verify off any \
             answer counts that is as long as the message"
        }
        _ if is_mute && is_udp => {
            "nothing may listen there, or a firewall or a limit may keep datagrams from it"
        }
        _ if is_mute => {
            "a server that accepts and says nothing may wait for a whole line or frame (--framing), \
             be full, or hang"
        }
        _ => return None,
    };
    Some(words.to_owned())
}

/// What to try where handshakes fail.
fn tls_tip(tally: &Tally) -> Option<&'static str> {
    let has = |why: &str| (tally.errors).contains_key(&format!("TLS handshake: {why}"));
    if has("unknown issuer") || has("self-signed certificate") {
        Some(
            "say who has signed the server's certificate with --tls-ca FILE, or take any with \
             --insecure",
        )
    } else if has("certificate for another name") {
        Some("say which name the certificate is for with --tls-name")
    } else {
        let is_other = has("not TLS") || has("unexpected message") || has("closed by peer");
        is_other.then_some("the server may speak no TLS on that port")
    }
}

fn messages(page: &mut Page, outcome: &Outcome, judgement: &Judgement) {
    let (m, b) = (&outcome.tally.messages, &outcome.tally.bytes);
    page.lines("messages", m.told().map(|words| (Tone::Plain, words)));
    if m.corrupt > 0 && m.lost > 0 {
        page.line("", "what had a corrupt answer is among the lost");
    }
    if m.verified > 0 || outcome.plan.script.is_some() {
        page.line("not checked", judgement.unchecked.as_deref().unwrap_or(""));
    }
    if let Some(rate) = outcome.rate_reached().filter(|_| m.due() + m.in_time > 0) {
        let size = |bytes| Size(outcome.a_second(bytes).unwrap_or(0.0) as u64);
        let [out, into] = [b.sent_in_time, b.received_in_time].map(size);
        let rate = a_second(rate);
        let asked = outcome
            .rate()
            .map(|(asked, _)| format!(" of {} asked for", a_second(asked)));
        let asked = asked.unwrap_or_default();
        let words = format!("{rate} answered{asked}; {out}/s out, {into}/s in");
        page.line("rate", &words);
    }
}

fn datagrams(page: &mut Page, outcome: &Outcome) {
    let d = &outcome.tally.datagrams;
    if d.sent + d.dropped == 0 {
        return;
    }
    let part = share(d.lost as f64 / d.sent.max(1) as f64);
    let [sent, received, lost] = [d.sent, d.received, d.lost].map(Count);
    let came = format!("{sent} sent, {received} received, {lost} lost ({part})");
    let [_, went] = d.told();
    let flows = &outcome.tally.flows;
    let losing = || flows.iter().filter(|(_, flow)| flow.lost > 0);
    let worst = losing().max_by_key(|(_, flow)| flow.lost);
    let worst = worst.map(|(number, flow)| {
        let [some, all] = [losing().count(), flows.len()].map(|flows| Count(flows as u64));
        let most = Count(flow.lost);
        format!("{some} of {all} flows lost some, flow {number} the most: {most}")
    });
    let is_closed = matches!(outcome.plan.traffic, Traffic::Closed { .. });
    let stops = match is_closed && d.lost > 0 {
        true => "a closed loop waits for a lost one until --message-timeout: use -R",
        false => "",
    };
    let all = [came, went, worst.unwrap_or_default(), stops.to_owned()];
    page.lines("datagrams", all.map(|words| (Tone::Plain, words)));
}

fn latency(page: &mut Page, outcome: &Outcome) {
    let (l, m) = (&outcome.tally.latency, &outcome.tally.messages);
    let is_closed = matches!(outcome.plan.traffic, Traffic::Closed { .. });
    let mut rows = vec![
        ("connect", &l.connect),
        ("handshake", &l.handshake),
        ("first echo", &l.first_echo),
    ];
    match is_closed {
        true => rows.push(("round trip", &l.response)),
        false => rows.extend([("response", &l.response), ("service", &l.service)]),
    }
    rows.retain(|(_, times)| !times.is_empty());
    if rows.is_empty() {
        return;
    }
    let width = page.width();
    let columns = || COLUMNS.iter().filter(|column| column.1 <= width);
    page.row("");
    let heads = columns().map(|(p, _)| format!("p{p}"));
    page.row(&row("latency", "count", heads, "max"));
    for (name, times) in rows {
        let (count, max) = (Count(times.len()).to_string(), short(times.max()));
        // A dash where too few samples carry the percentile.
        let figure = |p| percentile(times, p).map_or_else(|| "-".to_owned(), short);
        let figures = columns().map(|(p, _)| figure(*p));
        page.row(&row(&format!("  {name}"), &count, figures, &max));
        let over = over_an_hour(times);
        if over > 0 {
            let what = "took over an hour; what is over 73 minutes counts as that";
            page.remark(&format!("{} of these {what}", Count(over)));
        }
    }
    if m.unanswered() > 0 {
        let [without, due] = [m.unanswered(), m.due()].map(Count);
        let what = "messages due were never answered, and are in none of these figures";
        page.remark(&format!("{without} of the {due} {what}"));
    }
    if !l.response.is_empty() {
        page.remark(match is_closed {
            true => {
                "a round trip counts from when a message was sent; a closed loop stops sending while \
                 the server stalls, so a stall shows in few samples: use -R to count it in full"
            }
            false => "response counts from when a message was due, service from when it was sent",
        });
        page.row("\nresponses");
        page.bars(&bars(&l.response));
    }
    page.row("");
}

/// A row of the table of latencies.
fn row(name: &str, count: &str, figures: impl Iterator<Item = String>, max: &str) -> String {
    let figures: String = figures.map(|figure| format!(" {figure:>8}")).collect();
    format!("{name:<12} {count:>11}{figures} {max:>8}")
}

/// How well the schedule was kept, and how busy who was.
fn generator(page: &mut Page, outcome: &Outcome) {
    let late = &outcome.tally.schedule.pacing_error;
    let most = short(late.max());
    let late = match (late.is_empty(), percentile(late, 99.0).map(short)) {
        (true, _) => String::new(),
        (false, Some(p99)) => format!("; sent late by {p99} at p99, {most} at most"),
        (false, None) => format!("; sent late by {most} at most"),
    };
    let asked = match outcome.plan.traffic {
        Traffic::Open(asked, how) => {
            let how = if how == Arrivals::Poisson {
                ", as a Poisson process"
            } else {
                ""
            };
            match &outcome.plan.stages {
                Some(stages) => format!("{} stages of a rate{how}", stages.all.len()),
                None => format!("{asked} asked for{how}"),
            }
        }
        Traffic::Idle {
            heartbeat: Some(interval),
        } => format!("a heartbeat every {}", short(nanos(interval))),
        _ => String::new(),
    };
    page.line("pacing", &(asked + &late));
    let (cpu, waited) = (outcome.tally.cpu(), outcome.tally.waited());
    if cpu.max(waited) >= 0.005 {
        let (cpu, waited) = (percents(cpu), percents(waited));
        let words = format!("{cpu} of a CPU; kept waiting for a CPU {waited} of the time");
        page.line("generator", &words);
    }
    let server = outcome.own_server.map(|server| server.busy());
    if let Some(part) = server.filter(|&part| part >= 0.005) {
        page.line("its server", &format!("{} of a CPU", percents(part)));
    }
}

/// A bar for each range of times that has a response or lies between two that have; none for an
/// empty histogram.
fn bars(histogram: &Histogram<u64>) -> Vec<(String, u64)> {
    let mut bars: Vec<(u64, u64)> = bounds().map(|to| (to, 0)).collect();
    // Step by step of the histogram, for a bound may lie in the midst of a step: asked by bounds,
    // it would count that step on both sides.
    for step in histogram.iter_recorded() {
        let value = histogram.lowest_equivalent(step.value_iterated_to());
        if let Some((_, count)) = bars.iter_mut().find(|(to, _)| value <= *to) {
            *count += step.count_at_value();
        }
    }
    let last = bars.iter().rposition(|bar| bar.1 > 0);
    bars.truncate(last.map_or(0, |last| last + 1));
    let bars = bars.into_iter().skip_while(|bar| bar.1 == 0);
    let named = |(to, count)| (format!("up to {:>7}", short(to)), count);
    bars.map(named).collect()
}

/// 1, 2, 5, 10, 20, ... microseconds, in nanoseconds, to beyond an hour.
fn bounds() -> impl Iterator<Item = u64> {
    (3..13).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::count::histogram;

    fn drawn(times: &Histogram<u64>, columns: usize) -> String {
        let mut page = Page::new(Some(columns), false);
        page.bars(&bars(times));
        page.finish()
    }

    #[test]
    fn what_lies_at_a_bound_is_in_one_bar_too() {
        let mut times = histogram();
        let bounds: Vec<u64> = super::bounds()
            .take_while(|&to| to < 3_600_000_000_000)
            .collect();
        for &to in &bounds {
            for near in [to - 1, to, to + 1] {
                times.record(near).unwrap();
            }
        }
        let text = drawn(&times, 80);
        let shares = text
            .lines()
            .filter_map(|line| line.split_whitespace().last());
        let all: f64 = shares
            .map(|share| share.trim_end_matches('%').parse::<f64>().unwrap())
            .sum();
        // Each bar's share is rounded to a thousandth; one more in a bar would be one in 99.
        assert!((all - 100.0).abs() < 0.2, "{all}% in:\n{text}");
    }

    #[test]
    fn every_response_is_in_one_bar() {
        let mut times = histogram();
        for (ns, count) in [(1_500, 10), (9_000_000, 1), (90_000_000, 1_000)] {
            times.record_n(ns, count).unwrap();
        }
        let text = drawn(&times, 80);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("up to     2us"), "{text}");
        assert!(lines[lines.len() - 1].contains(&"#".repeat(40)), "{text}");
        assert!(
            lines.iter().any(|line| line.contains("up to    10ms  #  ")),
            "{text}"
        );
        assert!(drawn(&histogram(), 80).is_empty());
        let narrow = drawn(&times, 60);
        assert!(narrow.lines().all(|line| line.len() <= 60), "{narrow}");
    }
}
