//! What a peer expects to read before it goes on.

use std::fmt;
use std::panic::Location;

use super::pump::{Act, Reading, Script};
use super::trace::quoted;
use super::{Net, State};

/// What must come next, and the line of the test that says so.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) next: Next,
    pub(super) at: &'static Location<'static>,
}

#[derive(Clone, Debug)]
pub(super) enum Next {
    /// These bytes, from `at` on.
    Bytes { bytes: Vec<u8>, at: usize },
    /// So many bytes, whatever they are.
    Count(usize),
    /// The other's end, and nothing before it.
    End,
}

/// What is still to come, in words.
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next {
            Next::Bytes { bytes, at } => f.write_str(&quoted(&bytes[*at..])),
            Next::Count(1) => f.write_str("1 more byte"),
            Next::Count(count) => write!(f, "{count} more bytes"),
            Next::End => f.write_str("the end"),
        }
    }
}

impl Expected {
    /// Where the test says so, for the end of an error.
    fn place(&self) -> String {
        format!(" (expected at {})", place(self.at))
    }
}

/// A line of the test's.
pub(super) fn place(at: &Location<'_>) -> String {
    format!("{}:{}", at.file(), at.line())
}

impl Script {
    /// What it waits for, or will when it has done what is before that.
    fn expects(&self) -> Option<&Expected> {
        self.acts.iter().find_map(|act| match act {
            Act::Expect(expected) => Some(expected),
            _ => None,
        })
    }

    /// Takes what has been read as far as it's what is expected. True: all of that was; an error:
    /// it can't be any more, as the peer did this instead.
    fn compare(&mut self, expected: &mut Expected) -> Result<bool, String> {
        let new = &self.ledger.received[self.expected..];
        let (taken, met) = match &mut expected.next {
            Next::Bytes { bytes, at } => {
                let rest = &bytes[*at..];
                let same = rest.iter().zip(new).take_while(|(a, b)| a == b).count();
                *at += same;
                (same, same == rest.len())
            }
            Next::Count(count) => {
                let taken = new.len().min(*count);
                *count -= taken;
                (taken, *count == 0)
            }
            Next::End => (0, new.is_empty() && self.ledger.ended.is_some()),
        };
        self.expected += taken;
        let other = &self.ledger.received[self.expected..];
        match self.ledger.failed {
            _ if met => Ok(true),
            _ if !other.is_empty() => Err(format!("has read {}", quoted(other))),
            Some((_, error)) => Err(format!("has failed: {error}")),
            None if self.ledger.ended.is_some() => Err("has read the end".to_owned()),
            None => Ok(false),
        }
    }
}

impl State {
    /// Whether the peer has read what it expects, and goes on.
    pub(super) fn is_met(&mut self, id: u32, mut expected: Expected) -> bool {
        let peer = self.name_of_peer(id);
        let script = &mut self.peers[id as usize];
        match script.compare(&mut expected) {
            Ok(true) => {
                let at = expected.at;
                self.trace(|| format!("{peer} has read what it expects ({})", place(at)));
                return true;
            }
            Ok(false) => script.acts.push_front(Act::Expect(expected)),
            Err(instead) => {
                script.give_up();
                let place = expected.place();
                self.mismatch(
                    id,
                    format!("{peer} expects {expected} and {instead}{place}"),
                );
            }
        }
        false
    }

    /// The world's next step is an error that says so.
    fn mismatch(&mut self, id: u32, why: String) {
        self.trace(|| why.clone());
        self.peers[id as usize].unmet = true;
        self.mismatches.push_back(why);
    }

    /// Whether the peer can read anything still that it's told to expect: not behind its own end.
    fn may_expect(&mut self, id: u32, expected: &Expected) -> bool {
        let Some(leaves) = self.peers[id as usize].leaves else {
            return true;
        };
        let peer = self.name_of_peer(id);
        let why = format!("{peer} is to expect {expected} and was told to {leaves} before");
        self.mismatch(id, why + &expected.place());
        false
    }

    /// The peer is told to leave now: what it has not read by then will not come.
    pub(super) fn expect_no_more(&mut self, id: u32, leaves: &'static str) {
        let peer = self.name_of_peer(id);
        let script = &mut self.peers[id as usize];
        script.leaves = script.leaves.or(Some(leaves));
        let mut acts = std::mem::take(&mut script.acts);
        let mut expected = acts.iter_mut().filter_map(|act| match act {
            Act::Expect(expected) => Some(expected),
            _ => None,
        });
        let unmet = expected.find_map(|one| {
            let met = matches!(script.compare(one), Ok(true));
            (!met).then(|| (one.to_string(), one.place()))
        });
        acts.retain(|act| !matches!(act, Act::Expect(_)));
        script.acts = acts;
        if let Some((unmet, place)) = unmet {
            let why = format!("{peer} still expected {unmet} when it was told to {leaves}");
            self.mismatch(id, why + &place);
        }
    }

    /// Ends the script of a peer whose connection is over. What it has read may still be what it
    /// expects.
    pub(super) fn end_script(&mut self, id: u32) {
        while let Some(act) = self.peers[id as usize].acts.pop_front() {
            match act {
                Act::Expect(expected) => {
                    if !self.is_met(id, expected) {
                        return;
                    }
                }
                act => self.peers[id as usize].leave_out(&act),
            }
        }
    }

    /// The peer goes on only when it has read this.
    pub(super) fn expect_next(&mut self, id: u32, next: Next, at: &'static Location<'static>) {
        let expected = Expected { next, at };
        if self.may_expect(id, &expected) {
            let peer = self.name_of_peer(id);
            self.trace(|| format!("{peer} expects {expected} ({})", place(at)));
            let acts = &mut self.peers[id as usize].acts;
            acts.push_back(Act::Expect(expected));
            self.pump_now(id);
        }
    }

    /// Whether the peer has read all that it was told to expect.
    pub(super) fn has_met(&self, id: u32) -> bool {
        let script = &self.peers[id as usize];
        !script.unmet && script.expects().is_none()
    }

    /// The next line behind what was expected and taken so far, if the peer expects nothing more.
    pub(super) fn take_line(&mut self, id: u32) -> Option<Vec<u8>> {
        let script = &mut self.peers[id as usize];
        let rest = &script.ledger.received[script.expected..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        if script.expects().is_some() {
            return None;
        }
        let line = rest[..=end].to_vec();
        script.expected += line.len();
        Some(line)
    }

    fn name_of_peer(&self, id: u32) -> String {
        match self.peers[id as usize].side {
            Some(side) => format!("peer {side}"),
            None => "a peer that could not dial".to_owned(),
        }
    }
}

impl Net {
    /// What a peer has read, or not, against what it expects; told once, and one at a time.
    pub(crate) fn take_mismatch(&self) -> Option<String> {
        self.state().mismatches.pop_front()
    }

    /// Who still waits for what it expects, in words.
    pub(crate) fn unmet(&self) -> Option<String> {
        let state = self.state();
        let waiting = |script: &Script| script.expects().is_some();
        let count = state.peers.iter().filter(|script| waiting(script)).count();
        let id = state.peers.iter().position(waiting)?;
        let expected = state.peers[id].expects()?;
        let (peer, place) = (state.name_of_peer(id as u32), expected.place());
        let deaf = match state.peers[id].reading {
            Reading::Nothing => ", and reads nothing, as it was told",
            _ => "",
        };
        let first = format!("{peer} still expects {expected}{place}{deaf}");
        Some(match count - 1 {
            0 => first,
            others => format!("{first}, and others do: {others}"),
        })
    }

    /// The test has been told that something went wrong: what else is unmet goes without saying.
    pub(crate) fn forgive(&self) {
        self.state().forgiven = true;
    }

    /// What nobody was told of expectations: one that has failed, or that is unmet.
    pub(crate) fn untold(&self) -> Option<String> {
        let mut state = self.state();
        if state.forgiven {
            return None;
        }
        let mismatch = state.mismatches.pop_front();
        let unmet = || {
            let waits = |script: &Script| script.expects().is_some();
            let id = state.peers.iter().position(waits)?;
            let expected = state.peers[id].expects()?;
            let (peer, place) = (state.name_of_peer(id as u32), expected.place());
            Some(format!("{peer} expects {expected} to the end{place}"))
        };
        mismatch.or_else(unmet)
    }
}
