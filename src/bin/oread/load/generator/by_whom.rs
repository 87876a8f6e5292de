//! What is counted of each target and of each connection, where that is asked for.

use crate::load::count::{ByTarget, OneConnection, Slowest};

/// The figures of one thread's targets and connections.
#[derive(Debug, Default)]
pub(super) struct ByWhom {
    /// Whether anything is counted here: with one target, and no connections to tell, it's nothing.
    pub(super) is_on: bool,
    /// By their places; empty where there is one.
    targets: Vec<ByTarget>,
    /// By the flows' indices; empty where none is to be told.
    connections: Vec<OneConnection>,
    slowest: Option<Slowest>,
}

impl ByWhom {
    /// Figures of so many targets, and of so many of the slowest connections.
    pub(super) fn new(targets: usize, worst: Option<usize>) -> ByWhom {
        let targets = if targets > 1 { targets } else { 0 };
        ByWhom {
            is_on: targets > 0 || worst.is_some(),
            targets: vec![ByTarget::default(); targets],
            connections: Vec::new(),
            slowest: worst.map(|most| Slowest {
                most,
                ..Slowest::default()
            }),
        }
    }

    /// A target's figures, where they are kept.
    pub(super) fn target(&mut self, target: u16) -> Option<&mut ByTarget> {
        self.targets.get_mut(usize::from(target))
    }

    /// A message of the measured time was answered, on the flow with this index and number.
    pub(super) fn answered(&mut self, index: u32, flow: u32, target: u16, response: u64) {
        if let Some(target) = self.target(target) {
            target.counts.answered += 1;
            target.response.saturating_record(response.max(1));
        }
        let Some(slowest) = &mut self.slowest else {
            return;
        };
        let place = index as usize;
        if self.connections.len() <= place {
            self.connections.resize(place + 1, OneConnection::default());
        }
        let one = &mut self.connections[place];
        if one.flow != flow {
            slowest.ended(std::mem::take(one));
        }
        (one.flow, one.target) = (flow, target);
        one.answers += 1;
        one.total = one.total.saturating_add(response);
        one.max = one.max.max(response);
    }

    /// All of it, when nothing more comes.
    pub(super) fn finish(&mut self) -> (Vec<ByTarget>, Option<Slowest>) {
        let mut slowest = self.slowest.take();
        for one in std::mem::take(&mut self.connections) {
            if let Some(slowest) = &mut slowest {
                slowest.ended(one);
            }
        }
        (std::mem::take(&mut self.targets), slowest)
    }
}
