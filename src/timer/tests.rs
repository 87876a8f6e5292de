use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// Timed things that are nothing but their links, and how often the wheel has touched one.
#[derive(Default)]
struct Things {
    links: Vec<Links>,
    touched: usize,
}

impl Things {
    fn new(count: usize) -> Things {
        let links = std::iter::repeat_with(Links::default).take(count).collect();
        Things { links, touched: 0 }
    }
}

impl Arena for Things {
    fn links(&mut self, index: u32) -> &mut Links {
        self.touched += 1;
        &mut self.links[index as usize]
    }
}

/// Runs one round.
fn round(wheel: &mut Wheel, things: &mut Things, now: Tick) -> Vec<u32> {
    std::iter::from_fn(|| wheel.expire(things, now)).collect()
}

/// The wheel beside a sorted map, in ticks that do not wrap.
struct Pair {
    wheel: Wheel,
    things: Things,
    now: u64,
    armed: u64,
    /// What is armed, by the tick at which it comes up and the order of arming.
    model: BTreeMap<(u64, u64), u32>,
    keys: HashMap<u32, (u64, u64)>,
}

impl Pair {
    fn new(now: u64) -> Pair {
        Pair {
            wheel: Wheel::new(now as Tick),
            things: Things::new(THINGS as usize),
            now,
            armed: 0,
            model: BTreeMap::new(),
            keys: HashMap::new(),
        }
    }

    fn insert(&mut self, index: u32, delay: i64) {
        let deadline = self.now.wrapping_add_signed(delay);
        self.wheel.insert(&mut self.things, index, deadline as Tick);
        self.forget(index);
        self.armed += 1;
        let key = (deadline.max(self.now), self.armed);
        self.model.insert(key, index);
        self.keys.insert(index, key);
        assert_eq!(
            self.things.links[index as usize].deadline(),
            deadline as Tick
        );
    }

    fn remove(&mut self, index: u32) {
        self.wheel.remove(&mut self.things, index);
        self.forget(index);
    }

    fn forget(&mut self, index: u32) {
        if let Some(key) = self.keys.remove(&index) {
            self.model.remove(&key);
        }
    }

    /// Goes ahead by `ticks` and runs a round, in which the first to come up is armed again at
    /// once if `again`.
    fn go(&mut self, ticks: u64, again: bool) {
        self.now += ticks;
        let mut due = Vec::new();
        while let Some(entry) = self.model.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let index = entry.remove();
            self.keys.remove(&index);
            due.push(index);
        }
        let mut came_up = Vec::new();
        while let Some(index) = self.wheel.expire(&mut self.things, self.now as Tick) {
            if again && came_up.is_empty() {
                self.insert(index, 0);
            }
            came_up.push(index);
        }
        assert_eq!(came_up, due, "at {}", self.now);
    }

    /// Goes to where `next` says, and tells whether something came up.
    fn follow(&mut self) -> Option<bool> {
        let ticks = self.wheel.next()?.wrapping_sub(self.now as Tick);
        let before = self.model.len();
        self.go(u64::from(ticks), false);
        Some(self.model.len() < before)
    }

    fn check(&mut self) {
        assert_eq!(self.wheel.is_empty(), self.model.is_empty());
        for (index, links) in (0..).zip(&self.things.links) {
            assert_eq!(links.is_armed(), self.keys.contains_key(&index));
        }
        let earliest = self
            .model
            .first_key_value()
            .map(|(&(deadline, _), _)| deadline);
        match (self.wheel.next(), earliest) {
            (Some(next), Some(earliest)) => {
                let next = self.now + u64::from(next.wrapping_sub(self.now as Tick));
                assert!(next <= earliest, "{next} is later than {earliest}");
                if earliest >> DIGIT == self.now >> DIGIT {
                    assert_eq!(next, earliest);
                }
                assert!(
                    next > self.now || earliest <= self.now,
                    "a wake-up for nothing"
                );
            }
            (next, earliest) => assert_eq!((next, earliest), (None, None)),
        }
    }
}

const THINGS: u32 = 24;

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, i64),
    Remove(u32),
    /// How far to go, and whether what comes up first is armed again.
    Go(u64, bool),
    Follow,
}

/// Short and long, about the borders of levels, and up to the furthest.
fn distance() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..4_u32,
        0..200_u32,
        0..10_000_u32,
        0..1_000_000_u32,
        0..=MAX_AHEAD,
        (0..6_u32, 0..3_u32).prop_map(|(level, off)| (1 << (level * DIGIT)) - 1 + off),
        Just(MAX_AHEAD),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..THINGS, distance()).prop_map(|(i, ahead)| Step::Insert(i, ahead.into())),
        1 => (0..THINGS, 0..100_i64).prop_map(|(i, ago)| Step::Insert(i, -ago)),
        2 => (0..THINGS).prop_map(Step::Remove),
        2 => (distance(), any::<bool>()).prop_map(|(far, again)| Step::Go(far.into(), again)),
        3 => Just(Step::Follow),
    ]
}

/// Anywhere, and just before a digit or the whole of a tick wraps.
fn start() -> impl Strategy<Value = u64> {
    let wrap = 1_u64 << 32;
    prop_oneof![
        wrap..2 * wrap,
        2 * wrap - 5_000..2 * wrap,
        Just(2 * wrap - 1),
        Just(wrap)
    ]
}

proptest! {
    // Nothing is written beside the sources.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_comes_up_is_what_a_sorted_map_says_in_its_order(
        start in start(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut pair = Pair::new(start);
        for step in steps {
            match step {
                Step::Insert(index, delay) => pair.insert(index, delay),
                Step::Remove(index) => pair.remove(index),
                Step::Go(ticks, again) => pair.go(ticks, again),
                Step::Follow => drop(pair.follow()),
            }
            pair.check();
        }
    }

    #[test]
    fn following_next_wakes_for_nothing_at_most_once_a_level(
        start in start(),
        deadlines in prop::collection::vec(distance(), 1..THINGS as usize),
    ) {
        let mut pair = Pair::new(start);
        for (index, &ahead) in (0..).zip(&deadlines) {
            pair.insert(index, ahead.into());
        }
        let mut in_vain = 0;
        while let Some(fired) = pair.follow() {
            in_vain += usize::from(!fired);
            pair.check();
        }
        prop_assert!(pair.model.is_empty());
        prop_assert!(in_vain <= TOP as usize * deadlines.len(), "{} times", in_vain);
    }
}

#[test]
fn ticks_have_an_order_across_the_wrap() {
    assert!(is_before(u32::MAX, 0));
    assert!(!is_before(0, u32::MAX));
    assert!(is_before(7, 7 + MAX_AHEAD));
    assert!(!is_before(7, 7));
    assert!(!is_before(7, 7 + MAX_AHEAD + 1));
}

#[test]
fn what_arms_itself_again_with_no_delay_comes_up_once_a_round() {
    let (mut wheel, mut things) = (Wheel::new(u32::MAX), Things::new(2));
    wheel.insert(&mut things, 0, u32::MAX);
    wheel.insert(&mut things, 1, 0);
    for _ in 0..3 {
        assert_eq!(wheel.next(), Some(u32::MAX));
        assert_eq!(wheel.expire(&mut things, u32::MAX), Some(0));
        wheel.insert(&mut things, 0, u32::MAX);
        assert_eq!(wheel.expire(&mut things, u32::MAX), None);
    }
    assert_eq!(round(&mut wheel, &mut things, 0), [0, 1]);
    assert!(wheel.is_empty());
}

#[test]
fn a_round_that_is_broken_off_goes_on_and_loses_nothing() {
    let (mut wheel, mut things) = (Wheel::new(0), Things::new(4));
    for index in 0..4 {
        wheel.insert(&mut things, index, 10);
    }
    assert_eq!(wheel.expire(&mut things, 10), Some(0));
    wheel.insert(&mut things, 0, 10);
    wheel.remove(&mut things, 2);
    assert_eq!(wheel.next(), Some(10));
    assert_eq!(round(&mut wheel, &mut things, 12), [1, 3]);
    assert_eq!(wheel.next(), Some(12));
    assert_eq!(round(&mut wheel, &mut things, 12), [0]);
}

#[test]
fn what_is_due_but_has_not_come_up_can_still_be_put_off() {
    let (mut wheel, mut things) = (Wheel::new(0), Things::new(2));
    wheel.insert(&mut things, 0, 10);
    wheel.insert(&mut things, 1, 10);
    wheel.advance(&mut things, 20);
    wheel.insert(&mut things, 0, 30);
    assert_eq!(round(&mut wheel, &mut things, 20), [1]);
    assert_eq!(wheel.next(), Some(30));
    assert_eq!(round(&mut wheel, &mut things, 29), []);
    assert_eq!(round(&mut wheel, &mut things, 30), [0]);
}

#[test]
fn a_sleep_of_days_costs_no_more_than_what_is_armed() {
    let days = 20 * 86_400_000;
    let (mut wheel, mut things) = (Wheel::new(u32::MAX - 5), Things::new(3));
    let start = wheel.now;
    wheel.insert(&mut things, 0, start.wrapping_add(1));
    wheel.insert(&mut things, 1, start.wrapping_add(days));
    wheel.insert(&mut things, 2, start.wrapping_add(days + 1));
    things.touched = 0;
    assert_eq!(
        round(&mut wheel, &mut things, start.wrapping_add(days)),
        [0, 1]
    );
    assert!(things.touched < 60, "{} touches", things.touched);
}

#[test]
fn an_empty_wheel_sleeps_for_as_long_as_it_likes() {
    let (mut wheel, mut things) = (Wheel::new(100), Things::new(1));
    for now in [MAX_AHEAD, u32::MAX - 1, 3] {
        wheel.advance(&mut things, now);
        wheel.insert(&mut things, 0, now.wrapping_add(MAX_AHEAD));
        assert_eq!(
            round(&mut wheel, &mut things, now.wrapping_add(MAX_AHEAD - 1)),
            []
        );
        assert_eq!(
            round(&mut wheel, &mut things, now.wrapping_add(MAX_AHEAD)),
            [0]
        );
        assert_eq!(wheel.next(), None);
    }
}

#[test]
fn a_clock_that_steps_back_brings_nothing_up_early() {
    let (mut wheel, mut things) = (Wheel::new(1_000), Things::new(1));
    wheel.insert(&mut things, 0, 1_010);
    assert_eq!(round(&mut wheel, &mut things, 900), []);
    assert_eq!(round(&mut wheel, &mut things, 1_009), []);
    assert_eq!(round(&mut wheel, &mut things, 1_010), [0]);
}

#[test]
fn removing_what_is_not_armed_does_nothing() {
    let (mut wheel, mut things) = (Wheel::new(0), Things::new(2));
    wheel.remove(&mut things, 0);
    wheel.insert(&mut things, 1, 5);
    wheel.remove(&mut things, 0);
    assert_eq!(round(&mut wheel, &mut things, 5), [1]);
    wheel.remove(&mut things, 1);
    assert!(wheel.is_empty());
}
