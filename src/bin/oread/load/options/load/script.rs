//! What connections say, where their answers are no mere echoes.

use std::path::Path;
use std::time::Duration;

use oread::Framing;

use super::content::{read, text};
use super::refuse_if;
use crate::failure::Failure;
use crate::load::exchange::answer::Answer;
use crate::load::exchange::expect::Expect;
use crate::load::exchange::script::{Question, Script, Step};
use crate::load::exchange::session;
use crate::load::exchange::template::Template;
use crate::load::options::args::{Demand, MessageArgs};
use crate::load::options::url::{Protocol, Url};

/// The script that was asked for, and what messages consist of that are made up; no script where
/// all are echoes of one.
///
/// # Errors
/// Exit code 2: what does not go together, or a session that is none. Exit code 1: a file can't be
/// read.
pub(super) fn script(typed: &Demand) -> Result<Option<Script>, Failure> {
    let sent = &typed.content;
    let protocol = protocol(typed)?;
    let spoken = protocol.map(Protocol::answer);
    let answer = sent.answer.clone().or(spoken).unwrap_or(Answer::Echo);
    let script = match &sent.session {
        Some(path) => of_file(path, &answer)?,
        None => Script {
            opening: greeting(sent).into_iter().collect(),
            round: round(sent, protocol, &answer)?,
            order: sent.order,
        },
    };
    let is_echo = |step: &Step| {
        let is_plain = match &step.question {
            Question::Made => true,
            Question::Text(template) => template.fixed().is_some(),
            Question::Nothing => false,
        };
        is_plain && step.answer == Answer::Echo && step.expect.is_none() && step.pause.is_zero()
    };
    let is_plain = script.opening.is_empty() && script.round.len() == 1;
    if is_plain && script.round.iter().all(is_echo) {
        return Ok(None);
    }
    let words = "a datagram carries its flow, number and time, and its answer is its echo: \
                 --answer, --expect, --greeting and --session are for streams";
    let has_udp = typed.targets.iter().any(|url| url.target.is_udp());
    refuse_if(has_udp, Failure::usage(words))?;
    check_answers(typed, &script)?;
    Ok(Some(script))
}

/// What all targets speak, where one says it.
///
/// # Errors
/// Exit code 2: they don't speak the same, so that one question would not do for all.
fn protocol(typed: &Demand) -> Result<Option<&Protocol>, Failure> {
    let first = typed.targets.first().and_then(|url| url.protocol.as_ref());
    let is_other = |url: &Url| url.protocol.as_ref() != first;
    let words = "all targets are asked the same: give each the same scheme, host name and path, or \
                 name them as HOST:PORT and say what is asked by --message and --answer";
    refuse_if(typed.targets.iter().any(is_other), Failure::usage(words))?;
    Ok(first)
}

/// Refuses answers that can't be told from each other.
fn check_answers(typed: &Demand, script: &Script) -> Result<(), Failure> {
    let has = |answer: &Answer| script.round.iter().any(|step| step.answer == *answer);
    let words = "with --answer any a connection has one message under way: two answers could come \
                 as one";
    let tip = "leave --depth out, or say where an answer ends";
    let is_deep = typed.traffic.depth.get() > 1;
    refuse_if(
        is_deep && has(&Answer::Any),
        Failure::usage(words).hint(tip),
    )?;
    let words = "where some messages have no answer and others have one, a connection has one under \
                 way";
    let tip = "leave --depth out";
    refuse_if(
        is_deep && script.is_mixed(),
        Failure::usage(words).hint(tip),
    )?;
    let is_mute = |step: &Step| matches!(step.answer, Answer::Echo | Answer::None);
    let expects = |step: &Step| is_mute(step) && step.expect.is_some();
    let words = "nothing can be expected of an answer that is none, or that is the question again, \
                 which it's compared with";
    let tip = "say where the answer ends, as in --answer lines, or leave out what is expected";
    let is_vain = script.steps().any(expects);
    refuse_if(is_vain, Failure::usage(words).hint(tip))?;
    let is_greeted = |step: &Step| matches!(step.question, Question::Nothing);
    let words = "a greeting is no echo; say where it ends, as in --greeting lines";
    let is_wrong = script.steps().any(|step| is_greeted(step) && is_mute(step));
    refuse_if(is_wrong, Failure::usage(words))
}

/// What the server says before it's asked.
fn greeting(sent: &MessageArgs) -> Option<Step> {
    sent.greeting.clone().map(|answer| Step {
        question: Question::Nothing,
        answer,
        expect: None,
        pause: Duration::ZERO,
    })
}

/// What is asked again and again, where no session says it.
fn round(
    sent: &MessageArgs,
    protocol: Option<&Protocol>,
    answer: &Answer,
) -> Result<Vec<Step>, Failure> {
    let expect = match (&sent.expect, &sent.expect_regex) {
        (Some(text), _) => Some(Expect::text(text)),
        (None, regex) => regex.clone(),
    };
    let questions = questions(sent, protocol)?.into_iter();
    Ok(questions
        .map(|question| Step {
            question,
            answer: answer.clone(),
            expect: expect.clone(),
            pause: Duration::ZERO,
        })
        .collect())
}

/// The messages, in their order.
fn questions(sent: &MessageArgs, protocol: Option<&Protocol>) -> Result<Vec<Question>, Failure> {
    let framing = sent.framing;
    if let Some(template) = &sent.message {
        return Ok(vec![Question::Text(text(
            template.clone(),
            "--message",
            framing,
        )?)]);
    }
    let Some(path) = &sent.message_file else {
        let spoken = |it: &Protocol| Question::Text(Template::of(it.question().as_bytes()));
        return Ok(vec![protocol.map_or(Question::Made, spoken)]);
    };
    let source = format!("--message-file {}", path.display());
    let bytes = read(path)?;
    let pieces: Vec<&[u8]> = match (&sent.split, framing) {
        (Some(split), _) => pieces(&bytes, split),
        (None, Framing::Lines) => pieces(&bytes, b"\n"),
        (None, _) => vec![&bytes],
    };
    let words = format!("{source} is empty: a message has 1 byte at least");
    refuse_if(pieces.is_empty(), Failure::usage(words))?;
    let question = |piece: &&[u8]| {
        let read = Template::read(piece);
        let template = read.map_err(|why| Failure::usage(format!("{source}: {why}")))?;
        text(template, &source, framing).map(Question::Text)
    };
    pieces.iter().map(question).collect()
}

/// What stands between the places of `split`, but for a last one that is empty.
fn pieces<'a>(bytes: &'a [u8], split: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for at in memchr::memmem::find_iter(bytes, split) {
        pieces.push(&bytes[from..at]);
        from = at + split.len();
    }
    if from < bytes.len() {
        pieces.push(&bytes[from..]);
    }
    pieces
}

/// The script of a session file.
fn of_file(path: &Path, answer: &Answer) -> Result<Script, Failure> {
    let told = |why: String| Failure::usage(format!("--session {}: {why}", path.display()));
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|why| told(format!("not UTF-8: {why}")))?;
    session::read(text, answer).map_err(told)
}
