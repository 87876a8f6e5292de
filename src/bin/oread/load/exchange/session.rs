//! A script, written as a file.
//!
//! ```text
//! # A login, once for each connection.
//! answer lines
//! greeting
//! expect 220
//! send USER u{flow}\r\n
//! expect 331
//! send PASS secret\r\n
//! expect 230
//! # What is measured, again and again.
//! repeat
//! send NOOP\r\n
//! pause 10ms
//! ```

use std::time::Duration;

use super::answer::Answer;
use super::expect::Expect;
use super::script::{Order, Question, Script, Step};
use super::template::Template;
use crate::values::escapes::unescaped;
use crate::values::units::duration;

/// What a line may begin with.
const WORDS: &str = "send, expect, expect-regex, greeting, answer, pause and repeat";

/// Steps as they are read.
struct Session {
    /// How answers end, from here on.
    answer: Answer,
    /// How many steps stand before `repeat`, once it has come.
    opening: Option<usize>,
    steps: Vec<Step>,
}

/// Reads a session: a line each, `#` begins one that nobody reads. How answers end where the file
/// doesn't say it, is `answer`.
///
/// # Errors
/// What is wrong, with the number of its line.
pub(crate) fn read(text: &str, answer: &Answer) -> Result<Script, String> {
    let mut session = Session {
        answer: answer.clone(),
        opening: None,
        steps: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let told = |error| format!("line {}: {error}", number + 1);
        session.line(line).map_err(told)?;
    }
    let round = session.steps.split_off(session.opening.unwrap_or(0));
    if session.steps.iter().any(|step| !step.pause.is_zero()) {
        return Err("a pause stands before repeat: only what is measured waits".into());
    }
    if session.steps.iter().any(|step| step.answer == Answer::None) {
        return Err(
            "what stands before repeat must be answered, or nobody knows when it's over".into(),
        );
    }
    if !round.iter().any(|step| step.question != Question::Nothing) {
        return Err(match session.opening {
            Some(_) => "nothing is sent behind repeat, so nothing would be measured".into(),
            None => "nothing is sent".into(),
        });
    }
    Ok(Script {
        opening: session.steps,
        round,
        order: Order::Turn,
    })
}

impl Session {
    fn line(&mut self, line: &str) -> Result<(), String> {
        // One space: those behind it may be of the text.
        let (word, rest) = line.split_once(' ').unwrap_or((line.trim_end(), ""));
        let is_bare = matches!(word, "greeting" | "repeat");
        if !rest.trim().is_empty() && is_bare {
            return Err(format!("nothing stands behind {word}"));
        }
        if rest.is_empty() && !is_bare && WORDS.contains(word) {
            return Err(format!("something is missing behind {word}"));
        }
        match word {
            "send" => {
                self.push(Question::Text(Template::typed(rest)?));
            }
            "greeting" => self.push(Question::Nothing),
            "expect" => {
                let expect = Expect::text(&unescaped(rest)?);
                self.last(word)?.expect = Some(expect);
            }
            "expect-regex" => {
                let expect = Expect::regex(rest)?;
                self.last(word)?.expect = Some(expect);
            }
            "answer" => self.answer = rest.trim().parse()?,
            "pause" => {
                let pause: Duration = duration(rest.trim())?;
                self.last(word)?.pause += pause;
            }
            "repeat" if self.opening.is_none() => self.opening = Some(self.steps.len()),
            "repeat" => return Err("repeat stands there twice".into()),
            other => {
                let other = other.escape_debug();
                return Err(format!("\"{other}\" is not known; there are {WORDS}"));
            }
        }
        Ok(())
    }

    fn push(&mut self, question: Question) {
        self.steps.push(Step {
            question,
            answer: self.answer.clone(),
            expect: None,
            pause: Duration::ZERO,
        });
    }

    /// The step that a line is about: the last one, behind `repeat` if that has come.
    fn last(&mut self, word: &str) -> Result<&mut Step, String> {
        let begun = self.opening.unwrap_or(0);
        let step = self.steps[begun..].last_mut();
        let step = step.ok_or_else(|| format!("{word} stands behind a send or a greeting"))?;
        match (word, &step.expect, &step.answer) {
            ("expect" | "expect-regex", Some(_), _) => {
                Err("one answer has two expectations; expect-regex can say both".into())
            }
            ("expect" | "expect-regex", None, Answer::None) => {
                Err("there is no answer to look at, by answer none".into())
            }
            _ => Ok(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = "\
# A login.
answer lines
greeting
expect 220
send USER u{flow}\\r\\n
expect 331

repeat
send NOOP\\r\\n
  pause 10ms
answer none
send  two spaces
pause 1s
pause 1s
";

    #[test]
    fn a_session_is_an_opening_and_a_round() {
        let script = read(LOGIN, &Answer::Echo).unwrap();
        let told = |step: &Step| {
            let question = match &step.question {
                Question::Text(template) => template.to_string(),
                _ => String::new(),
            };
            let expect = step.expect.as_ref().map(Expect::to_string);
            (
                question,
                step.answer.to_string(),
                expect.unwrap_or_default(),
                step.pause.as_millis(),
            )
        };
        let as_told = |q: &str, a: &str, e: &str, p| (q.to_owned(), a.to_owned(), e.to_owned(), p);
        let opening: Vec<_> = script.opening.iter().map(told).collect();
        let round: Vec<_> = script.round.iter().map(told).collect();
        assert_eq!(
            opening,
            [
                as_told("", "lines", "\"220\"", 0),
                as_told("USER u{flow}\\r\\n", "lines", "\"331\"", 0),
            ]
        );
        assert_eq!(
            round,
            [
                as_told("NOOP\\r\\n", "lines", "", 10),
                as_told(" two spaces", "none", "", 2000),
            ]
        );
    }

    #[test]
    fn without_repeat_all_of_it_repeats() {
        let script = read("send a\nexpect-regex ^b$\nsend c", &Answer::Any).unwrap();
        assert_eq!((script.opening.len(), script.round.len()), (0, 2));
        assert_eq!(script.round[1].answer, Answer::Any);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, words) in [
            ("", "nothing is sent"),
            ("greeting\n", "nothing is sent"),
            ("send a\nrepeat\n", "nothing is sent behind repeat"),
            (
                "send a\nexpct b",
                "line 2: \"expct\" is not known; there are send",
            ),
            ("expect a", "line 1: expect stands behind a send"),
            ("send a\nrepeat\nexpect b", "line 3: expect stands behind"),
            ("send a\nexpect b\nexpect c", "line 3: one answer has two"),
            (
                "answer none\nsend a\nexpect b",
                "line 3: there is no answer",
            ),
            ("send", "line 1: something is missing behind send"),
            ("repeat 5", "line 1: nothing stands behind repeat"),
            ("repeat\nrepeat", "line 2: repeat stands there twice"),
            ("send a{random:b}", "line 1: write how many"),
            ("send \\q", "is no escape"),
            ("send a\nexpect-regex (", "line 2: "),
            ("send a\npause x", "line 2: "),
            ("answer lins", "line 1: there are echo"),
            (
                "send a\npause 1s\nrepeat\nsend b",
                "a pause stands before repeat",
            ),
            ("answer none\nsend a\nrepeat\nsend b", "must be answered"),
        ] {
            let said = read(text, &Answer::Echo).unwrap_err();
            assert!(said.contains(words), "{text:?}: {said}");
        }
    }
}
