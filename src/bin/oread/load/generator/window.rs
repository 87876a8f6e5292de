//! Which of the last datagrams of a flow have been answered, and what is counted of them.

use crate::load::count::Datagrams;

/// The fewest datagrams of a flow that are remembered, and the most.
const LEAST: u32 = 64;
const MOST: u32 = 1 << 20;

/// What a flow over UDP has beside the rest.
///
/// It remembers twice as many datagrams as are kept as under way, which are those of a message
/// timeout: an answer that comes within twice the timeout is told for what it is.
#[derive(Debug)]
pub(super) struct Window {
    /// One bit for each of the last datagrams, by number modulo the window: whether it was
    /// answered.
    answered: Box<[u64]>,
    /// The highest number that was answered.
    highest: Option<u32>,
    /// When the last datagram was sent.
    pub(super) last_sent: u64,
    /// How many of those kept as under way were answered before an older one was.
    within: u32,
    /// How many of the last datagrams are measured: once one is, all that follow are.
    measured: u32,
    pub(super) counts: Datagrams,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first to its datagram; `after_later`: one to a later datagram has come before.
    First { after_later: bool },
    /// Another one.
    Again,
    /// To a datagram too long ago to be told.
    TooOld,
    /// To one that was not sent.
    Never,
}

impl Window {
    pub(super) fn new() -> Window {
        Window {
            answered: vec![0; LEAST as usize / 64].into(),
            highest: None,
            last_sent: 0,
            within: 0,
            measured: 0,
            counts: Datagrams::default(),
        }
    }

    /// How many datagrams it remembers.
    pub(super) fn size(&self) -> u32 {
        (self.answered.len() * 64) as u32
    }

    /// Of those kept as under way, how many were answered before an older one was.
    #[inline]
    pub(super) fn within(&self) -> u32 {
        self.within
    }

    /// Whether so many may be kept as under way.
    pub(super) fn can_keep(&self, outstanding: u32) -> bool {
        outstanding < MOST / 2
    }

    fn bit(&self, number: u32) -> (usize, u64) {
        let place = (number % self.size()) as usize;
        (place / 64, 1 << (place % 64))
    }

    /// Datagram `number` is sent, behind `outstanding` that are kept as under way: what was
    /// remembered of the one before it in its place is forgotten.
    pub(super) fn sent(&mut self, number: u32, outstanding: u32, at: u64, measured: bool) {
        if outstanding >= self.size() / 2 && self.size() < MOST {
            self.grow(number);
        }
        let (word, bit) = self.bit(number);
        self.answered[word] &= !bit;
        self.measured = match measured {
            true => self.measured.saturating_add(1),
            false => 0,
        };
        self.last_sent = at;
    }

    /// Doubles the window, when `next` is the number of the next datagram. What lies before the old
    /// one counts as answered: it was told of, or is too old.
    fn grow(&mut self, next: u32) {
        let old = self.size();
        let words = self.answered.len() * 2;
        let before = std::mem::replace(&mut self.answered, vec![u64::MAX; words].into());
        for age in 1..=old {
            let number = next.wrapping_sub(age);
            let place = (number % old) as usize;
            if before[place / 64] & 1 << (place % 64) == 0 {
                let (word, bit) = self.bit(number);
                self.answered[word] &= !bit;
            }
        }
    }

    /// Whether datagram `number` is measured, when `next` is the number of the next to be sent.
    /// It's known here, and not taken from what came back: what is counted as received was counted
    /// as sent.
    pub(super) fn is_measured(&self, number: u32, next: u32) -> bool {
        next.wrapping_sub(number) <= self.measured
    }

    /// Whether datagram `number`, one of the last, was answered.
    pub(super) fn is_answered(&self, number: u32) -> bool {
        let (word, bit) = self.bit(number);
        self.answered[word] & bit != 0
    }

    /// An answer to datagram `number` has come, when `next` is the number of the next to be sent.
    pub(super) fn arrived(&mut self, number: u32, next: u32) -> Arrival {
        let age = next.wrapping_sub(number);
        // Half of all numbers lie before any one of them, the others have not come yet.
        if age == 0 || age > u32::MAX / 2 {
            return Arrival::Never;
        }
        if age > self.size() {
            return Arrival::TooOld;
        }
        if self.is_answered(number) {
            return Arrival::Again;
        }
        let (word, bit) = self.bit(number);
        self.answered[word] |= bit;
        // Compared by age: numbers go round.
        let after_later = self
            .highest
            .is_some_and(|highest| next.wrapping_sub(highest) < age);
        if !after_later {
            self.highest = Some(number);
        }
        Arrival::First { after_later }
    }

    /// One of those kept as under way was answered.
    pub(super) fn answered_within(&mut self) {
        self.within += 1;
    }

    /// The oldest kept as under way, datagram `number`, is kept no longer; whether it was answered.
    pub(super) fn forget(&mut self, number: u32) -> bool {
        let answered = self.is_answered(number);
        self.within -= u32::from(answered);
        answered
    }

    /// What is counted of a datagram that was due then, where it's measured from `from` on.
    pub(super) fn counts_of(&mut self, due: u64, from: u64) -> Option<&mut Datagrams> {
        (due >= from).then_some(&mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_ORDER: Arrival = Arrival::First { after_later: false };
    const AFTER_LATER: Arrival = Arrival::First { after_later: true };

    #[test]
    fn duplicates_and_swaps_are_told_from_first_answers() {
        let mut window = Window::new();
        for number in 0..3 {
            window.sent(number, 0, 0, true);
        }
        assert_eq!(window.arrived(0, 3), IN_ORDER);
        assert_eq!(window.arrived(2, 3), IN_ORDER);
        assert_eq!(window.arrived(1, 3), AFTER_LATER);
        assert_eq!(window.arrived(1, 3), Arrival::Again);
        assert_eq!(window.arrived(3, 3), Arrival::Never);
    }

    #[test]
    fn what_lies_before_the_window_is_unknown_and_numbers_go_round() {
        let mut window = Window::new();
        let first = u32::MAX - 10;
        for number in 0..100 {
            window.sent(first.wrapping_add(number), 0, 0, number >= 90);
        }
        let next = first.wrapping_add(100);
        assert_eq!(
            window.arrived(first.wrapping_add(35), next),
            Arrival::TooOld
        );
        assert_eq!(window.arrived(first.wrapping_add(36), next), IN_ORDER);
        assert_eq!(window.arrived(first.wrapping_add(99), next), IN_ORDER);
        assert_eq!(window.arrived(first.wrapping_add(98), next), AFTER_LATER);
        assert!(!window.is_measured(first.wrapping_add(89), next));
        assert!(window.is_measured(first.wrapping_add(90), next));
        assert!(window.is_measured(first.wrapping_add(99), next));
    }

    #[test]
    fn a_window_grows_with_what_is_under_way_and_forgets_nothing_by_it() {
        let mut window = Window::new();
        let first = u32::MAX - 1000;
        for sent in 0..10_000 {
            window.sent(first.wrapping_add(sent), sent, 0, true);
            if sent % 3 == 0 {
                let next = first.wrapping_add(sent + 1);
                assert_eq!(window.arrived(first.wrapping_add(sent), next), IN_ORDER);
            }
        }
        assert_eq!(window.size(), 1 << 15);
        let next = first.wrapping_add(10_000);
        for sent in 0..10_000 {
            let expected = match sent % 3 {
                0 => Arrival::Again,
                _ => AFTER_LATER,
            };
            let number = first.wrapping_add(sent);
            assert_eq!(window.arrived(number, next), expected, "{sent}");
        }
    }
}
