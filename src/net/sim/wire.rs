//! What moves on a connection's ways: segments, acknowledgements, windows.

use std::time::Duration;

use super::State;
use super::faults::Fault;
use super::schedule::What;
use super::tcp::{Acknowledgement, Fin, Phase, RESEND, Segment};
use super::watch::{BOTH, READ, Side, Target, WRITE};

impl State {
    /// Sends what the window lets go, and the FIN behind it.
    pub(super) fn transmit(&mut self, side: Side) {
        let now = self.now;
        while let Some((may, fin)) = self.may_send(side) {
            let tiny = may > 0 && self.faults.hit(Fault::OneByteSegments);
            let delay = self.latency(side.connection);
            let joined = fin && self.faults.hit(Fault::FinWithData);
            let Some(Some(connection)) = self.connections.get_mut(side.connection as usize) else {
                return;
            };
            let way = &mut connection.ways[usize::from(side.end)];
            if tiny {
                way.tiny = 16;
            }
            let size = match may {
                0 => 0,
                _ => way.cut_segment(may, &mut self.random),
            };
            way.sent += size;
            let last = way.sent == way.written;
            let with_fin = fin && last && (size == 0 || joined || self.random.one_in(2));
            if with_fin {
                way.fin = Fin::Sent;
            }
            if let Some(nanos) = (size * 1_000_000_000).checked_div(connection.speed) {
                way.busy_until = way.busy_until.max(now) + Duration::from_nanos(nanos);
            }
            let at = (way.busy_until.max(now) + delay).max(way.last_arrival);
            way.last_arrival = at;
            way.segments.push_back(Segment {
                at,
                upto: way.sent,
                fin: with_fin,
                urgent: way.urgent_sent.filter(|mark| *mark < way.sent),
            });
            self.schedule.at(at, What::Segment(side));
        }
        self.watch_window(side);
    }

    /// How many bytes may be sent now, and whether a FIN may follow; `None`: neither.
    fn may_send(&mut self, side: Side) -> Option<(u64, bool)> {
        let connection = self.connection(side.connection)?;
        let end = &connection.ends[usize::from(side.end)];
        let way = &connection.ways[usize::from(side.end)];
        if end.phase != Phase::Established || end.vanished {
            return None;
        }
        let may = way.written.min(way.allowed).saturating_sub(way.sent);
        let fin = way.fin == Fin::Queued && way.sent + may == way.written;
        (may > 0 || fin).then_some((may, fin))
    }

    /// A window that is closed to data counts against the user timeout.
    fn watch_window(&mut self, side: Side) {
        let closed = self
            .way(side)
            .is_some_and(|way| way.sent == way.allowed && way.sent < way.written);
        if closed && self.end(side).is_some_and(|end| end.user_timeout.is_some()) {
            self.expect_expiry(side);
        }
    }

    /// A segment arrives, or is lost on its way.
    pub(super) fn segment_arrives(&mut self, side: Side) {
        for (fault, both) in [(Fault::ResetOnTheWay, true), (Fault::ResetOneEnd, false)] {
            if self.faults.hit(fault) {
                self.trace(|| format!("a machine on the way resets c{}", side.connection));
                self.reset_arrives(side);
                if both {
                    self.reset_arrives(side.other());
                }
                return;
            }
        }
        let lost = self.faults.hit(Fault::SegmentLost);
        let now = self.now;
        let cut_off = self.is_cut_off(side);
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let end = &connection.ends[usize::from(1 - side.end)];
        let way = &mut connection.ways[usize::from(side.end)];
        let Some(segment) = way.segments.front().copied().filter(|_| !end.vanished) else {
            return;
        };
        let again = lost || cut_off || end.phase == Phase::Answering;
        if again || segment.at > now {
            // All behind a lost one wait for it: those that come early find it not yet there.
            if segment.at <= now {
                way.send_again(now);
            }
            let at = way.segments.front().map_or(now, |first| first.at);
            self.schedule.at(at, What::Segment(side));
            if cut_off {
                self.expect_expiry(side);
            }
            return;
        }
        way.segments.pop_front();
        way.backoff = RESEND;
        let is_data = segment.upto > way.received;
        if end.phase == Phase::Over {
            self.answer_with_reset(side.other());
        } else if is_data && end.closed {
            // Nobody will ever read it (`TCPABORTONDATA`).
            self.abort(side.other());
        } else {
            self.take_segment(side, segment);
        }
    }

    /// The receiver's system takes in a segment that `side` has sent.
    fn take_segment(&mut self, side: Side, segment: Segment) {
        let now = self.now;
        self.idle.arrived += 1;
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let end = &mut connection.ends[usize::from(1 - side.end)];
        let way = &mut connection.ways[usize::from(side.end)];
        end.heard = now;
        let count = segment.upto.saturating_sub(way.received);
        way.received = way.received.max(segment.upto);
        // What comes behind an exactly full read is there before this.
        end.full_until = Duration::ZERO;
        let urgent = segment.urgent.filter(|mark| *mark >= way.read);
        if urgent.is_some() && urgent != way.urgent {
            // A second mark takes the place of the first, whose byte is then one like the others;
            // unless it is the very next to be read (`tcp_check_urg`).
            if way.urgent == Some(way.read) && way.available() > 0 {
                way.skip(1);
            }
            way.urgent = urgent;
        }
        let fin = segment.fin && !end.finished;
        if fin {
            end.finished = true;
            way.fin = Fin::Received;
        }
        self.trace(|| {
            let fin = if fin { " and a FIN" } else { "" };
            let (from, to) = (Target::Stream(side), Target::Stream(side.other()));
            format!("from {from} to {to}: {count} bytes{fin}")
        });
        self.acknowledge(side);
        if fin {
            self.end_if_finished(side.other());
        }
        if count > 0 || fin {
            let what = if fin { BOTH } else { READ };
            self.poke(Target::Stream(side.other()), what);
        }
        if count > 0 && self.faults.hit(Fault::ResetBehindData) {
            self.reset_arrives(side.other());
        }
    }

    /// The receiver of what `side` sends acknowledges what it has, and tells its window.
    pub(super) fn acknowledge(&mut self, side: Side) {
        let mut delay = self.latency(side.connection);
        if self.faults.hit(Fault::AckDelayed) {
            delay += Duration::from_millis(40);
        }
        let now = self.now;
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        if connection.ends[usize::from(1 - side.end)].vanished {
            return;
        }
        let way = &mut connection.ways[usize::from(side.end)];
        // Moved by a sixteenth or more, or each byte that is read would let one byte more come, for
        // good (`__tcp_select_window`; RFC 9293, 3.8.6.2.2).
        let edge = way.read + way.receive_buffer;
        if edge >= way.told + way.receive_buffer / 16 {
            way.told = edge;
        }
        let at = (now + delay).max(way.last_acknowledgement);
        let told = Acknowledgement {
            at,
            upto: way.received,
            allowed: way.told,
            fin: way.fin >= Fin::Received,
        };
        if let Some(last) = way.acknowledgements.back_mut()
            && last.at == at
        {
            *last = told;
            return;
        }
        way.last_acknowledgement = at;
        way.acknowledgements.push_back(told);
        self.schedule.at(at, What::Ack(side));
    }

    /// After a read: opens the window again where that is worth a segment: by half, or from
    /// nothing by a sixteenth (`__tcp_select_window`).
    pub(super) fn open_window(&mut self, side: Side) {
        let Some(way) = self.way(side) else {
            return;
        };
        let edge = way.read + way.receive_buffer;
        let gain = edge.saturating_sub(way.told);
        let closed = way.told.saturating_sub(way.received) < way.receive_buffer / 16 + 1;
        let worth = if closed { 16 } else { 2 };
        if gain * worth >= way.receive_buffer {
            self.acknowledge(side);
        }
    }

    /// An acknowledgement arrives at the end that has sent what it is for.
    pub(super) fn acknowledgement_arrives(&mut self, side: Side) {
        let now = self.now;
        let cut_off = self.is_cut_off(side);
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let end = &mut connection.ends[usize::from(side.end)];
        let way = &mut connection.ways[usize::from(side.end)];
        if cut_off {
            let at = now + Duration::from_millis(200);
            if let Some(first) = way.acknowledgements.front_mut() {
                first.at = at;
                way.last_acknowledgement = way.last_acknowledgement.max(at);
                self.schedule.at(at, What::Ack(side));
            }
            self.expect_expiry(side);
            return;
        }
        let Some(told) = way.acknowledgements.pop_front() else {
            return;
        };
        if end.vanished {
            return;
        }
        if end.phase == Phase::Over {
            // Who has failed is known by nothing any more, and answers so (`tcp_v4_rcv`). Who has
            // finished waits for what still comes (TIME_WAIT).
            if !end.finished || way.fin != Fin::Acknowledged {
                self.send_reset(side.other(), true);
            }
            return;
        }
        end.heard = now;
        let progress = told.upto > way.acknowledged || told.allowed > way.allowed;
        let had_room = way.has_low_water();
        if progress {
            way.since = now;
        }
        way.acknowledged = way.acknowledged.max(told.upto);
        way.allowed = way.allowed.max(told.allowed);
        let fin = told.fin && way.fin == Fin::Received;
        if fin {
            way.fin = Fin::Acknowledged;
            way.since = now;
        }
        let room = way.no_space && way.is_writable();
        if room {
            way.no_space = false;
        }
        // BSD wakes with every acknowledgement, and its filter looks whether there is room.
        let crossed = !had_room && way.has_low_water();
        let bsd = end.bsd && (crossed || progress && self.random.one_in(2));
        if fin {
            self.end_if_finished(side);
            self.poke(Target::Stream(side), BOTH);
        } else if room || bsd {
            self.poke(Target::Stream(side), WRITE);
        } else if progress {
            self.poke_peer(side);
        }
        self.transmit(side);
    }

    /// Ends what has finished both ways.
    fn end_if_finished(&mut self, side: Side) {
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let way = &connection.ways[usize::from(side.end)];
        let acknowledged = way.fin == Fin::Acknowledged;
        let end = &mut connection.ends[usize::from(side.end)];
        if end.finished && acknowledged && end.phase == Phase::Established {
            end.phase = Phase::Over;
            self.reap(side.connection);
        }
    }

    /// A FIN is to be sent behind what is written.
    pub(super) fn queue_end(&mut self, side: Side) {
        let now = self.now;
        if let Some(way) = self.way(side)
            && way.fin == Fin::None
        {
            if !way.is_outstanding() {
                way.since = now;
            }
            way.fin = Fin::Queued;
        }
        if let Some(end) = self.end(side) {
            end.shut = true;
        }
    }

    /// Sends a FIN behind what is written.
    pub(super) fn finish(&mut self, side: Side) {
        self.queue_end(side);
        self.transmit(side);
        self.expect_expiry_if_cut_off(side);
    }

    /// Adds written bytes to what `side` sends; how many there was room for.
    pub(super) fn push(&mut self, side: Side, first: &[u8], second: &[u8]) -> usize {
        let now = self.now;
        let Some(way) = self.way(side) else {
            return 0;
        };
        if !way.is_outstanding() {
            way.since = now;
        }
        let room = way.room() as usize;
        let of_first = first.len().min(room);
        let of_second = second.len().min(room - of_first);
        way.bytes.extend(&first[..of_first]);
        way.bytes.extend(&second[..of_second]);
        let taken = of_first + of_second;
        way.written += taken as u64;
        self.idle.moved += u64::from(taken > 0);
        let Some(way) = self.way(side) else {
            return 0;
        };
        if taken < first.len() + second.len() {
            way.no_space = true;
        }
        self.transmit(side);
        self.expect_expiry_if_cut_off(side);
        taken
    }

    /// Sends one byte out of band (`MSG_OOB`): it has its place among the others, and a mark.
    pub(super) fn push_urgent(&mut self, side: Side, byte: u8) -> bool {
        if let Some(way) = self.way(side)
            && way.room() > 0
        {
            way.urgent_sent = Some(way.written);
            return self.push(side, &[byte], &[]) == 1;
        }
        false
    }
}
