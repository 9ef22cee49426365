//! How much may be in flight: the [`Controller`] trait and its implementations.

use std::fmt::Debug;
use std::time::Duration;

use crate::time::Time;

mod bbr;
mod cubic;
mod fixed;
mod hystart;

/// Which controller a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// BBR (draft-ietf-ccwg-bbr, version 3), which tells loss by chance from congestion.
    #[default]
    Bbr,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406) and the initial window of RFC 6928.
    Cubic,
    /// A window that never moves. It ignores every sign of congestion: for private links only.
    Fixed {
        /// Bytes that may be in flight; raised to one MSS if smaller.
        window: u64,
    },
}

impl Algorithm {
    /// A controller in its initial state. `mss` is the largest payload of a segment, in bytes; once
    /// negotiation or path MTU discovery changes it, say so with [`Controller::on_mss`].
    #[must_use]
    pub fn build(self, mss: u32) -> Box<dyn Controller> {
        match self {
            Self::Bbr => Box::new(bbr::Bbr::new(mss)),
            Self::Cubic => Box::new(cubic::Cubic::new(mss)),
            Self::Fixed { window } => Box::new(fixed::Fixed::new(window, mss)),
        }
    }
}

/// One exact delivery-rate sample (draft-cheng-iccrg-delivery-rate-estimation), made from the records of
/// the transmission that was just acknowledged most recently.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateSample {
    /// Bytes delivered between the sampled transmission and its acknowledgement.
    pub delivered: u64,
    /// Over this long: the longer of the send and the ACK interval. Zero: no valid sample.
    pub interval: Duration,
    /// Value of the connection's `delivered` counter when the sampled segment was sent.
    pub prior_delivered: u64,
    /// The application, not the network, limited the flight when the segment was sent.
    pub is_app_limited: bool,
    /// Bytes in flight when the sampled segment was sent.
    pub tx_in_flight: u64,
}

/// Transmissions sent after one moment and not after another.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Sent after this...
    pub after: Time,
    /// ...and not after this.
    pub until: Time,
}

impl Watch {
    /// Covers nothing.
    pub const NOTHING: Self = Self { after: Time::MAX, until: Time::ZERO };

    /// Whether a transmission sent at `at` is one of them.
    #[must_use]
    pub fn covers(&self, at: Time) -> bool {
        at > self.after && at <= self.until
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::NOTHING
    }
}

/// What became of transmissions, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Delivered.
    pub acked: u64,
    /// Marked lost.
    pub lost: u64,
}

/// What one arriving acknowledgement says.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckSample {
    /// Bytes newly acknowledged, cumulatively or by SACK.
    pub newly_acked: u64,
    /// Bytes newly marked lost while this acknowledgement was processed, less those that arrived corrupt.
    pub newly_lost: u64,
    /// Bytes newly marked lost that the peer reports to have received corrupt.
    pub newly_corrupt: u64,
    /// When the newest of the newly acknowledged transmissions was sent.
    pub acked_sent_at: Time,
    /// What became known of the transmissions that [`Controller::watch`] names.
    pub watched: Fates,
    /// Everything sent before this moment is delivered or marked lost.
    pub settled: Time,
    /// Bytes in flight before this acknowledgement.
    pub prior_in_flight: u64,
    /// Bytes in flight now.
    pub in_flight: u64,
    /// RTT of the most recently sent segment that this ACK covers; None for retransmissions (Karn).
    pub rtt: Option<Duration>,
    /// Smoothed RTT after this ACK; zero before the first sample.
    pub srtt: Duration,
    /// Smallest RTT seen on this connection; zero before the first sample.
    pub min_rtt: Duration,
    /// Connection's count of delivered bytes (cumulative and SACKed), this ACK included.
    pub delivered: u64,
    /// Delivery-rate sample.
    pub rate: RateSample,
    /// A loss-recovery episode is in progress (after this ACK was processed), or the round trip that follows
    /// an [`on_congestion_event`](Controller::on_congestion_event) for a mark.
    pub in_recovery: bool,
    /// The flight was limited by the window (cwnd), not by the application or the peer's window, since
    /// the last ACK. Growth is only earned then (RFC 7661 in spirit).
    pub cwnd_limited: bool,
    /// The cumulative acknowledgement point, as an unwrapped sequence number (the SYN is 0).
    pub snd_una: u64,
    /// The next sequence number to send, unwrapped.
    pub snd_nxt: u64,
    /// ECN: bytes newly reported as CE-marked.
    pub newly_ce: u64,
}

/// The start of a congestion episode: at most one per round trip.
#[derive(Clone, Copy, Debug)]
pub struct CongestionEvent {
    /// Bytes in flight when the loss (or the ECN mark) was found, lost bytes included.
    pub in_flight: u64,
    /// Unwrapped snd_nxt at that moment: the episode ends when it is acknowledged.
    pub snd_nxt: u64,
    /// True: an ECN mark. False: a loss.
    pub ecn: bool,
}

/// Congestion control as the connection sees it. All byte counts are payload bytes.
///
/// The connection runs recovery (what to send); the controller says how much and how fast. Window-based
/// controllers return `None` from [`Controller::pacing_rate`]; rate-based ones (BBR) drive both.
///
/// No call panics, whatever its arguments. When one ACK both reports a loss and covers new data, either
/// order of [`Controller::on_congestion_event`] and [`Controller::on_ack`] is right.
pub trait Controller: Debug + Send {
    /// What to keep of it while the connection rests, in memory of its own; None: a new one knows as much.
    fn keep(&self) -> Option<Box<dyn Controller>> {
        None
    }
    /// Name for statistics and logs: "bbr", "cubic", "fixed".
    fn name(&self) -> &'static str;
    /// The handshake took `rtt`; nothing else was sent so far.
    fn on_handshake(&mut self, _now: Time, _rtt: Duration) {}
    /// `bytes` were just sent; `in_flight` includes them.
    fn on_sent(&mut self, now: Time, bytes: u64, in_flight: u64);
    /// An acknowledgement that covered new data, or marked data lost, arrived.
    fn on_ack(&mut self, now: Time, ack: &AckSample);
    /// Fast recovery begins (once per episode); or, if [`Self::wants_prr`], marks came and no other event was
    /// told in the round trip before. All controllers find marks in [`AckSample::newly_ce`].
    fn on_congestion_event(&mut self, now: Time, event: &CongestionEvent);
    /// Recovery, be it after a loss or a timeout, ended: everything up to the episode's `snd_nxt` is
    /// acknowledged.
    fn on_recovery_exit(&mut self, now: Time);
    /// The retransmission timer fired (RFC 5681 section 3.1: ssthresh, then cwnd = 1 MSS). Call it for
    /// every expiry: the controller tells repeated ones of the same segment from the first. The window
    /// then grows by slow start while `in_recovery` lasts, so PRR must not be applied.
    fn on_retransmission_timeout(&mut self, now: Time, event: &CongestionEvent);
    /// The last congestion event or timeout was spurious (Eifel, F-RTO, D-SACK): restore what it took.
    fn on_spurious(&mut self, now: Time);
    /// The path answers again after it has carried nothing for two timeouts and longer: an outage, which is no
    /// sign of congestion. `on_retransmission_timeout` was called when it began, and nothing but PROBEs was
    /// sent since the second; [`Controller::on_spurious`] may still follow.
    fn on_path_restored(&mut self, _now: Time) {}
    /// Sending resumes after nothing was in flight for `idle` (RFC 5681 section 4.1, RFC 7661). Call it
    /// however short that was: idle time must not count as time in which the window could have grown.
    fn on_idle_restart(&mut self, now: Time, idle: Duration, rto: Duration);
    /// The largest payload of a segment changed.
    fn on_mss(&mut self, mss: u32);
    /// Transmissions whose fates [`AckSample::watched`] is to count; asked for before each ACK.
    fn watch(&self) -> Watch {
        Watch::NOTHING
    }
    /// Congestion window in bytes; at least one MSS.
    fn cwnd(&self) -> u64;
    /// Slow-start threshold in bytes; `u64::MAX` while unknown.
    fn ssthresh(&self) -> u64;
    /// Bytes per second to pace at; None: no pacing.
    fn pacing_rate(&self) -> Option<u64>;
    /// Once the pace lets nothing leave, what it allows in this time leaves at once.
    fn pacing_quantum(&self) -> Duration {
        Duration::ZERO
    }
    /// Proportional rate reduction (RFC 9937) applies during recovery. False for controllers that set
    /// cwnd themselves at every moment (fixed, BBR).
    fn wants_prr(&self) -> bool;
    /// What the controller is doing, for statistics and traces: "slow-start", "probe-bw-up"; "" if it has no
    /// phases. Lower case, without commas.
    fn phase(&self) -> &'static str {
        ""
    }
    /// Bytes per second that the path is thought to deliver; None: not estimated.
    fn bandwidth(&self) -> Option<u64> {
        None
    }
    /// Share of transmissions, 0 to 1, whose loss is not taken for congestion; None: not estimated.
    fn loss_floor(&self) -> Option<f32> {
        None
    }
}
