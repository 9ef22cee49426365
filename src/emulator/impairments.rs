//! What is wrong with a link: plain data, perfect by default.

use crate::time::Time;
use std::time::Duration;

/// The impairments of one direction. `Default` is the perfect link.
///
/// Probabilities are fractions from 0 to 1. The order of the stations a datagram passes: MTU hole, policer,
/// queue, serialiser, then the wire with outages, loss, bit errors, delay, swapping and duplication. So what the
/// wire loses has taken its share of the rate, as on a real link.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairments {
    /// Probability with which each datagram is lost, independently of all others.
    pub loss: f64,
    /// Loss that comes in bursts; its clock is time, not the number of datagrams.
    pub burst_loss: Option<BurstLoss>,
    /// Probability with which a datagram changes places with its successor: it is held until the next one
    /// has passed. One datagram is held at a time, so the successor is never held itself.
    pub reorder: f64,
    /// The longest a datagram is held for its successor, so that the last one of a flow arrives as well.
    pub reorder_hold: Duration,
    /// Probability with which a datagram takes `late_by` longer and those behind it overtake it.
    pub late: f64,
    /// The extra delay of a late datagram.
    pub late_by: Duration,
    /// Probability with which a second copy arrives, with bit errors of its own.
    pub duplicate: f64,
    /// How long after the first the second copy arrives.
    pub duplicate_delay: Duration,
    /// Probability with which each bit flips. The datagram is still delivered, as if its UDP checksum had
    /// been made right again.
    pub bit_error_rate: f64,
    /// Propagation delay, one way.
    pub delay: Duration,
    /// Extra delay, uniform from 0 to this.
    pub jitter: Duration,
    /// Lets datagrams of different jitter overtake each other; otherwise they stay in order.
    pub jitter_reorder: bool,
    /// Bits per second of datagrams plus `overhead_bytes` each; `None` is unlimited.
    pub rate_bit_per_s: Option<u64>,
    /// Changes of the rate, in order of time.
    pub rate_steps: Vec<RateStep>,
    /// Size of the drop-tail queue in bytes including `overhead_bytes` each; `None` is unlimited. The
    /// datagram in service counts; an empty queue takes a datagram of any size. Unused without a rate.
    pub queue_bytes: Option<usize>,
    /// Active management of that queue, on top of its limit. Useless without a rate.
    pub codel: Option<Codel>,
    /// ECN step marking (as in RFC 8257): an ECN-capable datagram that finds more than so many bytes in the
    /// queue, its own not counted, is marked.
    pub mark_above_bytes: Option<usize>,
    /// A middlebox behind the queue clears the ECN field: no mark arrives.
    pub ecn_bleach: bool,
    /// A token bucket before the queue.
    pub policer: Option<Policer>,
    /// Added to every datagram's length for rate, queue, policer and MTU; 28 makes them count IPv4 packets.
    pub overhead_bytes: usize,
    /// Datagrams that would leave the serialiser within one of these are lost.
    pub blackouts: Vec<Window>,
    /// An outage that comes back.
    pub outage: Option<Outage>,
    /// Probability with which a datagram is lost in an outage; 1 by default.
    pub outage_loss: f64,
    /// Larger datagrams (including `overhead_bytes`) vanish without a message.
    pub mtu: Option<usize>,
}

impl Default for Impairments {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst_loss: None,
            reorder: 0.0,
            reorder_hold: Duration::from_millis(100),
            late: 0.0,
            late_by: Duration::ZERO,
            duplicate: 0.0,
            duplicate_delay: Duration::ZERO,
            bit_error_rate: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_reorder: false,
            rate_bit_per_s: None,
            rate_steps: Vec::new(),
            queue_bytes: None,
            codel: None,
            mark_above_bytes: None,
            ecn_bleach: false,
            policer: None,
            overhead_bytes: 0,
            blackouts: Vec::new(),
            outage: None,
            outage_loss: 1.0,
            mtu: None,
        }
    }
}

/// Gilbert-Elliott loss in continuous time: the link is good and bad in turn, each for an exponentially
/// distributed while. A sender that backs off therefore outlives a burst as it does on a real link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstLoss {
    /// Mean duration of the good state; at least 1 ns.
    pub mean_good: Duration,
    /// Mean duration of the bad state; at least 1 ns.
    pub mean_bad: Duration,
    /// Probability of loss while good.
    pub loss_good: f64,
    /// Probability of loss while bad.
    pub loss_bad: f64,
}

/// CoDel (RFC 8289): once datagrams have waited for `target` or longer throughout an `interval`, they are
/// dropped from the head of the queue at a growing rate until they no longer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codel {
    /// The standing delay that is put up with; 5 ms by default.
    pub target: Duration,
    /// How long a worse one is; 100 ms by default, the order of a round trip.
    pub interval: Duration,
    /// ECN-capable datagrams are marked instead of dropped.
    pub ecn: bool,
}

impl Default for Codel {
    fn default() -> Self {
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100), ecn: false }
    }
}

/// A token bucket without a queue: what comes faster than `rate_bit_per_s` and does not fit into the bucket
/// is dropped. The bucket is full at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// Bits per second that refill the bucket.
    pub rate_bit_per_s: u64,
    /// What it holds; a datagram larger than this never passes.
    pub bucket_bytes: usize,
}

/// From `at` on the rate is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStep {
    /// When.
    pub at: Time,
    /// Bits per second; `None` is unlimited. At 0 the link stands still until the next step; what would
    /// have to wait for ever is lost and counted as lost in a blackout.
    pub rate_bit_per_s: Option<u64>,
}

/// A stretch of time, half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment in it.
    pub from: Time,
    /// The first moment after it.
    pub until: Time,
}

/// The link is dead (or loses [`Impairments::outage_loss`]) during the last `length` of every `every`, counted
/// from [`Time::ZERO`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The period.
    pub every: Duration,
    /// How much of each period is dead; all of it if this is `every` or longer.
    pub length: Duration,
}
