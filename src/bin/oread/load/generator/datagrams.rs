//! Messages over UDP: sent, and what of them comes back, how often, in which order and how late.
//! What a datagram consists of is in `load/label`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oread::{Context, SendOutcome, UdpId, UdpOptions};

use crate::load::clock::SECOND;
use crate::load::count::tally::{Datagrams, nanos};
use crate::load::generator::Generator;
use crate::load::generator::closed::Then;
use crate::load::generator::flow::{Flow, Sent, Socket, Stage};
use crate::load::generator::label::Label;
use crate::load::generator::names;
use crate::load::generator::window::{Arrival, Window};
use crate::load::options::load::{Load, Traffic};

/// The fewest and the most datagrams of a flow that are remembered.
const LEAST_WINDOW: u64 = 1024;
const MOST_WINDOW: u64 = 1 << 20;
/// The most of all flows together, in a closed loop; a flow has twice its depth all the same.
const WINDOWS: u64 = 1 << 22;
/// The first datagram is sent again after so long without an answer, then after twice that, and so
/// on.
const RETRY: u64 = SECOND / 4;

/// What a generator has for UDP beside its flows.
#[derive(Debug)]
pub(crate) struct Sockets {
    by_id: HashMap<UdpId, u32, BuildHasherDefault<Mixed>>,
    /// What is counted of each flow, by its place in the report.
    counts: Vec<Datagrams>,
    /// Places in the report that no flow has.
    free: Vec<u32>,
    /// How many datagrams a flow remembers.
    window: u32,
    /// Flows that have more to send than one call sends, in a closed loop.
    pub(crate) unfilled: VecDeque<u32>,
    scratch: Vec<u8>,
}

/// A hash of the two small numbers that an id is. The map is asked for every datagram, and std's
/// hash, whose collisions nobody can bring about, is a seventh of all that one costs: nobody
/// outside chooses these.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(32) ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

impl Sockets {
    pub(crate) fn new(plan: &Load) -> Sockets {
        let flows = u64::from(plan.connections.get());
        let window = match plan.traffic {
            // What is sent until an answer is given up, twice.
            Traffic::Open(rate) => {
                let all = u128::from(rate.get()) * plan.message_timeout.as_millis() / 500;
                u64::try_from(all).unwrap_or(u64::MAX) / flows
            }
            // One that is lost is remembered until as many behind it as may be under way were
            // answered.
            Traffic::Closed { depth, .. } => {
                let shared = (WINDOWS / flows).min(1 << 16);
                shared.max(2 * u64::from(depth))
            }
            Traffic::Idle { .. } => 0,
        };
        Sockets {
            by_id: HashMap::default(),
            counts: Vec::new(),
            free: Vec::new(),
            window: window.clamp(LEAST_WINDOW, MOST_WINDOW) as u32,
            unfilled: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// Whether flows have more to send than the last turn has sent.
    pub(crate) fn has_more(&self) -> bool {
        !self.unfilled.is_empty()
    }
}

impl Generator {
    /// Opens a flow's socket.
    pub(crate) fn bind(
        &mut self,
        context: &mut Context<'_, u32>,
        index: usize,
        to: SocketAddr,
        source: Option<SocketAddr>,
    ) {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let options = UdpOptions {
            connect_to: Some(to),
            ..UdpOptions::new(source.unwrap_or(SocketAddr::new(any, 0)))
        };
        let id = match context.bind_udp(&options) {
            Ok(id) => id,
            Err(error) => {
                self.dial_failed(index, &error);
                return;
            }
        };
        let counts = &mut self.sockets.counts;
        let slot = self.sockets.free.pop().unwrap_or_else(|| {
            counts.push(Datagrams::default());
            (counts.len() - 1) as u32
        });
        self.sockets.by_id.insert(id, index as u32);
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.socket = Socket::Datagrams(id);
        flow.stage = Stage::Confirming;
        flow.window = Some(Box::new(Window::new(self.sockets.window, slot)));
        let (number, dialed) = (flow.number, flow.dialed);
        let now = self.epoch.now();
        self.dial_succeeded(number, dialed, now);
        self.send_datagram(context, id, index, 0, now);
    }

    /// A flow's socket is closed.
    pub(crate) fn unbind(&mut self, index: usize, id: UdpId) {
        self.sockets.by_id.remove(&id);
        if let Some(window) = self.flows.try_remove(index).and_then(|flow| flow.window) {
            self.sockets.free.push(window.slot);
        }
    }

    /// Sends a datagram; what the system does not take is dropped, and counted.
    pub(crate) fn send_datagram(
        &mut self,
        context: &mut Context<'_, u32>,
        id: UdpId,
        index: usize,
        due: u64,
        now: u64,
    ) -> bool {
        let Some(flow) = self.flows.get_mut(index) else {
            return false;
        };
        let Some((slot, size_of_window)) = flow.window.as_ref().map(|w| (w.slot, w.size())) else {
            return false;
        };
        let sent = Sent { due, at: now };
        let label = Label {
            flow: flow.number,
            number: flow.next,
            sent,
        };
        let size = self.payload.datagram_size(label.flow, label.number);
        label.write(&self.payload, size, &mut self.sockets.scratch);
        self.dialer
            .log_bytes(label.flow, "sent", &self.sockets.scratch);
        let counts = self.sockets.counts.get_mut(slot as usize);
        let measured = self.record.is_measured(due);
        // The socket is connected: the address is of no matter.
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let name = match context.send_to(id, nowhere, &self.sockets.scratch) {
            SendOutcome::Sent => {
                if flow.outstanding.len() >= size_of_window {
                    self.flowing.under_way -= forget_oldest(flow);
                }
                if let Some(window) = &mut flow.window {
                    window.sent(label.number, measured);
                    window.last_sent = now;
                }
                flow.next = flow.next.wrapping_add(1);
                flow.outstanding.push(sent);
                self.flowing.under_way += 1;
                if let Some(counts) = counts.filter(|_| measured) {
                    counts.sent += 1;
                    self.run.left -= 1;
                }
                self.record.sent(sent, size);
                return true;
            }
            SendOutcome::Blocked => "no room to send".to_owned(),
            SendOutcome::Failed(kind) => names::of_kind(kind),
            SendOutcome::NoSocket => return false,
            other => format!("not sent: {other:?}"),
        };
        if let Some(counts) = counts.filter(|_| measured) {
            counts.dropped += 1;
        }
        self.record.tally.error(&name);
        false
    }

    /// A datagram has come.
    pub(crate) fn heard_datagram(
        &mut self,
        context: &mut Context<'_, u32>,
        id: UdpId,
        data: &[u8],
    ) {
        let now = self.epoch.now();
        self.look_at_clock(context, now);
        let Some(&index) = self.sockets.by_id.get(&id) else {
            return;
        };
        let index = index as usize;
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let Some(window) = &mut flow.window else {
            return;
        };
        let Some(counts) = self.sockets.counts.get_mut(window.slot as usize) else {
            return;
        };
        self.dialer.log_bytes(flow.number, "received", data);
        // One whose time contradicts what is known of its number was not sent either.
        let record = &self.record;
        let label = Label::read(&self.payload, data).filter(|label| {
            let measured = window.is_measured(label.number, flow.next);
            label.flow == flow.number && measured == record.is_measured(label.sent.due)
        });
        let (label, arrival) = match label {
            Some(label) => (label, window.arrived(label.number, flow.next)),
            None => (Label::UNKNOWN, Arrival::Never),
        };
        let measured = self.record.is_measured(label.sent.due);
        match arrival {
            Arrival::Never => {
                counts.corrupt += 1;
                let number = flow.number;
                self.record.tally.messages.corrupt += 1;
                self.record.tally.error(names::CORRUPT);
                self.warn_of_corrupt_datagram(number, data);
            }
            Arrival::TooOld => self.record.tally.error("answer too late to be told"),
            Arrival::Again => counts.duplicated += u64::from(measured),
            Arrival::First { after_later } => {
                if measured {
                    counts.received += 1;
                    counts.reordered += u64::from(after_later);
                    let took = now.saturating_sub(label.sent.at);
                    counts.late += u64::from(took >= nanos(self.plan.message_timeout));
                }
                self.answered_datagram(context, index, label, data.len(), now);
            }
        }
    }

    /// The first answer to a datagram has come.
    fn answered_datagram(
        &mut self,
        context: &mut Context<'_, u32>,
        index: usize,
        label: Label,
        bytes: usize,
        now: u64,
    ) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let age = flow.next.wrapping_sub(label.number);
        // What is kept here is exact, what the datagram says is rounded.
        let kept = flow.outstanding.len().checked_sub(age);
        let kept = kept.and_then(|place| flow.outstanding.get(place));
        if kept.is_some() {
            self.flowing.under_way -= 1;
            if let Some(window) = &mut flow.window {
                window.within += 1;
            }
        }
        while settle_oldest(flow, |_, answered| answered).is_some() {}
        let sent = kept.unwrap_or(label.sent);
        self.record.answered(sent, now, bytes, kept.is_none());
        // In place of one that was given up, another has been sent.
        let in_time = u32::from(kept.is_some());
        if self.after_answers(context, index, in_time, now) == Then::Fill {
            self.feed(context, index, now);
            self.finish_if_all_sent(context);
        }
        self.end_if_answered(context, now);
    }

    /// Gives up datagrams that are under way for too long, and sends the first one again while
    /// nobody has answered it.
    pub(crate) fn look_after_datagrams(
        &mut self,
        context: &mut Context<'_, u32>,
        id: UdpId,
        index: usize,
        now: u64,
    ) {
        let timeout = nanos(self.plan.message_timeout);
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let mut given_up = 0;
        while let Some((sent, answered)) =
            settle_oldest(flow, |sent, answered| answered || sent.at + timeout <= now)
        {
            if !answered {
                given_up += 1;
                self.flowing.under_way -= 1;
                self.record.timed_out(sent);
            }
        }
        let (stage, dialed, settled) = (flow.stage, flow.dialed, flow.settled);
        let last_sent = flow.window.as_ref().map_or(0, |window| window.last_sent);
        match stage {
            Stage::Confirming if settled => {}
            Stage::Confirming if now >= dialed + timeout => {
                flow.settled = true;
                self.unconfirmed(index);
                self.settle();
            }
            Stage::Confirming if now >= last_sent + RETRY.max(last_sent.saturating_sub(dialed)) => {
                self.send_datagram(context, id, index, 0, now);
            }
            Stage::Retiring => self.close_if_answered(context, index),
            Stage::Live => {
                self.owe(index, given_up);
                self.feed(context, index, now);
            }
            _ => {}
        }
    }

    /// At the end: what was not answered; it had its time if it was sent at `given_up` or before.
    pub(crate) fn close_books(&mut self, flow: &mut Flow, given_up: u64) {
        let slot = flow.window.as_ref().map(|window| window.slot as usize);
        while let Some((sent, answered)) = settle_oldest(flow, |_, _| true) {
            if answered {
                continue;
            }
            if sent.at <= given_up {
                self.record.timed_out(sent);
            } else if self.record.is_measured(sent.due) {
                self.record.tally.messages.outstanding += 1;
                if let Some(counts) = slot.and_then(|slot| self.sockets.counts.get_mut(slot)) {
                    counts.outstanding += 1;
                }
            }
        }
    }

    /// At the end: what was never answered, over all flows.
    pub(crate) fn close_ledger(&mut self) {
        let tally = &mut self.record.tally;
        tally.flows = std::mem::take(&mut self.sockets.counts);
        for flow in &mut tally.flows {
            // What was not sent was not received either: if it were, the counts would not add up,
            // and that is told.
            flow.lost = flow.sent.saturating_sub(flow.received + flow.outstanding);
            tally.messages.lost += flow.lost;
            tally.datagrams.merge(flow);
        }
    }
}

/// Takes the oldest datagram out of what is under way if `done` says so of it, and of whether it
/// was answered.
fn settle_oldest(flow: &mut Flow, done: impl Fn(Sent, bool) -> bool) -> Option<(Sent, bool)> {
    let number = flow.next.wrapping_sub(flow.outstanding.len());
    let sent = flow.outstanding.oldest()?;
    let window = flow.window.as_mut()?;
    let answered = window.is_answered(number);
    if !done(sent, answered) {
        return None;
    }
    window.within -= u32::from(answered);
    flow.outstanding.pop();
    Some((sent, answered))
}

/// Makes room in a full window; how many datagrams are under way less.
fn forget_oldest(flow: &mut Flow) -> u64 {
    match settle_oldest(flow, |_, _| true) {
        Some((_, answered)) => u64::from(!answered),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::{Args, Command};

    /// The window of each flow of a load with these arguments.
    fn window(arguments: &str) -> u32 {
        let all = format!("oread load udp://127.0.0.1:9 {arguments}");
        let typed = Args::try_parse_from(all.split_whitespace()).unwrap();
        let Command::Load(typed) = typed.command else {
            panic!("not load");
        };
        Sockets::new(&Load::try_from(*typed).unwrap()).window
    }

    #[test]
    fn a_flow_remembers_twice_its_depth_however_many_flows_there_are() {
        assert_eq!(window("-c 1"), 1 << 16);
        assert_eq!(window("-c 100k"), LEAST_WINDOW as u32);
        assert_eq!(window("-c 200 --depth 40k"), 80_000);
        assert_eq!(window("-c 100k --depth 65536"), 1 << 17);
    }

    #[test]
    fn a_flow_remembers_what_a_schedule_sends_in_twice_the_message_timeout() {
        assert_eq!(window("-c 4 -R 10k --message-timeout 2s"), 10_000);
        assert_eq!(window("-c 1 -R 4g"), MOST_WINDOW as u32);
    }
}
