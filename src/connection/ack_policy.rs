//! When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2).

use super::recovery::MAX_ACK_DELAY;
use crate::time::Time;

/// Segments at the start of a connection that are acknowledged at once, so that slow start is not slowed.
const QUICK_ACKS: u32 = 20;
/// SHLD-19: at least every second full-sized segment.
const SEGMENTS_PER_ACK: usize = 2;

/// What is owed to the peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AckPolicy {
    quick: u32,
    /// Bytes received since the last ACK.
    unacked: usize,
    /// An ACK must leave with the next transmission.
    now: bool,
    /// It must be an ACK of its own (it carries SACK blocks).
    alone: bool,
    deadline: Option<Time>,
}

impl AckPolicy {
    /// In-order data arrived.
    pub(super) fn on_data(&mut self, now: Time, bytes: usize, mss: usize) {
        self.unacked += bytes;
        if self.quick < QUICK_ACKS {
            self.quick += 1;
            self.now = true;
        } else if self.unacked >= SEGMENTS_PER_ACK * mss {
            self.now = true;
        } else {
            self.deadline.get_or_insert(now + MAX_ACK_DELAY);
        }
    }

    /// Something that wants an answer at once: a hole, a duplicate, a FIN, an unacceptable segment.
    pub(super) const fn require(&mut self) {
        self.now = true;
    }

    /// As `require`, and data segments cannot carry it: they have no room for SACK blocks.
    pub(super) const fn require_alone(&mut self) {
        self.now = true;
        self.alone = true;
    }

    pub(super) const fn is_due(&self) -> bool {
        self.now
    }

    pub(super) const fn is_due_alone(&self) -> bool {
        self.now && self.alone
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.now = true;
            self.deadline = None;
        }
    }

    /// A segment with ACK left. `full`: with the SACK blocks it may owe.
    pub(super) const fn on_ack_sent(&mut self, full: bool) {
        self.unacked = 0;
        self.deadline = None;
        if full || !self.alone {
            self.now = false;
            self.alone = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> AckPolicy {
        let mut acks = AckPolicy::default();
        for _ in 0..QUICK_ACKS {
            acks.on_data(Time::ZERO, 1000, 1000);
            assert!(acks.is_due(), "the start is acknowledged at once");
            acks.on_ack_sent(true);
        }
        acks
    }

    #[test]
    fn every_second_full_segment_is_acknowledged_and_a_single_one_within_the_delay() {
        let mut acks = quiet();
        acks.on_data(Time::ZERO, 1000, 1000);
        assert!(!acks.is_due());
        assert_eq!(acks.deadline(), Some(Time::ZERO + MAX_ACK_DELAY));
        acks.on_data(Time::ZERO, 1000, 1000);
        assert!(acks.is_due());
        acks.on_ack_sent(true);
        acks.on_data(Time::ZERO, 1, 1000);
        acks.handle_timeout(Time::ZERO + MAX_ACK_DELAY);
        assert!(acks.is_due());
    }

    #[test]
    fn sack_blocks_are_not_lost_to_a_data_segment() {
        let mut acks = quiet();
        acks.require_alone();
        acks.on_ack_sent(false);
        assert!(acks.is_due_alone());
        acks.on_ack_sent(true);
        assert!(!acks.is_due());
    }
}
