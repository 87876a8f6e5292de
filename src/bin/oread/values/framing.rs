//! The longest frame that goes with a framing.

use std::num::NonZeroU32;

use oread::Framing;

use super::units::{Count, Size};
use crate::failure::Failure;

/// `--max-frame` when it is not given: 1 MiB.
const DEFAULT_MAX_FRAME: u32 = 1 << 20;

/// The longest frame to take. A maximum that is typed must fit the framing; the default bends to
/// it.
///
/// # Errors
/// Exit code 2: `typed` does not fit.
pub(crate) fn max_frame(
    framing: Framing,
    typed: Option<NonZeroU32>,
) -> Result<NonZeroU32, Failure> {
    let fixed = match framing {
        Framing::Fixed(n) => Some(n.get()),
        _ => None,
    };
    let least = fixed.unwrap_or(1);
    let most = match framing.max_declarable() {
        Some(most) if fixed.is_none() => most,
        _ => u64::from(u32::MAX),
    };
    let Some(max) = typed else {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        return Ok(NonZeroU32::new(DEFAULT_MAX_FRAME.clamp(least, most)).unwrap_or(NonZeroU32::MIN));
    };
    let size = Size(max.get().into());
    if u64::from(max.get()) > most {
        return Err(Failure::usage(format!(
            "--max-frame {size} is over what the prefix of --framing {framing} can say: {} bytes",
            Count(most)
        ))
        .hint("leave --max-frame out, or choose a wider prefix"));
    }
    if max.get() < least {
        return Err(Failure::usage(format!(
            "--max-frame {size} is under the frames of --framing {framing}"
        ))
        .hint("leave --max-frame out: a fixed frame has no other length"));
    }
    Ok(max)
}
