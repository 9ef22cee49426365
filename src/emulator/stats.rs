//! What happened on a link, counted.

use std::time::Duration;

/// What has become of the datagrams of one direction. Each has one fate:
/// `packets_in + duplicated = delivered + lost + burst_lost + blackout_dropped + queue_dropped +
/// aqm_dropped + policed + mtu_dropped` + those still on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams that came in.
    pub packets_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// Datagrams given back, copies included.
    pub delivered: u64,
    /// Their payload bytes.
    pub bytes_delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost by burst loss.
    pub burst_lost: u64,
    /// Lost in a blackout or an outage.
    pub blackout_dropped: u64,
    /// Dropped because the queue was full.
    pub queue_dropped: u64,
    /// Dropped by the queue's active management.
    pub aqm_dropped: u64,
    /// Dropped by the policer.
    pub policed: u64,
    /// Dropped because they were larger than the MTU.
    pub mtu_dropped: u64,
    /// Marked "congestion experienced" at the queue, whatever became of them behind it.
    pub ce_marked: u64,
    /// Marks that a middlebox cleared.
    pub ce_bleached: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Datagrams and copies put on the wire with at least one bit flipped.
    pub corrupted: u64,
    /// Bits flipped in those.
    pub bits_flipped: u64,
    /// Datagrams delayed by `late_by`.
    pub late: u64,
    /// Datagrams delivered after one that came in later, whatever the cause; copies do not count.
    pub reordered: u64,
    /// Datagrams that left the queue for the wire.
    pub served: u64,
    /// Time that these spent in the queue before service, in all.
    pub queue_delay_sum: Duration,
    /// The longest of these.
    pub queue_delay_max: Duration,
    /// The most bytes that were queued at once.
    pub queue_bytes_max: usize,
}

impl LinkStats {
    /// Time in the queue before service, averaged over the datagrams that got to the wire.
    #[must_use]
    pub fn queue_delay_mean(&self) -> Duration {
        self.queue_delay_sum.div_f64(self.served.max(1) as f64)
    }
}
