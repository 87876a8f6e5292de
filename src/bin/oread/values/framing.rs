//! What `--framing` says of itself, and the longest frame that goes with it.

use std::num::NonZeroU32;

use oread::Framing;

use super::units::{Count, Size};
use crate::failure::Failure;

/// `--max-frame` when it is not given: 1 MiB.
const DEFAULT_MAX_FRAME: u32 = 1 << 20;

/// The help of an option `--framing`, after what it is about.
pub(crate) fn forms(about: &str) -> String {
    let forms = Framing::FORMS.iter();
    let forms: Vec<String> = forms
        .map(|(form, meaning)| format!("{form} ({meaning})"))
        .collect();
    format!("{about}: {}", forms.join(", "))
}

/// The longest frame to take. A maximum that is typed must fit the framing; the default bends to
/// it.
///
/// # Errors
/// Exit code 2: `typed` does not fit.
pub(crate) fn max_frame(
    framing: Framing,
    typed: Option<NonZeroU32>,
) -> Result<NonZeroU32, Failure> {
    let least = framing.min_declarable().unwrap_or(0).max(1);
    // Frames of one size are under any larger maximum.
    let most = framing.max_declarable().filter(|most| *most > least);
    let most = most.unwrap_or(u32::MAX.into());
    let Some(max) = typed else {
        let default = u64::from(DEFAULT_MAX_FRAME).clamp(least, most);
        return Ok(NonZeroU32::try_from(default as u32).unwrap_or(NonZeroU32::MIN));
    };
    let size = Size(max.get().into());
    if u64::from(max.get()) > most {
        return Err(Failure::usage(format!(
            "--max-frame {size} is over what the prefix of --framing {framing} can say: {} bytes",
            Count(most)
        ))
        .hint("leave --max-frame out, or choose a wider prefix"));
    }
    if u64::from(max.get()) < least {
        return Err(Failure::usage(format!(
            "--max-frame {size} is under the frames of --framing {framing}"
        ))
        .hint("leave --max-frame out: a fixed frame has no other length"));
    }
    Ok(max)
}
