//! When to send again: RACK's verdicts, tail loss probes, the retransmission timer, and undoing mistakes.

use std::time::Duration;

use super::chunks::{Chunk, Reason};
use super::congestion::CongestionEvent;
use super::lag;
use super::loss_rate::LossRate;
use super::prr::Prr;
use super::resent::Why;
use super::segment_size::PACKET_HEADERS;
use super::sender::{Cause, Episode, Found, Guess, LossTimer, Sender, Undo};
use super::sent::Delivery;
use crate::time::Time;

/// Longest delay of an ACK by a peer with our extension (`ack_policy`).
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// Longest delay of an ACK by other peers (Linux's TCP_DELACK_MAX).
const MAX_ACK_DELAY_PLAIN: Duration = Duration::from_millis(200);
/// Deviates from RFC 6298 2.4: towards a peer whose ACK delay is known 50 ms are enough, and a spurious
/// timeout is undone by its timestamps.
const RTO_MIN_EXTENSION: Duration = Duration::from_millis(50);
/// A probe sooner than this meets scheduling noise, not loss.
const PTO_MIN: Duration = Duration::from_millis(5);
/// Before the first RTT sample (RFC 8985 7.2).
const PTO_INITIAL: Duration = Duration::from_secs(1);
const RTO_MAX: Duration = Duration::from_secs(60);
/// Deviates from RFC 6298 2.5 (60 s): after an outage the next try must not be a minute away, and a segment
/// each 5 s until the user timeout burdens nobody.
const RTO_MAX_EXTENSION: Duration = Duration::from_secs(5);
/// While the peer was heard this recently, the back-off stays below `BACKOFF_ANSWERED` doublings
/// (Deviates from RFC 6298 5.5: at half loss both ways four timeouts in a row are ordinary.)
const ANSWERED: Duration = Duration::from_secs(10);
const BACKOFF_ANSWERED: u32 = 1;
/// 2^10 times the smallest RTO is beyond RTO_MAX.
const BACKOFF_MAX: u32 = 10;
/// A probe timer that takes so many segments for lost may be mistaken in that: a slow link still carries them. Of
/// fewer one is missing as a rule, and its repair by the probe is counted by nobody else; but of a path that is hardly
/// known the handshake's small packets told nothing of its rate, and copies would only fill its queue.
const GUESS_MIN: u64 = 4;
/// Copies of last segments are at least this far apart.
const COPY_GAP_MIN: Duration = Duration::from_millis(10);
/// Copies keep their pace for so long beyond two round trips; then the gap grows with the silence.
const COPIES_INTO_SILENCE: Duration = Duration::from_millis(200);

impl Sender {
    /// RFC 8985 6.2 step 5; enters fast recovery on a new loss. Returns what was newly marked.
    pub(super) fn detect_losses(&mut self, now: Time) -> Found {
        let newest = self.rack.newest();
        if newest.0 == Time::ZERO {
            return Found::default();
        }
        let (bytes, segments) = self.board.mark_lost(now, newest, self.rack_limit());
        if bytes == 0 {
            return Found::default();
        }
        let remaining = self.settle_losses(now, segments);
        let lost = bytes * remaining / segments;
        if self.episode.is_none() {
            self.begin(now, Cause::Fast, None);
            self.reduced = false;
        }
        if remaining > 0 && !self.reduced {
            self.reduce(now);
        }
        Found { lost, corrupt: bytes - lost }
    }

    fn rack_limit(&self) -> Duration {
        let no_tolerance = self.episode.is_some() || self.board.sacked() >= 3 * self.size.payload() as u64;
        self.rack.limit(self.rtt.min_rtt(), self.rtt.srtt(), no_tolerance)
    }

    pub(super) fn event(&self) -> CongestionEvent {
        CongestionEvent {
            in_flight: self.nxt - self.una - self.board.sacked(),
            snd_nxt: self.nxt,
            ecn: false,
        }
    }

    /// The episode has a loss that corruption does not excuse.
    fn reduce(&mut self, now: Time) {
        let event = self.event();
        self.cc.on_congestion_event(now, &event);
        self.ecn.on_reduction(self.nxt);
        self.reduced = true;
        if let Some(episode) = &mut self.episode {
            let prr = || Prr::new(event.in_flight, self.cc.ssthresh());
            episode.prr = self.cc.wants_prr().then(prr);
            episode.cause = Cause::Fast; // the controller was not told of a timeout that corruption excused
        }
    }

    fn begin(&mut self, now: Time, cause: Cause, prr: Option<Prr>) {
        // A timeout within a recovery: the original is still the one that was sent before all of them.
        let same = self.undo.filter(|undo| undo.una == self.una);
        self.undo = Some(Undo {
            cause,
            una: self.una,
            began: now,
            has_retransmitted: false,
            una_retransmission: same.and_then(|undo| undo.una_retransmission),
        });
        self.resent.begin_episode();
        self.episode = Some(Episode { recover: self.nxt, cause, prr });
        self.probe = None;
        self.probe_due = false;
    }

    pub(super) fn leave_recovery(&mut self, now: Time) {
        if self.episode.is_some_and(|e| self.una >= e.recover) {
            self.episode = None;
            self.rack.on_recovery_exit();
            if self.reduced {
                self.cc.on_recovery_exit(now);
            }
        }
    }

    /// `chunk`, with `data` bytes of the stream, was sent again.
    /// `transmissions`: of its first segment, this one included.
    pub(super) fn note_retransmission(&mut self, now: Time, chunk: Chunk, data: u64, transmissions: u16) {
        let why = match (chunk.reason, self.episode.map(|episode| episode.cause)) {
            (Reason::Probe | Reason::Copy, _) => Why::Copied,
            (_, Some(Cause::Fast)) => Why::Overtaken,
            (_, Some(Cause::Timeout) | None) => Why::Unanswered,
        };
        self.resent.on_sent(chunk.start, chunk.end, why);
        self.retransmitted += 1;
        self.bytes_retransmitted += data;
        if let Some(undo) = &mut self.undo {
            undo.has_retransmitted = true;
            if chunk.start == undo.una && transmissions == 2 {
                undo.una_retransmission = Some(now);
            }
        }
    }

    /// The latest episode was a mistake if the original arrived (Eifel, RFC 4015), if data never sent again
    /// was delivered after a timeout (F-RTO, RFC 5682), or if every retransmission was a duplicate (RFC 3708).
    pub(super) fn detect_spurious(
        &mut self,
        now: Time,
        prior_una: u64,
        duplicate: Option<Why>,
        echo_ms: Option<u64>,
        delivery: &Delivery,
    ) {
        let Some(undo) = &mut self.undo else { return };
        if !undo.has_retransmitted {
            return;
        }
        let advanced = self.una > undo.una && prior_una == undo.una;
        let eifel = echo_ms
            .zip(undo.una_retransmission)
            .is_some_and(|(echo, resent_at)| advanced && echo < resent_at.as_millis());
        let timed_out = self.episode.is_some_and(|e| e.cause == Cause::Timeout);
        // Only with SACK: without, an ACK that fills a hole covers old originals just the same.
        let frto = echo_ms.is_none()
            && self.sack
            && timed_out
            && self.una > prior_una
            && delivery.original_sent_at.is_some_and(|sent_at| sent_at < undo.began);
        let is_mistake = matches!(duplicate, Some(Why::Overtaken | Why::Unanswered));
        let all_duplicates = is_mistake && self.resent.is_all_reported();
        if eifel || frto || all_duplicates {
            self.rto_spurious += u64::from(undo.cause == Cause::Timeout);
            self.undo = None;
            self.episode = None;
            self.undo_count += 1;
            self.board.unmark_lost();
            if self.reduced {
                self.tell_spurious(now);
            }
        } else if self.episode.is_none() && self.una > undo.una && !is_mistake {
            // The episode is over; a late D-SACK may still undo it within the next flight.
            if undo.began + 4 * self.rtt.srtt() < now {
                self.undo = None;
            }
        }
    }

    /// The probe's flight is acknowledged: if it took a retransmission, something was lost (RFC 8985 7.4.2).
    pub(super) fn finish_probe(&mut self, now: Time, duplicate: Option<(u64, u64)>, echo_ms: Option<u64>) {
        let Some(probe) = self.probe else { return };
        if self.una < probe.end {
            return;
        }
        self.probe = None;
        // RFC 8985 7.4.2: a D-SACK of the probe itself, which may end with a FIN, not just any.
        let is_duplicate = duplicate.is_some_and(|(_, end)| end + 1 >= probe.end);
        let original_arrived = is_duplicate || echo_ms.is_some_and(|echo| echo < probe.sent_at.as_millis());
        let is_loss = probe.is_retransmission && !original_arrived && self.episode.is_none();
        if is_loss && !self.corruption.excuses_one() {
            self.cc.on_congestion_event(now, &self.event());
            self.ecn.on_reduction(self.nxt);
            self.cc.on_recovery_exit(now);
        }
    }

    /// RTO without back-off.
    fn base_rto(&self) -> Duration {
        let (srtt, late) = (self.rtt.srtt(), self.answer_patience());
        if !self.extension || srtt.is_zero() {
            return self.rtt.rto().max(late.min(lag::PLAIN_MAX));
        }
        let deviation = (4 * self.rtt.rttvar()).max(Duration::from_millis(1));
        // Deviates from RFC 6298 2.3 where loss is heavy and there are holes, so that every segment is answered at
        // once: at half loss a flight of five vanishes once in 32 times, and the link idles until the timer fires.
        if self.episode.is_some() && self.sack && self.loss_rate.is_heavy() {
            return (srtt + deviation / 2).max(late).clamp(RTO_MIN_EXTENSION, RTO_MAX);
        }
        (srtt + deviation).max(late).saturating_add(MAX_ACK_DELAY).clamp(RTO_MIN_EXTENSION, RTO_MAX)
    }

    /// RTO with back-off.
    pub(super) fn rto(&self) -> Duration {
        let base = self.base_rto();
        let most = if self.extension { RTO_MAX_EXTENSION.max(4 * base) } else { RTO_MAX };
        (base * (1 << self.backoff)).min(most.min(RTO_MAX))
    }

    /// RFC 8985 7.2, bounded by what QUIC takes (RFC 9002 6.2.1): a steady path needs no two round trips.
    pub(super) fn pto(&self) -> Duration {
        let srtt = self.rtt.srtt();
        if srtt.is_zero() {
            return PTO_INITIAL;
        }
        let pto = (2 * srtt).min(srtt + (4 * self.rtt.rttvar()).max(Duration::from_millis(1)));
        let pto = pto.max(self.answer_patience());
        let ack_delay = match (self.board.outstanding_segments(), self.extension) {
            (0 | 1, true) => MAX_ACK_DELAY,
            (0 | 1, false) => MAX_ACK_DELAY_PLAIN,
            _ => Duration::ZERO,
        };
        (pto + ack_delay).max(PTO_MIN)
    }

    /// Sets the one loss timer to the earliest of what it may be needed for.
    pub(super) fn arm_loss_timer(&mut self, now: Time) {
        self.loss_timer = None;
        if self.una == self.nxt {
            return; // not "undelivered": a peer that holds everything beyond SND.UNA may renege
        }
        let newest = self.rack.newest();
        if newest.0 != Time::ZERO
            && let Some(at) = self.board.reorder_deadline(newest, self.rack_limit())
        {
            self.loss_timer = Some((at.max(now), LossTimer::Reorder));
            return;
        }
        if self.liveness.asks_alone() {
            return; // an answer to a PROBE, or to what was sent before, brings the data back
        }
        let rto_at = self.rto_start + self.rto();
        let may_probe = self.episode.is_none()
            && self.probe.is_none()
            && !self.probe_due
            && self.board.sacked() == 0
            && self.board.outstanding_segments() > 0;
        let pto_at = self.rto_start.max(self.last_sent) + self.pto();
        self.loss_timer = Some(if may_probe && pto_at <= rto_at {
            (pto_at, LossTimer::Probe)
        } else {
            (rto_at, LossTimer::Retransmission)
        });
    }

    pub(super) fn handle_loss_timeout(&mut self, now: Time) {
        match self.loss_timer.take() {
            Some((at, kind)) if at <= now => match kind {
                LossTimer::Reorder => {
                    let found = self.detect_losses(now);
                    self.unreported += found;
                    if let Some(prr) = self.episode.as_mut().and_then(|e| e.prr.as_mut()) {
                        prr.on_ack(0, self.board.in_flight(), false, self.mss as u64);
                    }
                }
                LossTimer::Probe => {
                    self.probe_due = true;
                    self.probe_count += 1;
                    let segments = self.board.outstanding_segments() as u64;
                    let (since, rate, is_of_many) = (self.rto_start, self.loss_rate, segments >= GUESS_MIN);
                    self.guessed.get_or_insert(Guess { at: now, since, rate, is_of_many });
                    self.loss_rate.on_lost(segments);
                }
                LossTimer::Retransmission => self.on_retransmission_timeout(now),
            },
            other => self.loss_timer = other,
        }
        self.arm_loss_timer(now);
    }

    /// SND.UNA advanced for the first time since a timer ran out. If what was sent before is answered, and nothing
    /// is missing, the answer was late and no loss: a queue that grows must not be met with copies.
    pub(super) fn check_guess(&mut self, echo_ms: Option<u64>, is_whole: bool) {
        let Some(Guess { at, rate, is_of_many, .. }) = self.guessed.take() else { return };
        let is_late = is_whole && echo_ms.is_some_and(|echo| echo < at.as_millis());
        if is_late && (is_of_many || !rate.is_measured()) {
            self.loss_rate = rate;
        }
    }

    fn on_retransmission_timeout(&mut self, now: Time) {
        self.rto_count += 1;
        let answered = now - self.last_heard < ANSWERED.max(8 * self.rtt.srtt());
        self.backoff = (self.backoff + 1).min(if answered { BACKOFF_ANSWERED } else { BACKOFF_MAX });
        let event = self.event();
        let is_silent = (self.episode.is_none() || self.guessed.is_some()) && self.board.sacked() == 0;
        let first =
            self.guessed.unwrap_or(Guess { at: now, since: now, rate: self.loss_rate, is_of_many: true });
        let guess = Guess { since: self.rto_start, is_of_many: true, ..first }; // all, and their probe
        let segments = self.board.mark_lost_on_timeout(now, self.rack_limit());
        // Within another episode, and where some was held, it is known by now: what the timer finds is lost.
        self.guessed = Some(guess).filter(|_| is_silent);
        let remaining = self.settle_losses(now, segments);
        let is_first = self.episode.is_none_or(|e| e.cause == Cause::Fast) || self.backoff == 1;
        if is_first || (remaining > 0 && !self.reduced) {
            // The peer has answered, if only with reports: nothing of this says that the path is jammed.
            self.reduced = remaining > 0 || segments == 0;
            if self.reduced {
                self.cc.on_retransmission_timeout(now, &event);
                self.ecn.on_reduction(self.nxt);
                self.ecn.on_timeout();
            }
            self.begin(now, Cause::Timeout, None);
        }
        self.rto_start = now;
        self.timeout_due = self.board.has_lost();
    }

    /// The controller takes its answer back. What this ACK tells may be none of what it watches from now on.
    pub(super) fn tell_spurious(&mut self, now: Time) {
        self.cc.on_spurious(now);
        self.board.watch(self.cc.watch());
    }

    /// Segments have become smaller because larger ones vanish: those in flight leave anew. What was learned
    /// from their loss since the hole began gives way to what was known before, the loss rate and the window, and
    /// no late ACK puts it back.
    pub(super) fn recut(&mut self, now: Time, hole: Option<(Time, LossRate)>) {
        let fin = self.fin_queued.then(|| self.end());
        self.lost += self.board.mark_longer_lost(self.mss as u64, fin);
        if let Some((since, rate)) = hole {
            self.loss_rate = rate;
            if self.undo.is_some_and(|undo| undo.began >= since) {
                self.episode = None;
                self.tell_spurious(now);
                // The path was idle meanwhile: the window opens again step by step, not in one burst.
                self.cc.on_idle_restart(now, now - since, self.rto());
            }
        }
        self.undo = None;
        self.probe_due = false;
        self.backoff = 0;
        self.timeout_due = self.board.has_lost();
        self.rto_start = now;
        self.arm_loss_timer(now);
    }

    /// A copy leaves; if the last round trip brought no answer, what it took of an earlier one was lost.
    pub(super) fn note_copy(&mut self, now: Time) {
        if now - self.last_heard.max(self.flight_began) > self.pto() {
            self.loss_rate.on_lost(1);
        }
    }

    /// Segments of the present size whose packets weigh as much as the initial window's.
    fn initial_flight(&self) -> u32 {
        let packet = |len: u64| len + PACKET_HEADERS as u64; // what the link carries
        let segments = self.initial_window() / self.mss as u64;
        let bytes = segments * packet(self.mss as u64);
        u32::try_from(bytes / packet(self.size.payload() as u64)).unwrap_or(u32::MAX).max(1)
    }

    /// When the next copy of a last segment is due: with nothing new to send or no room for it, a lossy path and at
    /// most two initial windows undelivered, each last segment is sent as often per round trip as its loss is worth.
    /// (Deviates from RFC 6298 5.4, one retransmission per timeout.)
    pub(super) fn copy_due(&self) -> Option<Time> {
        let outstanding = self.board.outstanding_segments() as u32;
        let copies = self.loss_rate.worthwhile_copies_of(outstanding);
        if copies < 2
            || outstanding == 0
            || self.liveness.asks_alone()
            || self.nxt < self.end() && !self.is_held_by_window()
            || self.board.undelivered() > 2 * self.initial_window()
        {
            return None;
        }
        let round_trip = self.round_trip();
        if round_trip.is_zero() {
            return None;
        }
        let gap =
            (round_trip / copies.saturating_mul(outstanding).min(self.initial_flight())).max(COPY_GAP_MIN);
        let silence = self.last_sent - self.last_heard.max(self.flight_began);
        let slower = silence.as_secs_f64() / (2 * round_trip + COPIES_INTO_SILENCE).as_secs_f64();
        Some(self.last_sent + gap.mul_f64(slower.max(1.0)))
    }
}
