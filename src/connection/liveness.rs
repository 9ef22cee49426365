//! Is the path there? After two retransmission timeouts without an answer header-only PROBEs ask, and data waits
//! for an ECHO.
//!
//! Deviates from RFC 9293 MUST-19, whose retransmissions back off to a minute: a link that was gone for seconds
//! is back long before the next of them. A question costs 48 bytes, takes no sequence space, and its answer says
//! what an ACK does not: all that left before it and is not acknowledged is lost.

use std::time::Duration;

use super::loss_rate::LossRate;
use super::nonce::Nonces;
use super::sender::Sender;
use super::{Connection, State};
use crate::time::Time;
use crate::wire::Segment;

/// Timeouts without an answer after which data leaves no more.
const TIMEOUTS: u32 = 2;
/// The silence between two questions, while that is not less than a round trip.
const GAP: Duration = Duration::from_millis(250);
/// An outage that lasts longer than this is asked after less and less...
const STEADY: Duration = Duration::from_secs(10);
/// ...down to this often.
const GAP_MAX: Duration = Duration::from_secs(5);
/// PROBEs whose ECHO still tells when they left: two seconds' worth, or eight round trips.
const REMEMBERED: u64 = 8;
/// As a topic of nonces: no size in bytes.
const TOPIC: u16 = 0;

/// Counts what goes unanswered, and asks in its stead.
#[derive(Debug)]
pub(super) struct Liveness {
    nonces: Nonces,
    /// PROBEs sent so far.
    probes: u64,
    /// When the last of them left, by their number modulo their count.
    sent_at: [Time; REMEMBERED as usize],
    /// Retransmission timeouts since the peer last acknowledged something new.
    timeouts: u32,
    /// Segments that it has not acknowledged since then, each as often as it was sent.
    transmissions: u32,
    /// The loss rate then, once it is known: what an outage takes is no property of the path.
    rate: Option<LossRate>,
    silence: Option<Silence>,
    /// The segment being processed is a PROBE or an ECHO: its ACK was not caused by what it acknowledges.
    pub(super) hears_aside: bool,
}

/// Questions are being asked.
#[derive(Clone, Copy, Debug)]
struct Silence {
    began: Time,
    /// When the next PROBE is due.
    next: Time,
    gap: Duration,
    /// No timeouts beside the questions any more.
    is_alone: bool,
    is_due: bool,
    /// The endpoint has sent enough of them for now.
    is_held: bool,
}

impl Liveness {
    pub(super) const fn new(nonces: Nonces) -> Self {
        Self {
            nonces,
            probes: 0,
            sent_at: [Time::ZERO; REMEMBERED as usize],
            timeouts: 0,
            transmissions: 0,
            rate: None,
            silence: None,
            hears_aside: false,
        }
    }

    /// After a rest: `probes` were sent, and nothing is in question.
    pub(super) fn resume(nonces: Nonces, probes: u64, rate: LossRate) -> Self {
        Self { probes, rate: Some(rate).filter(|rate| rate.is_measured()), ..Self::new(nonces) }
    }

    /// Nothing is asked, nothing waits for an answer.
    pub(super) const fn is_at_rest(&self) -> bool {
        self.silence.is_none()
    }

    /// `count` segments of the stream leave.
    pub(super) const fn on_sent(&mut self, count: u32) {
        self.transmissions = self.transmissions.saturating_add(count);
    }

    /// PROBEs stand for the retransmission timer.
    pub(super) fn asks_alone(&self) -> bool {
        self.silence.is_some_and(|silence| silence.is_alone)
    }

    /// The retransmission timer fired; it would next after `rto`. The first question comes when it would have,
    /// or after `interval` if that is sooner: then even before the second timeout.
    fn on_timeout(&mut self, now: Time, rto: Duration, interval: Duration) {
        self.timeouts += 1;
        // While chance explains the silence, data itself is the better question: at half loss both ways two
        // timeouts in a row are ordinary. After a few segments nobody knows what chance explains.
        if self.rate.is_none_or(|rate| self.transmissions < rate.silences_beyond_chance()) {
            return;
        }
        let is_alone = self.timeouts >= TIMEOUTS;
        if let Some(silence) = &mut self.silence {
            silence.is_alone = is_alone;
        } else if is_alone || interval < rto {
            let gap = interval.min(rto);
            self.silence =
                Some(Silence { began: now, next: now + gap, gap, is_alone, is_due: false, is_held: false });
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.silence.filter(|silence| !silence.is_due).map(|silence| silence.next)
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if let Some(silence) = &mut self.silence {
            silence.is_due |= silence.next <= now;
        }
    }

    fn wants_probe(&self) -> bool {
        self.silence.is_some_and(|silence| silence.is_due && !silence.is_held)
    }

    /// The nonce of the PROBE that is wanted.
    fn take_probe(&mut self, now: Time, interval: Duration) -> Option<[u8; 8]> {
        let silence = self.silence.as_mut().filter(|silence| silence.is_due && !silence.is_held)?;
        let most = if now - silence.began < STEADY { interval } else { GAP_MAX.max(interval) };
        silence.gap = (2 * silence.gap).min(most);
        silence.next = now + silence.gap;
        silence.is_due = false;
        let number = self.probes;
        self.probes += 1;
        self.sent_at[(number % REMEMBERED) as usize] = now;
        Some(self.nonces.make(TOPIC, number))
    }

    pub(super) const fn probes(&self) -> u64 {
        self.probes
    }

    /// When the PROBE left that an ECHO with `nonce` answers.
    fn asked_at(&self, nonce: [u8; 8]) -> Option<Time> {
        let mut recent = self.probes.saturating_sub(REMEMBERED)..self.probes;
        let number = recent.find(|number| self.nonces.make(TOPIC, *number) == nonce)?;
        Some(self.sent_at[(number % REMEMBERED) as usize])
    }

    /// The peer has answered, now that the loss rate is `rate` and so many segments are still `waiting`. True:
    /// data had to wait for this.
    fn on_answer(&mut self, rate: LossRate, waiting: u32) -> bool {
        self.timeouts = 0;
        self.transmissions = waiting;
        self.rate = Some(rate).filter(|rate| rate.is_measured());
        self.silence.take().is_some_and(|silence| silence.is_alone)
    }
}

impl Sender {
    fn question_interval(&self) -> Duration {
        GAP.max(self.round_trip())
    }

    /// Data waits for the path, but for what the last timeout sends.
    pub(super) fn is_held_back(&self) -> bool {
        self.liveness.asks_alone() && !self.timeout_due
    }

    /// Questions are asked, and nothing at all was heard for as long as between two of them.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        self.liveness.asks_alone() && now - self.last_heard >= self.question_interval()
    }

    /// Something new was delivered, or a question answered.
    pub(super) fn note_path_answer(&mut self, now: Time) {
        let waiting = self.board.outstanding_segments() as u32;
        if self.liveness.on_answer(self.loss_rate, waiting) {
            self.cc.on_path_restored(now);
            self.board.watch(self.cc.watch());
            self.repace(now);
        }
    }

    /// A PROBE sent at `asked_at` was answered. It stands for a segment in RACK's eyes (RFC 8985 6.2 step 2).
    fn on_echo(&mut self, now: Time, asked_at: Time) {
        self.note_path_answer(now);
        if self.una == self.nxt {
            return;
        }
        self.backoff = 0;
        self.rack.on_probe_answered(now, asked_at);
        self.detect_losses(now);
        self.board.sort_lost();
        self.timeout_due |= self.board.has_lost();
        self.rto_start = now;
        self.arm_loss_timer(now);
    }

    /// The peer speaks again after a silence, of whatever. Perhaps only its own way is free: one segment asks.
    fn try_again(&mut self, now: Time) {
        let limit = self.question_interval();
        let segments = self.board.mark_lost_on_timeout(now, limit);
        self.lost += segments;
        self.board.sort_lost();
        self.timeout_due = self.board.has_lost();
    }
}

impl Connection {
    /// After a retransmission timeout.
    pub(super) fn watch_liveness(&mut self, now: Time) {
        // A FIN alone is as small as a PROBE, and any peer in TIME-WAIT answers it.
        let is_ending = matches!(self.state, State::Closing | State::LastAck) && self.snd.is_data_acked();
        if self.terms.extension && !is_ending {
            let (rto, interval) = (self.snd.rto(), self.snd.question_interval());
            self.snd.liveness.on_timeout(now, rto, interval);
            self.snd.arm_loss_timer(now);
        }
    }

    pub(super) fn liveness_deadline(&self) -> Option<Time> {
        self.snd.liveness.deadline().filter(|_| self.state.may_transmit_data())
    }

    /// A PROBE that asks whether the path is back is due. An endpoint that has sent its share of them puts it
    /// off with [`Self::hold_liveness_probe`].
    #[must_use]
    pub fn wants_liveness_probe(&self) -> bool {
        self.state.may_transmit_data() && self.snd.liveness.wants_probe()
    }

    /// Puts the PROBE that is due off until this is called again with false. No-op if none is.
    pub fn hold_liveness_probe(&mut self, hold: bool) {
        if let Some(silence) = self.snd.liveness.silence.as_mut().filter(|silence| silence.is_due) {
            silence.is_held = hold;
        }
    }

    /// Such a PROBE is put off.
    #[must_use]
    pub fn holds_liveness_probe(&self) -> bool {
        self.state.may_transmit_data() && self.snd.liveness.silence.is_some_and(|silence| silence.is_held)
    }

    pub(super) fn take_liveness_probe(&mut self, now: Time) -> Option<[u8; 8]> {
        if !self.state.may_transmit_data() {
            return None;
        }
        let interval = self.snd.question_interval();
        self.snd.liveness.take_probe(now, interval)
    }

    /// An acceptable segment, its ACK taken.
    pub(super) fn hear_path(&mut self, now: Time, segment: &Segment<'_>, was_silent: bool) {
        let nonce = self.echoed_nonce(segment);
        if let Some(asked_at) = nonce.and_then(|nonce| self.snd.liveness.asked_at(nonce)) {
            log::debug!("{} the path answers", self.identity);
            self.snd.on_echo(now, asked_at);
        } else if was_silent && self.snd.liveness.asks_alone() {
            self.snd.try_again(now);
        }
    }
}
