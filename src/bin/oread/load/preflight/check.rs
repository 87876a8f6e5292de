//! A line of the table: what is needed, what there is, and where that is too little, what mends it.

use crate::values::units::{Count, Size};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What it's about.
    pub(crate) name: &'static str,
    pub(crate) needed: u64,
    /// `None`: the system doesn't say, or there's no limit.
    pub(crate) here: Option<u64>,
    /// Whether the numbers are bytes.
    pub(crate) bytes: bool,
    /// What mends it, for when there's too little; of several, the best first, each enough by
    /// itself.
    pub(crate) mend: String,
}

impl Check {
    /// A line whose numbers are no bytes.
    pub(crate) fn new(name: &'static str, needed: u64, here: Option<u64>, mend: String) -> Check {
        Check {
            name,
            needed,
            here,
            bytes: false,
            mend,
        }
    }

    /// The same line of bytes.
    pub(crate) fn in_bytes(mut self) -> Check {
        self.bytes = true;
        self
    }

    /// Whether there's enough.
    pub(crate) fn is_met(&self) -> bool {
        self.here.is_none_or(|here| self.needed <= here)
    }

    /// A number of this line, for people.
    pub(crate) fn show(&self, number: u64) -> String {
        match self.bytes {
            true => Size(number).to_string(),
            false => Count(number).to_string(),
        }
    }

    /// The line for a shortfall.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let here = self.show(self.here.filter(|_| !self.is_met())?);
        let (name, needed, mend) = (self.name, self.show(self.needed), &self.mend);
        Some(format!("{name}: {needed} needed, {here} here; {mend}"))
    }
}
