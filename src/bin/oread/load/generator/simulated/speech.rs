//! What a server says whose answers are no echoes, and the scripts that go with it.
//!
//! A question names its step, its flow and its number, so that the server knows by itself what is
//! to be answered, and whether it was asked what it had to be asked.

use std::sync::Arc;
use std::time::Duration;

use oread::sim::World;

use crate::load::exchange::answer::Answer;
use crate::load::exchange::expect::Expect;
use crate::load::exchange::script::{Order, Question, Script, Step};
use crate::load::exchange::template::Template;

/// What each answer holds that is as it must be.
const RIGHT: &str = "ok";

/// What is said on each connection, as the server knows it.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    pub(super) script: Arc<Script>,
}

/// An answer, and what the client makes of it.
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    /// Whether it can be told where it ends.
    pub(super) is_answer: bool,
    /// Whether it holds what it must.
    pub(super) is_right: bool,
}

/// What is to be said: as it must be, without what it must hold, or something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Right,
    Wrong,
    Garbage,
}

/// One of the ways to end an answer.
fn form(world: &mut World) -> Answer {
    let forms = [
        "lines",
        "lines",
        "until:<>",
        "until:.",
        "fixed:12",
        "fixed:1400",
        "length:u16",
        "length:u32le",
        "redis",
        "http",
        "echo",
    ];
    world.pick(&forms).parse().unwrap()
}

/// A step that asks something, the one at this place.
fn step(world: &mut World, place: usize) -> Step {
    let answer = form(world);
    let expects = world.one_in(2) && answer != Answer::Echo;
    let filler = "q".repeat(world.pick(&[0, 3, 30, 300]));
    let text = format!("{place}.{{flow}}.{{sequence}}.{{random:97}}.{filler}");
    Step {
        question: Question::Text(Template::typed(&text).unwrap()),
        answer,
        expect: expects.then(|| Expect::text(RIGHT.as_bytes())),
        pause: Duration::ZERO,
    }
}

impl Speech {
    /// What a seed draws: a greeting or none, a login or none, and one question or some.
    pub(super) fn drawn(world: &mut World) -> Speech {
        let mut opening = Vec::new();
        if world.one_in(3) {
            let answer = loop {
                match form(world) {
                    Answer::Echo => {}
                    answer => break answer,
                }
            };
            opening.push(Step {
                question: Question::Nothing,
                answer,
                expect: None,
                pause: Duration::ZERO,
            });
        }
        for _ in 0..world.pick(&[0, 0, 1, 2]) {
            opening.push(step(world, opening.len()));
        }
        let steps = world.pick(&[1, 1, 2, 3]);
        let round = (0..steps).map(|place| step(world, opening.len() + place));
        let script = Script {
            round: round.collect(),
            order: world.pick(&[Order::Turn, Order::Random]),
            opening,
        };
        Speech {
            script: Arc::new(script),
        }
    }

    /// Whether the server speaks first.
    pub(super) fn greets(&self) -> bool {
        let first = self.script.opening.first();
        first.is_some_and(|step| step.question == Question::Nothing)
    }

    /// The step that this question names, which is the connection's `number`th, by a flow that is
    /// `flow` if that is known.
    fn named(&self, question: &[u8], number: usize, flow: Option<u64>) -> &Step {
        let text = String::from_utf8_lossy(question);
        let [place, named, sequence, random] = words(question);
        assert_eq!(sequence, number as u64, "{text}: the connection's number");
        assert!(
            flow.is_none_or(|flow| flow == named),
            "{text}: not {flow:?}"
        );
        assert!(random < 97, "{text}: the number that is drawn");
        let (opening, steps) = (self.script.opening.len(), self.script.round.len());
        let place = place as usize;
        match (number.checked_sub(opening), self.script.order) {
            (None, _) => assert_eq!(place, number, "{text}: opens"),
            (Some(behind), Order::Turn) => {
                assert_eq!(place, opening + behind % steps, "{text}: in turn");
            }
            (Some(_), Order::Random) => assert!(place >= opening, "{text}: of the round"),
        }
        self.script.steps().nth(place).unwrap()
    }

    /// Lets the server answer nothing, or not `all` that is asked behind what opens a connection.
    pub(super) fn hush(&mut self, world: &mut World, all: bool) {
        let mut script = Script::clone(&self.script);
        for step in &mut script.round {
            if all || world.one_in(2) {
                (step.answer, step.expect) = (Answer::None, None);
            }
        }
        self.script = Arc::new(script);
    }

    /// The step that the last of a connection's questions is.
    fn last_step(&self, asked: &[&[u8]]) -> &Step {
        let (number, question) = (asked.len() - 1, asked[asked.len() - 1]);
        if question.is_empty() {
            return &self.script.opening[0];
        }
        let first = asked[..number].iter().find(|it| !it.is_empty());
        self.named(question, number, first.map(|first| words(first)[1]))
    }

    /// How the answer to the last of a connection's questions ends.
    pub(super) fn form(&self, asked: &[&[u8]]) -> &Answer {
        &self.last_step(asked).answer
    }

    /// What is answered to the last of a connection's questions; `length` makes it longer or
    /// shorter.
    pub(super) fn answer(&self, asked: &[&[u8]], tone: Tone, length: u64) -> Said {
        let question = asked[asked.len() - 1];
        said(self.last_step(asked), question, tone, length)
    }
}

/// What a question says: its step, its flow, its number, and one that is drawn.
fn words(question: &[u8]) -> [u64; 4] {
    let text = std::str::from_utf8(question).unwrap();
    let words = text.split('.').map_while(|word| word.parse().ok());
    let words: Vec<u64> = words.collect();
    let told = || panic!("a question that is none: {text}");
    words.try_into().unwrap_or_else(|_| told())
}

/// The answer to a question of this step.
fn said(step: &Step, question: &[u8], tone: Tone, length: u64) -> Said {
    // What says of itself that it's an error is none where something else is expected.
    let refuses = matches!(step.answer, Answer::Redis | Answer::Http) && step.expect.is_none();
    let is_right = tone != Tone::Wrong || step.expect.is_none() && !refuses;
    let word = if is_right { RIGHT } else { "no" };
    let long = [3, 40, 1500][length as usize % 3];
    let content = format!("{word}{}", "x".repeat((length % long) as usize));
    let bytes = match &step.answer {
        Answer::Echo => question.to_vec(),
        Answer::Until(end) => [content.as_bytes(), &end[..end.len() - 1], end].concat(),
        Answer::Redis => redis(&content, length, refuses && !is_right),
        Answer::Http => http(&content, length, refuses && !is_right),
        Answer::Framed(oread::Framing::Fixed(size)) => {
            let mut bytes = content.into_bytes();
            bytes.resize(size.get() as usize, b'_');
            bytes
        }
        Answer::Framed(framing) => {
            let mut bytes = Vec::new();
            framing.encode(content.as_bytes(), &mut bytes).unwrap();
            bytes
        }
        Answer::Any | Answer::None => panic!("none is drawn"),
    };
    let is_garbage = tone == Tone::Garbage && matches!(step.answer, Answer::Redis | Answer::Http);
    Said {
        bytes: match is_garbage {
            true => b"garbage\r\n".to_vec(),
            false => bytes,
        },
        is_answer: !is_garbage,
        is_right,
    }
}

/// An answer of Redis: an error, a simple one, one with its length before it, or a list.
fn redis(content: &str, length: u64, refuses: bool) -> Vec<u8> {
    let bulk = format!("${}\r\n{content}\r\n", content.len());
    match length / 7 % 3 {
        _ if refuses => format!("-ERR {content}\r\n"),
        0 => format!("+{content}\r\n"),
        1 => bulk,
        _ => format!("*3\r\n:12\r\n*1\r\n{bulk}$-1\r\n"),
    }
    .into_bytes()
}

/// An answer of HTTP, with its length before it or in chunks.
fn http(content: &str, length: u64, refuses: bool) -> Vec<u8> {
    let status = if refuses { "500 Sorry" } else { "200 Fine" };
    let len = content.len();
    // The word that it must hold stands in one chunk, and no chunk but the last is empty.
    let (first, second) = (content, &content[len / 2..]);
    match length / 7 % 2 {
        0 => format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\n\r\n{content}"),
        _ => format!(
            "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x};a=b\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        ),
    }
    .into_bytes()
}
