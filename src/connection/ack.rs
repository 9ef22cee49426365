//! Fifth step of RFC 9293 3.10.7.4: what the peer acknowledges, and what follows for the state.

use super::input::Discard;
use super::{Connection, State};
use crate::time::Time;
use crate::wire::{Flags, Segment, ext_flags};

/// Most SACK blocks an ACK can carry (long header).
const BLOCKS: usize = 31;

impl Connection {
    pub(super) fn process_ack(&mut self, now: Time, segment: &Segment<'_>, seq: u64) -> Result<(), Discard> {
        if !segment.flags.contains(Flags::ACK) {
            return Err(Discard);
        }
        let ack = self.snd.space.unwrap(segment.ack, self.snd.una).ok_or(Discard)?;
        if self.state == State::SynReceived {
            self.complete_passive(now, segment, ack)?;
        }
        if ack > self.snd.nxt {
            // "If the ACK acks something not yet sent, then send an ACK, drop the segment."
            self.acknowledge_unsent(now);
            return Err(Discard);
        }
        if ack + self.snd.max_wnd < self.snd.una {
            // RFC 5961 5.2: too old to be true.
            self.acknowledge_unsent(now);
            return Err(Discard);
        }
        if ack >= self.snd.una {
            self.hear_corruption(now, segment, ack);
            self.hear_clock(now, segment);
            self.snd.update_window(seq, ack, u64::from(segment.window) << self.snd.shift);
            self.apply_ack(now, segment, ack);
        }
        self.confirm_to_opener(now, segment);
        Ok(())
    }

    /// An opener that repeats its handshake ACK, and nothing else has been said: our first answer was lost.
    fn confirm_to_opener(&mut self, now: Time, segment: &Segment<'_>) {
        let is_listener = self.opening.sent == 0;
        let is_silent = segment.seq_len() == 0 && self.rcv.nxt() == 1 && self.snd.nxt == 1;
        if is_listener && is_silent && self.terms.extension && self.challenges.allow(now) {
            self.rcv.acks.require();
        }
    }

    /// The peer's count of corrupt segments (`docs/wire-format.md`).
    pub(super) fn hear_corruption(&mut self, now: Time, segment: &Segment<'_>, ack: u64) {
        let ext = segment.options.ext.filter(|_| self.keys.is_some() && !segment.flags.contains(Flags::SYN));
        if let Some(ext) = ext {
            let stamp = segment.options.timestamps.map_or(0, |t| t.val);
            self.snd.on_corruption_report(now, ext.flags & ext_flags::CORRUPT_COUNT, stamp, ack);
        }
    }

    fn acknowledge_unsent(&mut self, now: Time) {
        if self.challenges.allow(now) {
            self.rcv.acks.require();
        }
    }

    fn apply_ack(&mut self, now: Time, segment: &Segment<'_>, ack: u64) {
        let mut blocks = [(0, 0); BLOCKS];
        let mut count = 0;
        if self.terms.sack {
            for (left, right) in segment.options.sack.iter().take(BLOCKS) {
                let pair = (self.snd.space.unwrap(left, ack), self.snd.space.unwrap(right, ack));
                if let (Some(left), Some(right)) = pair {
                    blocks[count] = (left, right);
                    count += 1;
                }
            }
        }
        let echo = segment.options.timestamps.filter(|_| self.terms.timestamps);
        let echo_ms = echo.and_then(|t| self.echoed_ms(now, t.ecr));
        self.snd.hear_marks(now, ack, segment);
        let effect = self.snd.on_ack(now, ack, &blocks[..count], echo_ms);
        // Progress, or a peer that answers while its window is closed (MUST-37, even if it closed it over
        // what is in flight), keeps the connection.
        let is_closed = self.snd.wnd == 0 || self.snd.is_blocked_by_window();
        if effect.advanced || effect.delivered > 0 || is_closed {
            self.stalled_since = None;
        }
        if effect.grew {
            self.take_datagram_size();
        }
        if effect.black_hole {
            self.leave_black_hole(now);
        }
        if self.snd.is_fin_acked() {
            self.note_fin_acked(now);
        }
    }

    fn note_fin_acked(&mut self, now: Time) {
        match self.state {
            State::FinWait1 => self.enter(State::FinWait2),
            State::Closing => self.enter_time_wait(now),
            State::LastAck => self.finish_quietly(),
            _ => {}
        }
    }
}
