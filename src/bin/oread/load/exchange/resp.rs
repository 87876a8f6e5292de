//! Where a Redis answer ends: RESP2 and RESP3 (the protocol specification of redis.io).

use memchr::memchr;

use super::found::{Found, Scan};

/// The longest line that says a length or a simple value that is not whole yet.
const MOST_LINE: usize = 64 << 10;

/// Looks for an answer at the start of `bytes`. `scan.at` is where the next part of it begins, and
/// `scan.open` how many parts are still to come.
pub(super) fn find(bytes: &[u8], scan: &mut Scan) -> Found {
    if scan.at == 0 && scan.open == 0 {
        scan.open = 1;
    }
    while scan.open > 0 {
        let rest = bytes.get(scan.at as usize..).unwrap_or_default();
        let (len, parts) = match part(rest) {
            Part::Whole { len, parts } => (len, parts),
            Part::More => return Found::Part(None),
            Part::Wrong => return Found::Wrong("not a Redis answer"),
        };
        let end = u64::from(scan.at).saturating_add(len);
        let Ok(next) = u32::try_from(end) else {
            return Found::TooLong;
        };
        let is_last = scan.open == 1 && parts == 0;
        if end > bytes.len() as u64 {
            return Found::Part(is_last.then_some(end));
        }
        let Some(open) = u32::try_from(parts)
            .ok()
            .and_then(|parts| (scan.open - 1).checked_add(parts))
        else {
            return Found::TooLong;
        };
        (scan.at, scan.open) = (next, open);
    }
    Found::Whole(scan.at as usize)
}

/// A part of an answer: a value, or what stands before others.
enum Part {
    /// Of so many bytes, some of which may be to come, and before so many more parts.
    Whole {
        len: u64,
        parts: u64,
    },
    /// Its first line is not there yet.
    More,
    Wrong,
}

fn part(bytes: &[u8]) -> Part {
    let Some((kind, rest)) = bytes.split_first() else {
        return Part::More;
    };
    if !b"+-:_,#($!=*~>%|".contains(kind) {
        return Part::Wrong;
    }
    let Some(end) = memchr(b'\n', rest) else {
        return if rest.len() > MOST_LINE {
            Part::Wrong
        } else {
            Part::More
        };
    };
    let Some(line) = rest[..end].strip_suffix(b"\r") else {
        return Part::Wrong;
    };
    let first = end as u64 + 2;
    let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
    let (len, parts) = match kind {
        // Strings, errors and verbatim strings; a length of -1 is none.
        b'$' | b'!' | b'=' => match number() {
            Some(-1) => (first, 0),
            Some(len @ 0..) => (first.saturating_add(len as u64).saturating_add(2), 0),
            _ => return Part::Wrong,
        },
        // Arrays, sets and pushes; maps and attributes have two parts each, and attributes stand
        // before another value.
        b'*' | b'~' | b'>' => match number() {
            Some(-1) => (first, 0),
            Some(parts @ 0..) => (first, parts as u64),
            _ => return Part::Wrong,
        },
        b'%' | b'|' => match number() {
            Some(pairs @ 0..) => {
                let own = u64::from(*kind == b'|');
                (first, (pairs as u64).saturating_mul(2).saturating_add(own))
            }
            _ => return Part::Wrong,
        },
        _ => (first, 0),
    };
    Part::Whole { len, parts }
}

/// Whether an answer that begins so is an error.
pub(super) fn is_refusal(start: &[u8]) -> bool {
    matches!(start.first(), Some(b'-' | b'!'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_first_byte() {
        assert!(is_refusal(b"-ERR\r\n") && is_refusal(b"!3\r\nERR") && !is_refusal(b"+OK\r\n"));
    }
}
