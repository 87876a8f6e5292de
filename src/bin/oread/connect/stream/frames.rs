//! What the server sends, as messages.

use oread::{CloseReason, Connection, Framing};

use super::Client;
use crate::connect::message::log_message;
use crate::failure::Failure;

impl Client {
    /// Prints the whole messages in `data`, each on a line; how many bytes they were.
    pub(super) fn print_frames(
        &mut self,
        connection: &mut Connection<'_, ()>,
        data: &[u8],
    ) -> usize {
        let mut frames = self.framing.frames(data, self.scanned, self.max_frame);
        let mut text = Vec::new();
        let mut broken = None;
        for frame in frames.by_ref() {
            match frame {
                Ok(frame) => {
                    text.extend_from_slice(frame.payload);
                    text.push(b'\n');
                }
                Err(error) => broken = Some(error),
            }
        }
        let (consumed, scanned) = (frames.consumed(), frames.scanned());
        if !text.is_empty() && self.output.offer(text).is_err() {
            connection.pause();
            return 0;
        }
        self.scanned = scanned;
        // Once each, and only now: what there was no room for comes again.
        if log::log_enabled!(log::Level::Trace) {
            let peer = self.dialer.address();
            let frames = self.framing.frames(&data[..consumed], 0, self.max_frame);
            for frame in frames.flatten() {
                log_message("received from", peer, frame.payload);
            }
        }
        if let Some(error) = broken {
            let failure = Failure::runtime(format!("what the server sent: {error}"));
            self.failure = Some(failure.hint_if(longer(self.framing, self.max_frame)));
            connection.close(CloseReason::FrameTooLong);
        }
        consumed
    }

    /// Prints the start of a message that the server's end broke off. Of a prefix there is nothing
    /// to show.
    pub(super) fn print_start(&mut self, rest: &[u8]) {
        let payload = self.framing.cut_payload(rest);
        if !payload.is_empty() {
            self.output.offer_last(payload);
            self.output.offer_last(b"\n");
        }
    }
}

/// What helps where a message is longer than `max` bytes; nothing does when the framing has no
/// longer ones.
pub(super) fn longer(framing: Framing, max: usize) -> Option<&'static str> {
    let all = framing.max_declarable() == Some(max as u64);
    (!all).then_some("allow longer ones with --max-frame")
}
