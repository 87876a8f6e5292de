//! The report in words.

use hdrhistogram::Histogram;
use oread::Address;

use crate::failure::Failure;
use crate::load::clock::nanos;
use crate::load::count::{CORRUPT, over_an_hour, percentile};
use crate::load::options::gate::VALID;
use crate::load::options::load::{Traffic, Turnover};
use crate::load::report::chart::chart;
use crate::load::report::environment::Environment;
use crate::load::report::judgement::{Judgement, counted};
use crate::load::report::outcome::Outcome;
use crate::load::report::warnings::About;
use crate::system::page::{Page, Tone};
use crate::values::units::{Count, Size, a_second, share, short};

/// The percentiles of the table, and how wide the terminal must be for each to stand there: those
/// that say the least go first.
const COLUMNS: [(&str, f64, usize); 5] = [
    ("p50", 50.0, 0),
    ("p90", 90.0, 69),
    ("p99", 99.0, 0),
    ("p99.9", 99.9, 0),
    ("p99.99", 99.99, 78),
];

/// The whole report. It begins with what matters most: the exit code and why, the gates, and what
/// became of the connections.
pub(super) fn report(
    mut page: Page,
    outcome: &Outcome,
    environment: &Environment,
    judgement: &Judgement,
) -> String {
    verdict(&mut page, outcome, judgement);
    connections(&mut page, outcome);
    beware(&mut page, judgement, About::Messages);
    traffic(&mut page, outcome, judgement);
    if outcome.tally.datagrams.sent + outcome.tally.datagrams.dropped > 0 {
        beware(&mut page, judgement, About::Datagrams);
        datagrams(&mut page, outcome);
    }
    beware(&mut page, judgement, About::Latency);
    latency(&mut page, outcome);
    generator(&mut page, outcome, judgement);
    let Environment {
        version,
        kernel,
        machine,
        processors,
        ..
    } = environment;
    let descriptors = Count(environment.descriptors);
    let on = format!("{kernel} {machine}, {processors} processors, {descriptors} descriptors");
    page.line("ran", &format!("oread {version} on {on}"));
    // Not broken, so that it can be copied.
    page.row(&format!("{:13}{}", "", environment.command_line));
    page.finish()
}

fn verdict(page: &mut Page, outcome: &Outcome, judgement: &Judgement) {
    let code = judgement.exit_code();
    let mut label = format!("exit code {code}");
    if code == 0 {
        let words = match outcome.tally.connections.asked {
            1 => "the connection was there at the end",
            asked => &format!("all {} connections were there at the end", Count(asked)),
        };
        let gates = match judgement.gates.is_empty() {
            true => "",
            false => ", and all gates are met",
        };
        page.line(&label, &format!("{words}{gates}"));
        label.clear();
    }
    for finding in &judgement.findings {
        let tone = match finding.code {
            0 => Tone::Warning,
            _ => Tone::Bad,
        };
        page.toned(tone, &label, &finding.words);
        label.clear();
    }
    let measured = match outcome.measured.is_zero() {
        true => ": nothing was measured".to_owned(),
        false => format!(" for {}", short(nanos(outcome.measured))),
    };
    let (targets, ramp) = (outcome.targets.join(", "), short(nanos(outcome.ramp)));
    let words = format!("{targets}{measured}, after a ramp of {ramp}");
    page.line("loaded", &words);
    for gate in &judgement.gates {
        let (tone, word) = match gate.met {
            true => (Tone::Plain, "met"),
            false => (Tone::Bad, "NOT MET"),
        };
        let is = match &*gate.gate {
            VALID => ":",
            _ => ", it is",
        };
        let words = format!("{}: {word}{is} {}", gate.gate, gate.shown);
        page.toned(tone, "gate", &words);
    }
}

fn beware(page: &mut Page, judgement: &Judgement, about: About) {
    let warnings = judgement.warnings.iter();
    for warning in warnings.filter(|warning| warning.about == about) {
        page.toned(Tone::Warning, "BEWARE", &warning.words);
    }
}

/// Lines about one thing, those without a word left out.
fn lines(page: &mut Page, mut label: &str, all: &[String]) {
    for words in all.iter().filter(|words| !words.is_empty()) {
        page.line(std::mem::take(&mut label), words);
    }
}

fn connections(page: &mut Page, outcome: &Outcome) {
    let c = &outcome.tally.connections;
    let came = [
        (c.asked, "asked for"),
        (c.dialed, "dialed"),
        (c.established, "established"),
        (c.confirmed, "confirmed by an echo"),
        (c.open.saturating_sub(c.silent), "open at the end"),
    ];
    let went = [
        (c.lost, "lost"),
        (c.refused, "refused"),
        (c.timed_out, "timed out"),
        (c.failed, "failed"),
        (c.dialing, "still dialing"),
        (c.silent, "connected, waiting for the first echo"),
    ];
    lines(page, "connections", &[counted(&came), counted(&went)]);
    let is_told = |_: &f64| c.replaced > 0 || matches!(outcome.plan.turnover, Turnover::Churn(_));
    if let Some(reached) = outcome.churn_reached().filter(is_told) {
        let asked = outcome.churn_asked().unwrap_or(0.0);
        let asked = format!("{} asked for, ", a_second(asked));
        let (reached, replaced) = (a_second(reached), Count(c.replaced));
        let words = format!("{asked}{reached} reached: {replaced} closed and dialed again");
        page.line("churn", &words);
    }
    for (name, count) in &outcome.tally.errors {
        let part = outcome.tally.partial.get(name);
        let part = part.map_or_else(String::new, |part| {
            let (got, of) = (Count(part.got), Count(part.of));
            format!("; of the first one's answer {got} of {of} bytes came")
        });
        let words = format!("{} {name}{part}", Count(*count));
        page.toned(Tone::Bad, "error", &words);
        if let Some(answer) = &outcome.tally.corrupt_answer
            && name == CORRUPT
        {
            page.toned(Tone::Bad, "", &format!("the first one: {answer}"));
        }
    }
    page.line("tip", &tip(outcome).unwrap_or_default());
}

/// What to try where a target refuses, with the words of `oread connect`; is no echo server; or
/// says nothing.
fn tip(outcome: &Outcome) -> Option<String> {
    let (c, errors) = (&outcome.tally.connections, &outcome.tally.errors);
    let refused = errors.contains_key("ECONNREFUSED") || errors.contains_key("ENOENT");
    let is_short = c.peak_confirmed < c.asked || c.missing > 0 || outcome.tally.datagrams.lost > 0;
    if !refused || !is_short {
        let is_other = c.confirmed == 0 && errors.contains_key(CORRUPT);
        let is_mute = c.silent > 0 || errors.contains_key("never answered");
        let words = match (is_other, is_mute) {
            (true, _) => {
                "this may be no echo server: --message sends what it expects, and with --verify off \
                 answers count by their length alone"
            }
            (false, true) => {
                "a server that accepts and says nothing may wait for a whole line or frame \
                 (--framing), be full, or hang"
            }
            (false, false) => return None,
        };
        return Some(words.to_owned());
    }
    let [target] = &outcome.targets[..] else {
        return Some("start a server at each target, or check the addresses".to_owned());
    };
    let address = target.split_once("://").map_or(&**target, |(_, at)| at);
    let address: Address = address.parse().ok()?;
    let refused = std::io::ErrorKind::ConnectionRefused.into();
    let failure = Failure::connect(&address, &refused);
    failure.tip().map(str::to_owned)
}

fn traffic(page: &mut Page, outcome: &Outcome, judgement: &Judgement) {
    let m = &outcome.tally.messages;
    let b = &outcome.tally.bytes;
    let came = [
        (m.sent, "sent"),
        (m.echoed, "echoed"),
        (m.verified, "verified"),
    ];
    let went = [
        (m.corrupt, "corrupt"),
        (m.timed_out, "over the message timeout"),
        (m.lost, "lost"),
        (m.outstanding, "outstanding"),
        (m.unsent, "due and never sent"),
    ];
    lines(page, "messages", &[counted(&came), counted(&went)]);
    if m.verified > 0 {
        page.line("not checked", judgement.unchecked.as_deref().unwrap_or(""));
    }
    if let Some(rate) = outcome.rate_reached().filter(|_| m.due() + m.in_time > 0) {
        let each = |bytes: u64| Size((bytes as f64 / outcome.measured.as_secs_f64()) as u64);
        let words = format!(
            "{} answered; {}/s out, {}/s in",
            a_second(rate),
            each(b.sent_in_time),
            each(b.received_in_time)
        );
        page.line("rate", &words);
    }
}

fn datagrams(page: &mut Page, outcome: &Outcome) {
    let d = &outcome.tally.datagrams;
    let part = share(d.lost as f64 / d.sent.max(1) as f64);
    let (sent, received, lost) = (Count(d.sent), Count(d.received), Count(d.lost));
    let words = format!("{sent} sent, {received} received, {lost} lost ({part})");
    let went = [
        (d.late, "late"),
        (d.duplicated, "duplicated"),
        (d.reordered, "reordered"),
        (d.corrupt, "corrupt"),
        (d.outstanding, "outstanding"),
        (d.dropped, "not taken by the system"),
    ];
    lines(page, "datagrams", &[words, counted(&went)]);
    let flows = &outcome.tally.flows;
    let losing = || flows.iter().filter(|(_, flow)| flow.lost > 0);
    if let Some((flow, worst)) = losing().max_by_key(|(_, flow)| flow.lost) {
        let (some, all) = (losing().count() as u64, flows.len() as u64);
        let (some, all, most) = (Count(some), Count(all), Count(worst.lost));
        let words = format!("{some} of {all} flows lost some, flow {flow} the most: {most}");
        page.line("", &words);
    }
}

fn latency(page: &mut Page, outcome: &Outcome) {
    let l = &outcome.tally.latency;
    let traffic = outcome.plan.traffic;
    let response = match traffic {
        Traffic::Closed { .. } => "round trip",
        _ => "response",
    };
    let open = matches!(traffic, Traffic::Open(_));
    let rows = [
        ("connect", &l.connect, true),
        ("first echo", &l.first_echo, true),
        (response, &l.response, true),
        ("service", &l.service, open),
    ];
    let rows = || rows.iter().filter(|row| row.2 && !row.1.is_empty());
    if rows().count() == 0 {
        return;
    }
    let width = page.width();
    let columns = || COLUMNS.iter().filter(|column| column.2 <= width);
    let head: String = columns()
        .map(|column| format!(" {:>8}", column.0))
        .collect();
    page.row("");
    page.row(&format!(
        "{:<12} {:>11}{head} {:>8}",
        "latency", "count", "max"
    ));
    for (name, histogram, _) in rows() {
        let figures: String = columns()
            .map(|column| format!(" {:>8}", percentile_or_dash(histogram, column.1)))
            .collect();
        let (count, max) = (Count(histogram.len()).to_string(), short(histogram.max()));
        page.row(&format!("  {name:<10} {count:>11}{figures} {max:>8}"));
        let over = over_an_hour(histogram);
        if over > 0 {
            let over = Count(over);
            page.remark(&format!(
                "{over} of these took over an hour; what is over 73 minutes counts as that"
            ));
        }
    }
    let m = &outcome.tally.messages;
    if m.unanswered() > 0 {
        let (without, due) = (Count(m.unanswered()), Count(m.due()));
        page.remark(&format!(
            "{without} of the {due} messages due were never answered, and are in none of these figures"
        ));
    }
    if l.response.is_empty() {
        return page.row("");
    }
    match traffic {
        Traffic::Open(_) => page.remark(
            "response counts from when a message was due, service from when it was sent",
        ),
        Traffic::Closed { .. } => page.remark(
            "a round trip counts from when a message was sent; while the server stalls none is sent, \
             so that a stall is in few of them: -R sends on, and counts it in full",
        ),
        Traffic::Idle { .. } => {}
    }
    page.row("\nresponses");
    chart(&l.response, width)
        .iter()
        .for_each(|row| page.row(row));
    page.row("");
}

/// A dash where too few samples carry the percentile.
fn percentile_or_dash(histogram: &Histogram<u64>, p: f64) -> String {
    percentile(histogram, p).map_or_else(|| "-".to_owned(), short)
}

/// How well the schedule was kept, and how busy who was.
fn generator(page: &mut Page, outcome: &Outcome, judgement: &Judgement) {
    if let Traffic::Open(asked) = outcome.plan.traffic {
        let pacing = &outcome.tally.pacing.error;
        let late = match pacing.is_empty() {
            true => String::new(),
            false => format!(
                "; sent late by {} at p99, {} at most",
                percentile_or_dash(pacing, 99.0),
                short(pacing.max())
            ),
        };
        let asked = a_second(asked.get().into());
        page.line("pacing", &format!("{asked} asked for{late}"));
    }
    let whole = |part: f64| share((part * 100.0).round() / 100.0);
    let usage = &judgement.usage;
    if usage.cpu.max(usage.waited) >= 0.005 {
        let (cpu, waited) = (whole(usage.cpu), whole(usage.waited));
        let words = format!("{cpu} of a CPU; kept waiting for a CPU {waited} of the time");
        page.line("generator", &words);
    }
    let server = outcome.own_server.filter(|server| !server.wall.is_zero());
    let part = server.map_or(0.0, |server| {
        server.cpu.as_secs_f64() / server.wall.as_secs_f64()
    });
    if part >= 0.005 {
        page.line("its server", &format!("{} of a CPU", whole(part)));
    }
}
