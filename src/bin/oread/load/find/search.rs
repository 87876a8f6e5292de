//! The search for the highest value that holds: it says what to try next, and is told what came of
//! it. It knows no time, no socket and no report.
//!
//! It climbs by doubling until a value breaks, then halves what lies between the highest that held
//! and the lowest that broke, as ratios, until they are as near as the precision. What it has found
//! is tried once more, for longer, before it is said: if that breaks, it steps down. No single try
//! decides that a value breaks: it's tried again, and where that says something else, a third time.

/// How often a value is tried until it's known to break: twice, or two times of three.
const TO_BREAK: u32 = 2;
/// How often what was found may break when it's confirmed, until the search is given up.
const MOST_FAILED: u32 = 5;

/// Who was the limit of a try that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// What is loaded: it did not hold.
    Target,
    /// This program or its machine, which could not load it, or not measure that.
    Machine,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Held,
    Broke(Limit),
}

/// What is to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) value: u64,
    /// Whether it's what was found, which is to be confirmed.
    pub(crate) confirms: bool,
}

/// What a search has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The highest value that held, and whether that was confirmed; `None`: none did.
    pub(crate) held: Option<u64>,
    pub(crate) is_confirmed: bool,
    /// The lowest value above it that broke, and who was the limit there; `None`: none did.
    pub(crate) broke: Option<(u64, Limit)>,
}

/// A search.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    from: u64,
    to: u64,
    /// How near two values are that need no other between: 0.05 is a twentieth.
    precision: f64,
    /// Values that held, each higher than the one before, and the lowest above them that broke.
    held: Vec<u64>,
    broke: Option<(u64, Limit)>,
    /// How the value that is tried now came out so far.
    holds: u32,
    breaks: Vec<Limit>,
    /// How often what was found broke when it was to be confirmed.
    failed: u32,
    is_confirmed: bool,
}

impl Search {
    /// From `from` to `to`, to a precision: both of these are values that may be tried.
    pub(crate) fn new(from: u64, to: u64, precision: f64) -> Search {
        Search {
            from,
            to: to.max(from),
            precision,
            held: Vec::new(),
            broke: None,
            holds: 0,
            breaks: Vec::new(),
            failed: 0,
            is_confirmed: false,
        }
    }

    /// What is to be tried next; `None` when there is nothing more to find out.
    pub(crate) fn next(&self) -> Option<Try> {
        let (value, confirms) = match (self.highest(), self.broke) {
            _ if self.is_confirmed || self.failed > MOST_FAILED => return None,
            (None, None) => (self.from, false),
            // Nothing below has held.
            (None, Some(_)) => return None,
            (Some(held), None) if held >= self.to => (held, true),
            (Some(held), None) => (held.saturating_mul(2).min(self.to), false),
            (Some(held), Some((broke, _))) => match self.between(held, broke) {
                Some(value) => (value, false),
                None => (held, true),
            },
        };
        Some(Try { value, confirms })
    }

    /// The highest value that has held, below what broke.
    fn highest(&self) -> Option<u64> {
        self.held.last().copied()
    }

    /// A value between two, where they are not near enough: halfway, as ratios go.
    fn between(&self, held: u64, broke: u64) -> Option<u64> {
        let is_near = broke as f64 <= held as f64 * (1.0 + self.precision);
        let middle = (held as f64 * broke as f64).sqrt() as u64;
        (!is_near && held + 1 < broke).then(|| middle.clamp(held + 1, broke - 1))
    }

    /// What came of the last [`Search::next`].
    pub(crate) fn told(&mut self, came: Came) {
        let Some(Try { value, confirms }) = self.next() else {
            return;
        };
        match came {
            Came::Held => self.holds += 1,
            Came::Broke(limit) => self.breaks.push(limit),
        }
        let is_settled = match (self.holds, self.breaks.len() as u32) {
            (0, breaks) => breaks >= TO_BREAK,
            (_, 0) => true,
            (holds, breaks) => holds + breaks > TO_BREAK,
        };
        if !is_settled {
            return;
        }
        let (holds, breaks) = (
            std::mem::take(&mut self.holds),
            std::mem::take(&mut self.breaks),
        );
        if holds as usize > breaks.len() {
            if !confirms {
                self.held.push(value);
            }
            self.is_confirmed = confirms;
            return;
        }
        // It's the machine's limit only where nothing says that it's another's.
        let is_target = breaks.contains(&Limit::Target);
        let limit = if is_target {
            Limit::Target
        } else {
            Limit::Machine
        };
        self.broke = Some((value, limit));
        // Of what was found by chance, what held below it is left.
        self.held.retain(|held| *held < value);
        self.failed += u32::from(confirms);
    }

    /// What is known by now.
    pub(crate) fn answer(&self) -> Answer {
        Answer {
            held: self.highest(),
            is_confirmed: self.is_confirmed,
            broke: self.broke,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::mix::mix;

    /// What a made-up server does, by the value, and a number that is another one each time.
    type Server<'a> = &'a dyn Fn(u64, u64) -> Came;

    const BROKE: Came = Came::Broke(Limit::Target);

    /// A number from 0 to 1.
    fn drawn(number: u64) -> f64 {
        (mix(number) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Runs a search to its end: what it found, and in how many steps.
    fn run(mut search: Search, server: Server<'_>) -> (Answer, u32) {
        let mut steps = 0;
        while let Some(next) = search.next() {
            assert!((search.from..=search.to).contains(&next.value), "{next:?}");
            steps += 1;
            assert!(steps < 150, "it does not end: {search:?}");
            search.told(server(next.value, steps.into()));
        }
        (search.answer(), steps)
    }

    fn if_held(holds: bool) -> Came {
        if holds { Came::Held } else { BROKE }
    }

    #[test]
    fn a_hard_knee_is_found_to_the_precision_and_never_passed() {
        for limit in [100, 101, 137, 1000, 4_999, 65_536, 1_234_567, 4_000_000_000] {
            for precision in [0.01, 0.05, 0.3] {
                let search = Search::new(100, u64::MAX >> 20, precision);
                let (answer, steps) = run(search, &|value, _| if_held(value <= limit));
                let held = answer.held.unwrap();
                assert!(answer.is_confirmed && held <= limit, "{limit}: {answer:?}");
                let least = limit as f64 / (1.0 + precision) - 1.0;
                assert!(held as f64 >= least, "{limit} to {precision}: {answer:?}");
                // Doubling, halving to the precision, three tries of each that breaks.
                let climbs = (limit as f64 / 100.0).log2().ceil() + 2.0;
                let halves = (2_f64.ln() / (1.0 + precision).ln()).log2().ceil() + 1.0;
                let most = climbs + 3.0 + 3.0 * halves + 1.0;
                assert!(f64::from(steps) <= most, "{limit}: {steps} of {most}");
            }
        }
    }

    #[test]
    fn a_server_that_holds_nothing_is_told_after_two_tries() {
        let (answer, steps) = run(Search::new(100, 1 << 30, 0.05), &|_, _| BROKE);
        assert_eq!((answer.held, steps), (None, 2));
        assert_eq!(answer.broke, Some((100, Limit::Target)));
    }

    #[test]
    fn where_nothing_breaks_the_end_of_the_range_is_confirmed() {
        let (answer, steps) = run(Search::new(100, 1000, 0.05), &|_, _| Came::Held);
        assert_eq!((answer.held, answer.broke, steps), (Some(1000), None, 6));
        assert!(answer.is_confirmed);
        let (answer, _) = run(Search::new(7, 7, 0.05), &|_, _| Came::Held);
        assert_eq!(answer.held, Some(7));
    }

    #[test]
    fn a_limit_of_the_machine_is_told_as_that() {
        let machine = |value, _| match value {
            0..=5000 => Came::Held,
            _ => Came::Broke(Limit::Machine),
        };
        let (answer, _) = run(Search::new(100, 1 << 30, 0.05), &machine);
        assert!((4750..=5000).contains(&answer.held.unwrap()), "{answer:?}");
        assert!(matches!(answer.broke, Some((_, Limit::Machine))));
        // The server breaks first, and above that the machine would have.
        let both = |value, _| match value {
            0..=3000 => Came::Held,
            3001..=5000 => BROKE,
            _ => Came::Broke(Limit::Machine),
        };
        let (answer, _) = run(Search::new(100, 1 << 30, 0.05), &both);
        assert!((2850..=3000).contains(&answer.held.unwrap()), "{answer:?}");
        assert!(matches!(answer.broke, Some((_, Limit::Target))));
    }

    #[test]
    fn one_flaky_step_does_not_decide() {
        for flaky in 1..20 {
            let once = |value, step| if_held(value <= 3000 && step != flaky);
            let (answer, _) = run(Search::new(100, 1 << 30, 0.05), &once);
            let held = answer.held.unwrap();
            assert!((2850..=3000).contains(&held), "step {flaky}: {answer:?}");
        }
    }

    #[test]
    fn a_step_that_holds_by_chance_is_not_claimed() {
        for lucky in 1..20 {
            let once = |value, step| if_held(value <= 3000 || step == lucky);
            let (answer, _) = run(Search::new(100, 1 << 30, 0.05), &once);
            let held = answer.held.unwrap();
            // A confirmation that holds by chance is what claims so much, and no more.
            assert!(held <= 3150, "step {lucky}: {answer:?}");
        }
    }

    #[test]
    fn noise_and_gradual_limits_lead_near_the_truth_from_below() {
        let (mut over, mut far) = (0, 0);
        const RUNS: u64 = 2000;
        for seed in 0..RUNS {
            let limit = 200.0 * 2_f64.powf(10.0 * drawn(seed));
            // Beyond a tenth below the limit it breaks ever more often, and a tenth above always.
            let gradual = |value: u64, step: u64| {
                let part = (value as f64 / limit - 0.9) / 0.2;
                let noise = drawn(seed << 20 | step) < 0.02;
                if_held((drawn(mix(seed) ^ step) >= part) != noise)
            };
            let (answer, steps) = run(Search::new(100, 1 << 30, 0.05), &gradual);
            assert!(steps < 60, "{steps}");
            let held = answer.held.map_or(0.0, |held| held as f64);
            over += u64::from(held > limit * 1.1 * 1.05);
            far += u64::from(held < limit * 0.75);
        }
        assert!(over * 100 <= RUNS, "{over} of {RUNS} claim too much");
        assert!(far * 20 <= RUNS, "{far} of {RUNS} are far below");
    }

    #[test]
    fn what_does_not_hold_any_more_is_stepped_down_from_in_a_bounded_number_of_steps() {
        // A server that has less and less to give, until nothing is left.
        let tired = |value, step: u64| if_held((value as f64) < 5000.0 * 0.9_f64.powi(step as i32));
        let (_, steps) = run(Search::new(100, 1 << 30, 0.05), &tired);
        assert!(steps < 60, "{steps}");
    }
}
