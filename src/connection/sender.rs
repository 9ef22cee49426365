//! The send half: what is unacknowledged, and what may leave next. What an ACK does to it: `acknowledged`.

use std::time::Duration;

use super::congestion::Controller;
use super::corruption::Corruption;
use super::ecn::Marking;
use super::lag::Lag;
use super::liveness::Liveness;
use super::loss_rate::LossRate;
use super::nonce::Nonces;
use super::pacer::Pacer;
use super::pmtud::Pmtud;
use super::prr::Prr;
use super::rack::Rack;
use super::recent_min::RecentMin;
use super::resent::Resent;
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;
use super::segment_size::SegmentSize;
use super::send_buffer::SendBuffer;
use super::seq_space::SeqSpace;
use super::{Config, Identity, Terms};
use crate::time::Time;

/// Why data is sent again, as long as an episode lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Losses found by RACK: fast recovery.
    Fast,
    /// The retransmission timer fired.
    Timeout,
}

/// A recovery in progress: over once `recover` is acknowledged (RFC 6675's RecoveryPoint).
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    pub(super) recover: u64,
    pub(super) cause: Cause,
    pub(super) prr: Option<Prr>,
}

/// What is needed to notice that the latest episode was a mistake (RFC 4015, RFC 5682, RFC 2883).
#[derive(Clone, Copy, Debug)]
pub(super) struct Undo {
    pub(super) cause: Cause,
    /// SND.UNA when the episode began.
    pub(super) una: u64,
    pub(super) began: Time,
    /// Anything was sent again in this episode.
    pub(super) has_retransmitted: bool,
    /// Of the segment at `una`, which had been sent once. None where one that left before the episode may be under way.
    pub(super) una_retransmission: Option<Time>,
}

/// A tail loss probe in flight (RFC 8985 section 7).
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) end: u64,
    pub(super) sent_at: Time,
    pub(super) is_retransmission: bool,
}

/// A timer ran out `at` some time and took for lost what waits `since` then; the loss rate before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub(super) at: Time,
    pub(super) since: Time,
    pub(super) rate: LossRate,
    /// No single loss explains it.
    pub(super) is_of_many: bool,
}

/// What the loss timer is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossTimer {
    /// RACK's reordering window closes.
    Reorder,
    /// A tail loss probe is due.
    Probe,
    /// RFC 6298.
    Retransmission,
}

/// A queue shorter than this is no sign of congestion: a few segments of a 1 Mbit/s link.
const QUEUE_TOLERANCE: Duration = Duration::from_millis(40);

/// Bytes newly found lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// To congestion, as far as anyone knows.
    pub(super) lost: u64,
    /// To corruption, as the peer reports.
    pub(super) corrupt: u64,
}

impl Found {
    pub(super) const fn bytes(self) -> u64 {
        self.lost + self.corrupt
    }
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.corrupt += other.corrupt;
    }
}

/// SEND variables of RFC 9293 3.3.1 (unwrapped) and the machinery of recovery.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) space: SeqSpace,
    pub(super) una: u64,
    pub(super) nxt: u64,
    /// SND.WND, scaled to bytes.
    pub(super) wnd: u64,
    /// Largest window the peer ever offered (RFC 5961 section 5, sender's silly-window avoidance).
    pub(super) max_wnd: u64,
    /// Shift of the windows the peer announces.
    pub(super) shift: u8,
    /// SND.WL1 and SND.WL2: segment used for the last window update.
    pub(super) wl1: u64,
    pub(super) wl2: u64,
    /// Largest payload of a segment, options subtracted.
    pub(super) mss: usize,
    pub(super) pmtud: Pmtud,
    pub(super) liveness: Liveness,
    pub(super) buffer: SendBuffer,
    /// The application has finished: a FIN follows the buffered bytes.
    pub(super) fin_queued: bool,
    pub(super) board: Scoreboard,
    pub(super) rtt: RttEstimator,
    /// Smallest of the latest round trips: above `rtt.min_rtt()`, a queue stands.
    pub(super) recent_rtt: RecentMin,
    pub(super) lag: Lag,
    pub(super) cc: Box<dyn Controller>,
    /// Spreads what the controller admits over time, if it asks for a rate.
    pub(super) pacer: Pacer,
    /// When the pacer lets the next segment go, if it held one back.
    pub(super) paced_until: Option<Time>,
    pub(super) rack: Rack,
    pub(super) episode: Option<Episode>,
    pub(super) undo: Option<Undo>,
    pub(super) resent: Resent,
    pub(super) probe: Option<Probe>,
    /// The probe timer fired: one segment may leave regardless of cwnd.
    pub(super) probe_due: bool,
    /// Consecutive retransmission timeouts (RFC 6298 5.5).
    pub(super) backoff: u32,
    /// When the retransmission timer was last restarted.
    pub(super) rto_start: Time,
    pub(super) loss_timer: Option<(Time, LossTimer)>,
    /// Found lost by the timer: the controller hears of it with the next ACK.
    pub(super) unreported: Found,
    pub(super) loss_rate: LossRate,
    /// What a timer took for lost that may only be late.
    pub(super) guessed: Option<Guess>,
    pub(super) corruption: Corruption,
    /// How long segments are cut: as `mss`, or shorter where bits flip.
    pub(super) size: SegmentSize,
    /// The controller was told of the latest episode: corruption does not excuse it.
    pub(super) reduced: bool,
    /// When the segments in flight began to wait: nothing was before.
    pub(super) flight_began: Time,
    /// The retransmission timer has just fired: the first segment leaves whatever cwnd says (RFC 6298 5.4).
    pub(super) timeout_due: bool,
    pub(super) last_sent: Time,
    /// When the peer's last acceptable segment came.
    pub(super) last_heard: Time,
    pub(super) cwnd_limited: bool,
    /// The flight up to here was limited by cwnd: ACKs of it that come in a row all tell of a full window.
    pub(super) limited_until: u64,
    /// The peer runs our extension: its longest ACK delay is known, timestamps are there.
    pub(super) extension: bool,
    /// The peer reports what it holds beyond holes.
    pub(super) sack: bool,
    pub(super) ecn: Marking,
    pub(super) retransmitted: u64,
    pub(super) lost: u64,
    pub(super) rto_count: u64,
    /// Tail loss probes that fell due.
    pub(super) probe_count: u64,
    /// Recoveries that turned out to be mistakes.
    pub(super) undo_count: u64,
    pub(super) rto_spurious: u64,
    pub(super) bytes_retransmitted: u64,
}

impl Sender {
    pub(super) fn new(now: Time, config: &Config, identity: &Identity) -> Self {
        let mss = Terms::UNKNOWN.segment_payload(config.mtu.initial());
        let cc = config.algorithm.build(u32::try_from(mss).unwrap_or(u32::MAX));
        Self::with_controller(now, config, identity, cc)
    }

    pub(super) fn with_controller(
        now: Time,
        config: &Config,
        identity: &Identity,
        cc: Box<dyn Controller>,
    ) -> Self {
        let mss = Terms::UNKNOWN.segment_payload(config.mtu.initial());
        let nonces = Nonces::of(identity);
        Self {
            space: SeqSpace::new(identity.iss),
            una: 0,
            nxt: 1, // the SYN
            wnd: 0,
            max_wnd: 0,
            shift: 0,
            wl1: 0,
            wl2: 0,
            mss,
            pmtud: Pmtud::new(config.mtu.initial(), nonces),
            liveness: Liveness::new(nonces),
            buffer: SendBuffer::new(1, config.send_buffer),
            fin_queued: false,
            board: Scoreboard::default(),
            rtt: RttEstimator::new(),
            recent_rtt: RecentMin::default(),
            lag: Lag::default(),
            cc,
            pacer: Pacer::new(u32::try_from(mss).unwrap_or(u32::MAX)),
            paced_until: None,
            rack: Rack::default(),
            episode: None,
            undo: None,
            resent: Resent::default(),
            probe: None,
            probe_due: false,
            backoff: 0,
            rto_start: now,
            loss_timer: None,
            unreported: Found::default(),
            loss_rate: LossRate::default(),
            guessed: None,
            corruption: Corruption::default(),
            size: SegmentSize::new(mss),
            reduced: false,
            flight_began: now,
            timeout_due: false,
            last_sent: now,
            last_heard: now,
            cwnd_limited: false,
            limited_until: 0,
            extension: false,
            sack: false,
            ecn: Marking::default(),
            retransmitted: 0,
            lost: 0,
            rto_count: 0,
            probe_count: 0,
            undo_count: 0,
            rto_spurious: 0,
            bytes_retransmitted: 0,
        }
    }

    /// Sequence number after everything the application wants sent, the FIN included.
    pub(super) const fn end(&self) -> u64 {
        self.buffer.end() + self.fin_queued as u64
    }

    /// Our FIN is acknowledged.
    pub(super) const fn is_fin_acked(&self) -> bool {
        self.fin_queued && self.una == self.end()
    }

    /// Bytes of data that the peer holds: the FIN, which the scoreboard counts too, is none.
    pub(super) fn delivered_data(&self) -> u64 {
        self.board.delivered().saturating_sub(u64::from(self.is_fin_acked()))
    }

    /// Every byte of data is acknowledged (the FIN perhaps not).
    pub(super) const fn is_data_acked(&self) -> bool {
        self.una >= self.buffer.end()
    }

    /// Takes SEG.WND if the segment is not older than the last one that set it (RFC 9293 3.10.7.4). Beyond it, one
    /// that acknowledges something new is never older, though its own bytes may have been sent before.
    pub(super) fn update_window(&mut self, seq: u64, ack: u64, window: u64) {
        if self.una < ack || self.wl1 < seq || (self.wl1 == seq && self.wl2 <= ack) {
            self.wnd = window;
            self.max_wnd = self.max_wnd.max(window);
            self.wl1 = seq;
            self.wl2 = ack;
        }
    }

    /// All that was ever written is acknowledged, and whatever happened to it is settled.
    pub(super) fn has_nothing_to_hear(&self) -> bool {
        self.una >= self.end()
            && self.una == self.nxt
            && self.episode.is_none()
            && !self.liveness.asks_alone()
    }

    /// The connection is up; the handshake may have measured the path.
    pub(super) fn on_handshake(&mut self, now: Time) {
        let rtt = self.rtt.min_rtt();
        if !rtt.is_zero() {
            self.cc.on_handshake(now, rtt);
            self.repace(now);
        }
    }

    /// The pacer follows the controller.
    pub(super) fn repace(&mut self, now: Time) {
        self.pacer.set_rate(now, self.cc.pacing_rate(), self.cc.pacing_quantum());
    }

    /// Whether `len` more bytes may enter the network now.
    pub(super) fn may_send(&self, len: u64) -> bool {
        if self.board.in_flight() + len <= self.lossy_floor() {
            return true;
        }
        if let Some(prr) = self.episode.and_then(|e| e.prr) {
            return prr.quota() >= len || self.board.in_flight() == 0;
        }
        // A window smaller than a segment still lets one segment out.
        self.board.in_flight() == 0 || self.board.in_flight() + len <= self.cc.cwnd()
    }

    /// The peer's connection answered, whatever it said.
    pub(super) fn on_heard(&mut self, now: Time) {
        self.last_heard = now;
    }

    /// What may be in flight whatever the controller says. Deviates from RFC 5681 3.1, where loss alone
    /// decides: on a path that loses a fifth and more while the round trip shows no standing queue, loss says
    /// nothing of congestion, and half the initial window that RFC 6928 holds safe on an unknown path stays safe.
    fn lossy_floor(&self) -> u64 {
        let queue = self.recent_rtt.min().saturating_sub(self.rtt.min_rtt());
        let no_queue = queue <= self.rtt.min_rtt() / 4 + QUEUE_TOLERANCE;
        if self.cc.wants_prr() && self.loss_rate.is_heavy() && no_queue {
            self.initial_window() / 2
        } else {
            0
        }
    }

    pub(super) fn initial_window(&self) -> u64 {
        let mss = self.mss as u64;
        (10 * mss).min((2 * mss).max(14600)) // RFC 6928
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.una <= self.nxt && self.nxt <= self.end().max(1));
        assert!(self.buffer.base() >= self.una.min(self.buffer.end()) || self.una == 0);
        self.board.assert_invariants(self.una, self.nxt);
    }
}
