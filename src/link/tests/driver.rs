//! A stand-in for the reactor: it turns steps into callbacks and delivers a script's events, each
//! once.

use crate::error::CloseReason;
use crate::limits::Limits;
use crate::link::script::{Calls, Script};
use crate::link::{Flags, Link, Phase, Pressure, Shared, Step};
use crate::nonblocking::Stream;
use crate::readiness::Readiness;

/// What a test plays: the part of the handler.
pub(super) trait Play {
    /// As [`Handler::on_data`](crate::Handler::on_data).
    fn data(&mut self, hands: &mut Hands<'_>, data: &[u8]) -> usize;

    /// As [`Handler::on_eof`](crate::Handler::on_eof).
    fn eof(&mut self, hands: &mut Hands<'_>, _rest: &[u8]) {
        hands.finish();
    }

    /// As [`Handler::on_drained`](crate::Handler::on_drained).
    fn drained(&mut self, _hands: &mut Hands<'_>) {}

    /// As [`Handler::on_closing`](crate::Handler::on_closing).
    fn closing(&mut self, _hands: &mut Hands<'_>, _reason: CloseReason) {}
}

/// A handler that only answers data.
pub(super) struct Answer<F>(F);

impl<F: FnMut(&mut Hands<'_>, &[u8]) -> usize> Play for Answer<F> {
    fn data(&mut self, hands: &mut Hands<'_>, data: &[u8]) -> usize {
        (self.0)(hands, data)
    }
}

/// A handler that answers data by `on_data`, and finishes when the peer has.
pub(super) fn answer<F: FnMut(&mut Hands<'_>, &[u8]) -> usize>(on_data: F) -> Answer<F> {
    Answer(on_data)
}

/// What a callback may do to a link of whatever stream.
trait Operate {
    fn write(&mut self, shared: &mut Shared, bytes: &[u8], current: bool) -> Pressure;
    fn pending(&self) -> usize;
    fn pause(&mut self);
    fn resume(&mut self);
    fn read_on(&mut self, on: bool);
    fn finish(&mut self);
    fn close(&mut self, shared: &mut Shared, reason: CloseReason);
    fn abort(&mut self, shared: &mut Shared);
    fn drain(&mut self);
    fn cut(&mut self, shared: &mut Shared);
}

impl<S: Stream> Operate for Link<S> {
    fn write(&mut self, shared: &mut Shared, bytes: &[u8], current: bool) -> Pressure {
        if current {
            Link::write(self, shared, bytes)
        } else {
            self.write_later(shared, bytes)
        }
    }
    fn pending(&self) -> usize {
        Link::pending(self)
    }
    fn pause(&mut self) {
        Link::pause(self);
    }
    fn resume(&mut self) {
        Link::resume(self);
    }
    fn read_on(&mut self, on: bool) {
        Link::read_on(self, on);
    }
    fn finish(&mut self) {
        Link::finish(self);
    }
    fn close(&mut self, shared: &mut Shared, reason: CloseReason) {
        Link::close(self, shared, reason);
    }
    fn abort(&mut self, shared: &mut Shared) {
        Link::abort(self, shared, CloseReason::Aborted);
    }
    fn drain(&mut self) {
        Link::drain(self);
    }
    fn cut(&mut self, shared: &mut Shared) {
        Link::cut(self, shared);
    }
}

/// The link in the hands of a callback, or of somebody else's.
pub(super) struct Hands<'a> {
    link: &'a mut dyn Operate,
    pub(super) shared: &'a mut Shared,
    /// Whether it's the link's own callback.
    current: bool,
}

impl Hands<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Pressure {
        self.link.write(self.shared, bytes, self.current)
    }
    pub(super) fn pending(&self) -> usize {
        self.link.pending()
    }
    pub(super) fn pause(&mut self) {
        self.link.pause();
    }
    pub(super) fn resume(&mut self) {
        self.link.resume();
    }
    pub(super) fn read_on(&mut self, on: bool) {
        self.link.read_on(on);
    }
    pub(super) fn finish(&mut self) {
        self.link.finish();
    }
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.link.close(self.shared, reason);
    }
    pub(super) fn abort(&mut self) {
        self.link.abort(self.shared);
    }
    pub(super) fn drain(&mut self) {
        self.link.drain();
    }
    pub(super) fn cut(&mut self) {
        self.link.cut(self.shared);
    }
}

/// A callback that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Data(Vec<u8>),
    Eof(Vec<u8>),
    Drained,
}

/// One link over a script, its handler and its reactor.
pub(super) struct Driver<P, const SHORT: bool> {
    pub(super) link: Link<Script<SHORT>>,
    pub(super) shared: Shared,
    pub(super) play: P,
    /// Every callback, in order.
    pub(super) seen: Vec<Seen>,
    /// Whether the link has a turn to come.
    pub(super) queued: bool,
    /// Whether pending output came about or moved; the test takes it back.
    pub(super) moved: bool,
    /// Why it closed, once it has.
    pub(super) closed: Option<CloseReason>,
    scratch: Vec<u8>,
}

impl<P: Play, const SHORT: bool> Driver<P, SHORT> {
    /// An open link.
    pub(super) fn new(script: Script<SHORT>, limits: Limits, play: P) -> Driver<P, SHORT> {
        Driver::in_phase(script, limits, play, Phase::Open)
    }

    /// A link in another phase to begin with.
    pub(super) fn in_phase(
        script: Script<SHORT>,
        limits: Limits,
        play: P,
        phase: Phase,
    ) -> Driver<P, SHORT> {
        let limits = limits.sound();
        let mut link = Link::new(script, phase);
        link.untag(Flags::UNGREETED);
        Driver {
            link,
            scratch: vec![0; limits.read_buffer],
            shared: Shared::new(limits),
            play,
            seen: Vec::new(),
            queued: false,
            moved: false,
            closed: None,
        }
    }

    /// An event.
    pub(super) fn event(&mut self, readiness: Readiness) {
        self.shared.begin_turn();
        let plain = Readiness::READABLE | Readiness::WRITABLE;
        if self.queued {
            self.link.ready(readiness);
        } else if plain.contains(readiness) && self.closed.is_none() && self.link.is_quiet() {
            if self.pass() {
                self.check();
            } else {
                self.link.charge(&self.shared);
                self.drive();
            }
        } else {
            self.link.ready(readiness);
            self.drive();
        }
    }

    /// The short way of a plain event, as `Reactor::pass` has it; false when the link is to be
    /// driven on.
    fn pass(&mut self) -> bool {
        self.link.ready(Readiness::READABLE | Readiness::WRITABLE);
        let Some(count) = self.link.take_in(&mut self.shared, &mut self.scratch) else {
            return false;
        };
        self.shared.begin_callback();
        let data = &self.scratch[..count];
        self.seen.push(Seen::Data(data.to_vec()));
        let hands = &mut hands(&mut self.link, &mut self.shared, true);
        let consumed = self.play.data(hands, data);
        self.link.consumed(&mut self.shared, data, consumed);
        self.link.settle(&mut self.shared)
    }

    /// The next arrival of the script, with its event; false when nothing more comes.
    pub(super) fn arrive(&mut self) -> bool {
        let event = self.link.stream.arrive();
        self.deliver(event)
    }

    /// Room for more output, with its event; false when nobody waits for any.
    pub(super) fn make_room(&mut self) -> bool {
        let event = self.link.stream.make_room();
        self.deliver(event)
    }

    fn deliver(&mut self, event: Option<Readiness>) -> bool {
        match event {
            Some(Readiness::EMPTY) => true,
            Some(readiness) => {
                self.event(readiness);
                true
            }
            None => false,
        }
    }

    /// What somebody else than the link's own callback does to it; it's driven afterwards.
    pub(super) fn outside<T>(&mut self, act: impl FnOnce(&mut Hands<'_>) -> T) -> T {
        self.outside_with(|hands, _| act(hands))
    }

    /// The same, with the handler at hand.
    pub(super) fn outside_with<T>(&mut self, act: impl FnOnce(&mut Hands<'_>, &mut P) -> T) -> T {
        self.link.tag(Flags::DIRTY);
        self.shared.begin_turn();
        let hands = &mut hands(&mut self.link, &mut self.shared, false);
        let result = act(hands, &mut self.play);
        self.drive();
        result
    }

    /// The link's turn in the ready queue; false when it stands in none.
    pub(super) fn turn(&mut self) -> bool {
        let queued = self.queued;
        if queued {
            self.shared.begin_turn();
            self.drive();
        }
        queued
    }

    /// Goes on until no turn, no arrival and no room is left to come.
    pub(super) fn settle(&mut self) {
        let mut moves = 0;
        while self.turn() || self.arrive() || self.make_room() {
            moves += 1;
            assert!(
                moves < 100_000,
                "the link never comes to rest: {:?}",
                self.link
            );
        }
    }

    /// What the stream has taken.
    pub(super) fn written(&self) -> &[u8] {
        &self.link.stream.written
    }

    pub(super) fn calls(&self) -> Calls {
        self.link.stream.calls
    }

    /// Drives the link, as `Reactor::drive` does.
    pub(super) fn drive(&mut self) {
        self.queued = false;
        self.link.untag(Flags::UNGREETED);
        self.link.untag(Flags::DIRTY);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 10_000, "a turn without an end: {:?}", self.link);
            let calls = self.calls();
            let step = self.link.next(&mut self.shared, &mut self.scratch);
            if self.closed.is_some() {
                assert!(matches!(step, Step::Closed), "{step:?} after the end");
                assert_eq!(self.calls(), calls, "the stream was used after the end");
                return;
            }
            match step {
                Step::Fresh(count) => {
                    let data = &self.scratch[..count];
                    self.seen.push(Seen::Data(data.to_vec()));
                    let hands = &mut hands(&mut self.link, &mut self.shared, true);
                    let consumed = self.play.data(hands, data);
                    self.link.consumed(&mut self.shared, data, consumed);
                }
                Step::Stored(input) => {
                    self.seen.push(Seen::Data(input.bytes().to_vec()));
                    let hands = &mut hands(&mut self.link, &mut self.shared, true);
                    let consumed = self.play.data(hands, input.bytes());
                    self.link.give_back(&mut self.shared, input, consumed);
                }
                Step::Eof(rest) => {
                    self.seen.push(Seen::Eof(rest.bytes().to_vec()));
                    let hands = &mut hands(&mut self.link, &mut self.shared, true);
                    self.play.eof(hands, rest.bytes());
                    self.link.give_back(&mut self.shared, rest, 0);
                }
                Step::Drained => {
                    self.seen.push(Seen::Drained);
                    let hands = &mut hands(&mut self.link, &mut self.shared, true);
                    self.play.drained(hands);
                }
                Step::Closing => {
                    let hands = &mut hands(&mut self.link, &mut self.shared, true);
                    self.play.closing(hands, CloseReason::Drained);
                    self.link.close_drained(&mut self.shared);
                }
                Step::Yield => {
                    self.queued = true;
                    return self.check();
                }
                Step::Wait | Step::Starved => return self.check(),
                Step::Closed => {
                    assert_eq!(self.link.phase(), Phase::Closed);
                    self.closed = self.link.reason();
                    assert!(self.closed.is_some(), "closed for no reason");
                    assert!(self.link.buffers.is_none(), "closed with buffers");
                    return self.check();
                }
            }
            self.check_sums();
        }
    }

    /// Between two drives: everything adds up, and what holds nothing keeps no buffers.
    fn check(&mut self) {
        self.check_sums();
        self.moved |= self.link.take_moved();
        assert!(
            self.shared.gathered.is_empty(),
            "gathered bytes stay behind"
        );
        let stats = self.shared.stats;
        let stream = &self.link.stream;
        assert_eq!(stats.bytes_in, stream.read as u64);
        assert_eq!(stats.bytes_out, stream.written.len() as u64);
        assert_eq!(stats.pending, self.link.pending() as u64);
        assert_eq!(stats.unconsumed, self.link.input_len() as u64);
        assert!(self.link.input_len() <= self.shared.limits.max_input);
        let held = self
            .link
            .buffers
            .as_ref()
            .map_or(0, |buffers| buffers.memory());
        assert_eq!(
            self.shared.memory.held(),
            held,
            "memory is not counted right"
        );
        let kept = self.link.buffers.as_ref();
        assert!(
            kept.is_none_or(|buffers| !buffers.is_empty()),
            "empty buffers are kept"
        );
    }

    fn check_sums(&self) {
        let stats = self.shared.stats();
        let accounted = stats.consumed + stats.unconsumed + stats.discarded;
        assert_eq!(stats.bytes_in, accounted, "{stats:?}");
        let accounted = stats.bytes_out + stats.pending + stats.dropped;
        assert_eq!(stats.written, accounted, "{stats:?}");
    }
}

fn hands<'a, S: Stream + 'a>(
    link: &'a mut Link<S>,
    shared: &'a mut Shared,
    current: bool,
) -> Hands<'a> {
    Hands {
        link: link as &mut dyn Operate,
        shared,
        current,
    }
}
