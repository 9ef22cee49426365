//! Header prediction (Van Jacobson): the segment that the receiver of a stream waits for.
//!
//! Nearly all segments of a long transfer are alike: the next bytes in order, an acknowledgment that says nothing
//! new, no option that asks for anything. Of RFC 9293's steps for an arrival most come to nothing for them; these are
//! left out here, and the others are the same functions.

use super::{Connection, State};
use crate::time::Time;
use crate::wire::{Flags, Segment, crc_ok, ext_flags};

/// Step by step, then.
pub(super) struct Unexpected;

impl Connection {
    /// Takes the segment if it is such a one and its CRC is right; else nothing was done.
    pub(super) fn take_expected(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        datagram: &[u8],
        ce: bool,
    ) -> Result<(), Unexpected> {
        if !self.is_expected(now, segment) || !self.keys.is_some_and(|(_, key)| crc_ok(datagram, key)) {
            return Err(Unexpected);
        }
        self.packets.received += 1;
        let seq = self.rcv.nxt();
        self.snd.liveness.hears_aside = false;
        self.note_heard(now, segment, seq);
        self.hear_corruption(now, segment, self.snd.una);
        self.snd.update_window(seq, self.snd.una, u64::from(segment.window) << self.snd.shift);
        self.process_data(now, segment, seq, ce);
        self.process_fin(now, segment, seq); // one that came before what it follows
        Ok(())
    }

    fn is_expected(&self, now: Time, segment: &Segment<'_>) -> bool {
        let (flags, options) = (segment.flags, &segment.options);
        let is_data =
            (flags == Flags::ACK || flags == Flags::ACK | Flags::PSH) && !segment.payload.is_empty();
        let Some(stamp) = options.timestamps.filter(|_| is_data) else { return false };
        let Some(ext) = options.ext else { return false };
        let asks_nothing = ext.tail.is_empty() && ext.flags & !ext_flags::CORRUPT_COUNT == 0;
        let end = self.rcv.nxt() + segment.payload.len() as u64;
        asks_nothing
            && options.sack.is_empty()
            && self.state == State::Established
            && self.terms.timestamps
            && !self.is_old_duplicate(now, segment, stamp.val)
            // The next bytes, all of them welcome.
            && segment.seq == self.rcv.space.wrap(self.rcv.nxt())
            && end <= self.rcv.window_end()
            // Nothing of ours is under way or waits to be.
            && self.snd.has_nothing_to_hear()
            && segment.ack == self.snd.space.wrap(self.snd.una)
    }
}
