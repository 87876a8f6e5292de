//! Gates: what must hold of a run, as in `p99<5ms`.

use std::str::FromStr;

/// One gate, as typed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    /// The text, as typed.
    pub(crate) text: String,
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Gate, String> {
        Ok(Gate {
            text: text.to_owned(),
        })
    }
}
