//! The questions of a connection, in their order: first its opening, then its round, again and
//! again.
//!
//! Which question comes as which follows from its number alone, so that nothing of it is kept until
//! its answer comes.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::expect::Expect;
use super::template::{Template, Which};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Nothing: the server speaks first.
    Nothing,
    /// A message that is made up, as an echo's.
    Made,
    Text(Template),
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) question: Question,
    pub(crate) answer: Answer,
    /// What the answer must hold.
    pub(crate) expect: Option<Expect>,
    /// How long to wait behind the answer.
    pub(crate) pause: Duration,
}

/// In which order the questions of a round come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// One after the other.
    #[default]
    Turn,
    /// Each time any of them, each as likely as the other.
    Random,
}

/// What a connection says. The round has one step at least.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    /// Once: what the server greets with, a login. A connection is confirmed when all of it is
    /// answered, and nothing of it is measured.
    pub(crate) opening: Vec<Step>,
    /// What is measured.
    pub(crate) round: Vec<Step>,
    pub(crate) order: Order,
}

impl Script {
    /// How many questions open a connection.
    pub(crate) fn opening(&self) -> u32 {
        self.opening.len() as u32
    }

    /// The place of the step that this question is, among all.
    #[inline]
    pub(crate) fn place(&self, which: Which) -> usize {
        let (number, opening) = (which.number as usize, self.opening.len());
        match (number.checked_sub(opening), self.round.len(), self.order) {
            (None, ..) => number,
            // Most scripts are one question.
            (Some(_), 0 | 1, _) => opening,
            (Some(behind), steps, Order::Turn) => opening + behind % steps,
            (Some(_), steps, Order::Random) => {
                opening + which.draw(u64::MAX, steps as u64) as usize
            }
        }
    }

    /// The step that this question is.
    #[inline]
    pub(crate) fn step(&self, which: Which) -> Option<&Step> {
        let place = self.place(which);
        match place.checked_sub(self.opening.len()) {
            None => self.opening.get(place),
            Some(place) => self.round.get(place),
        }
    }

    /// What each answer of the round ends with, where that is all that is looked for, and nothing
    /// else follows from an answer than the next question.
    pub(crate) fn end(&self) -> Option<Arc<[u8]>> {
        match self.round.as_slice() {
            [step] if step.expect.is_none() && step.pause.is_zero() => step.answer.end(),
            _ => None,
        }
    }

    /// Whether there are questions without an answer.
    pub(crate) fn is_one_way(&self) -> bool {
        self.round.iter().any(|step| step.answer == Answer::None)
    }

    /// Whether there are questions without an answer, and others.
    pub(crate) fn is_mixed(&self) -> bool {
        self.is_one_way() && self.round.iter().any(|step| step.answer != Answer::None)
    }

    /// Whether it waits anywhere.
    pub(crate) fn has_pauses(&self) -> bool {
        self.steps().any(|step| !step.pause.is_zero())
    }

    /// Whether of every answer that is measured it's known what it must hold.
    pub(crate) fn is_checked(&self) -> bool {
        let is_checked = |step: &Step| {
            step.expect.is_some() || matches!(step.answer, Answer::Echo | Answer::None)
        };
        self.round.iter().all(is_checked)
    }

    /// All steps, the opening first.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.opening.iter().chain(&self.round)
    }

    /// The fewest and the most bytes that a question with a text has, if one has.
    pub(crate) fn sizes(&self) -> Option<(u32, u32)> {
        let sizes = self.steps().filter_map(|step| match &step.question {
            Question::Text(template) => Some(template.sizes()),
            Question::Nothing | Question::Made => None,
        });
        let both = |a: (u32, u32), b: (u32, u32)| (a.0.min(b.0), a.1.max(b.1));
        sizes.reduce(both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        Step {
            question: Question::Text(Template::of(text.as_bytes())),
            answer: Answer::Framed(oread::Framing::Lines),
            expect: None,
            pause: Duration::ZERO,
        }
    }

    fn asked(script: &Script, number: u32) -> String {
        let which = Which {
            flow: 3,
            number,
            key: 9,
        };
        match &script.step(which).unwrap().question {
            Question::Text(template) => template.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_opening_comes_once_and_a_round_again_and_again() {
        let script = Script {
            opening: vec![step("hello"), step("login")],
            round: vec![step("one"), step("two"), step("three")],
            order: Order::Turn,
        };
        let all: Vec<String> = (0..8).map(|number| asked(&script, number)).collect();
        let expected = [
            "hello", "login", "one", "two", "three", "one", "two", "three",
        ];
        assert_eq!(all, expected);
        assert_eq!(script.sizes(), Some((3, 5)));
    }

    #[test]
    fn at_random_each_question_is_as_likely_as_the_other_and_stays_what_it_is() {
        let script = Script {
            opening: vec![step("hello")],
            round: vec![step("one"), step("two"), step("three")],
            order: Order::Random,
        };
        assert_eq!(asked(&script, 0), "hello");
        let mut ones = 0;
        for number in 1..3001 {
            assert_eq!(asked(&script, number), asked(&script, number));
            ones += u32::from(asked(&script, number) == "one");
        }
        assert!((900..1100).contains(&ones), "{ones}");
    }
}
