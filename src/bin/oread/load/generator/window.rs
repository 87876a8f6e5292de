//! Which of the last datagrams of a flow have been answered.

/// What a flow over UDP has beside the rest.
#[derive(Debug)]
pub(crate) struct Window {
    /// One bit for each of the last datagrams, by number modulo the window: whether it was
    /// answered.
    answered: Box<[u64]>,
    /// The highest number that was answered.
    highest: Option<u32>,
    /// The flow's place in the report.
    pub(crate) slot: u32,
    /// When the last datagram was sent.
    pub(crate) last_sent: u64,
    /// How many of those kept as under way were answered before an older one was.
    pub(crate) within: u32,
    /// How many of the last datagrams are measured: once one is, all that follow are.
    measured: u32,
    /// Whether it stands in the list of flows that have more to send than one call sends.
    pub(crate) listed: bool,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
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
    /// A window over the last `size` datagrams; `size` is rounded up to a power of two.
    pub(crate) fn new(size: u32, slot: u32) -> Window {
        let words = (size.max(64) as usize).next_power_of_two() / 64;
        Window {
            answered: vec![0; words].into(),
            highest: None,
            slot,
            last_sent: 0,
            within: 0,
            measured: 0,
            listed: false,
        }
    }

    /// How many datagrams it remembers.
    pub(crate) fn size(&self) -> u32 {
        (self.answered.len() * 64) as u32
    }

    fn bit(&self, number: u32) -> (usize, u64) {
        let place = (number % self.size()) as usize;
        (place / 64, 1 << (place % 64))
    }

    /// Datagram `number` is sent: what was remembered of the one before it in its place is
    /// forgotten.
    pub(crate) fn sent(&mut self, number: u32, measured: bool) {
        let (word, bit) = self.bit(number);
        self.answered[word] &= !bit;
        self.measured = match measured {
            true => self.measured.saturating_add(1),
            false => 0,
        };
    }

    /// Whether datagram `number` is measured, when `next` is the number of the next to be sent.
    /// It's known here, and not taken from what came back: what is counted as received was counted
    /// as sent.
    pub(crate) fn is_measured(&self, number: u32, next: u32) -> bool {
        next.wrapping_sub(number) <= self.measured
    }

    /// Whether datagram `number`, one of the last, was answered.
    pub(crate) fn is_answered(&self, number: u32) -> bool {
        let (word, bit) = self.bit(number);
        self.answered[word] & bit != 0
    }

    /// An answer to datagram `number` has come, when `next` is the number of the next to be sent.
    pub(crate) fn arrived(&mut self, number: u32, next: u32) -> Arrival {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_ORDER: Arrival = Arrival::First { after_later: false };
    const AFTER_LATER: Arrival = Arrival::First { after_later: true };

    #[test]
    fn duplicates_and_swaps_are_told_from_first_answers() {
        let mut window = Window::new(1, 0);
        for number in 0..3 {
            window.sent(number, true);
        }
        assert_eq!(window.arrived(0, 3), IN_ORDER);
        assert_eq!(window.arrived(2, 3), IN_ORDER);
        assert_eq!(window.arrived(1, 3), AFTER_LATER);
        assert_eq!(window.arrived(1, 3), Arrival::Again);
        assert_eq!(window.arrived(3, 3), Arrival::Never);
    }

    #[test]
    fn what_lies_before_the_window_is_unknown_and_numbers_go_round() {
        let mut window = Window::new(64, 0);
        let first = u32::MAX - 10;
        for number in 0..100 {
            window.sent(first.wrapping_add(number), number >= 90);
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
}
