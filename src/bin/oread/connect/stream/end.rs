//! What is said of a connection's end.

use std::io;

use oread::CloseReason;

use crate::values::units::Count;

/// What there is to say of an end besides its reason.
#[derive(Debug)]
pub(super) struct End {
    pub(super) peer: String,
    /// Bytes that the system took, to be sent.
    pub(super) sent: u64,
    /// Bytes of the input that it did not take.
    pub(super) unsent: u64,
    /// Standard input was not at its end, and nobody was typing it.
    pub(super) unread: bool,
}

impl End {
    /// The words for an end that is not as it should be.
    pub(super) fn words(&self, reason: CloseReason) -> Option<String> {
        let peer = &self.peer;
        let timed_out = |error: io::Error| error.kind() == io::ErrorKind::TimedOut;
        let mut words = match reason {
            CloseReason::Finished if self.unsent == 0 => return None,
            CloseReason::Finished => format!("{peer} finished before it had all the input"),
            CloseReason::Reset => format!("{peer} reset the connection"),
            CloseReason::IdleTimeout => format!("{peer} has sent nothing for too long"),
            CloseReason::WriteTimeout => {
                format!("the connection to {peer} timed out: {reason}")
            }
            _ if reason.io_error().is_some_and(timed_out) => {
                format!("the connection to {peer} timed out")
            }
            _ => format!("the connection to {peer} broke: {reason}"),
        };
        words += &match self.sent {
            0 => ": nothing was sent".to_owned(),
            // The system says what it took. What has arrived, and was read, only the peer can say.
            sent => format!(
                ": {} sent, of which not all may have arrived",
                bytes_were(sent)
            ),
        };
        if self.unsent > 0 {
            words += &format!(", and {} not sent", bytes_were(self.unsent));
        }
        if self.unread {
            words += ", and the rest of the input was not read";
        }
        Some(words)
    }
}

fn bytes_were(count: u64) -> String {
    match count {
        1 => "1 byte was".to_owned(),
        _ => format!("{} bytes were", Count(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn end() -> End {
        End {
            peer: "127.0.0.1:7".to_owned(),
            sent: 2_000_000,
            unsent: 1,
            unread: false,
        }
    }

    #[test]
    fn each_end_that_is_not_good_has_its_words_and_says_what_was_sent() {
        let sent = ": 2,000,000 bytes were sent, of which not all may have arrived";
        for (reason, how) in [
            (CloseReason::Reset, "127.0.0.1:7 reset the connection"),
            (
                CloseReason::Finished,
                "127.0.0.1:7 finished before it had all the input",
            ),
            (
                CloseReason::Failed(Errno::ETIMEDOUT as u16),
                "the connection to 127.0.0.1:7 timed out",
            ),
            (
                CloseReason::WriteTimeout,
                "the connection to 127.0.0.1:7 timed out: the peer stopped reading",
            ),
            (
                CloseReason::IdleTimeout,
                "127.0.0.1:7 has sent nothing for too long",
            ),
            (
                CloseReason::OutputOverflow,
                "the connection to 127.0.0.1:7 broke: too much output that the peer did not read",
            ),
        ] {
            let words = end().words(reason).unwrap();
            assert_eq!(words, format!("{how}{sent}, and 1 byte was not sent"));
        }
        let host_gone = CloseReason::Failed(Errno::EHOSTUNREACH as u16);
        let words = end().words(host_gone).unwrap();
        assert!(words.starts_with("the connection to 127.0.0.1:7 broke: "));
    }

    #[test]
    fn only_an_end_of_both_sides_with_all_sent_is_good() {
        let all_sent = End { unsent: 0, ..end() };
        assert_eq!(all_sent.words(CloseReason::Finished), None);
        let nothing = End {
            sent: 0,
            unread: true,
            ..all_sent
        };
        assert_eq!(
            nothing.words(CloseReason::Reset).unwrap(),
            "127.0.0.1:7 reset the connection: nothing was sent, and the rest of the input was not read"
        );
    }
}
