//! What an ACK says of our data: what arrived and how it got there, what is lost, what the controller is told.

use std::time::Duration;

use super::congestion::AckSample;
use super::resent::Why;
use super::sender::{Cause, Found, Sender};
use super::sent::Delivery;
use crate::time::Time;

/// What an ACK did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AckEffect {
    /// SND.UNA advanced.
    pub(super) advanced: bool,
    /// Bytes newly delivered, SACKed ones included.
    pub(super) delivered: u64,
    /// Small segments arrive, large ones do not.
    pub(super) black_hole: bool,
    /// A larger datagram was reported as arrived.
    pub(super) grew: bool,
}

impl Sender {
    /// An acceptable ACK with its SACK blocks (unwrapped); `echo_ms`: TSecr as a tick of our clock.
    pub(super) fn on_ack(
        &mut self,
        now: Time,
        ack: u64,
        blocks: &[(u64, u64)],
        echo_ms: Option<u64>,
    ) -> AckEffect {
        let prior_in_flight = self.board.in_flight();
        self.board.watch(self.cc.watch());
        let duplicate = blocks.first().filter(|_| is_dsack(ack, blocks));
        // A duplicate that we sent to learn the path's MTU tells nothing else.
        let asked = duplicate.and_then(|(start, end)| self.pmtud.on_duplicate(now, *start, *end));
        let duplicate = duplicate.copied().filter(|_| asked.is_none());
        let why = duplicate.and_then(|(start, end)| self.resent.on_duplicate(start, end));
        let mut delivery = self.board.delivery(now, self.rtt.min_rtt(), echo_ms);
        delivery.round_trip = self.rtt.srtt();
        let advanced = ack > self.una;
        let prior_una = self.una;
        if advanced {
            self.board.acknowledge(ack, &mut delivery);
            self.buffer.acknowledge(ack);
            self.una = ack;
        }
        let acknowledged = delivery.bytes;
        delivery.beyond_hole();
        for &(start, end) in blocks {
            // Blocks outside (SND.UNA, SND.NXT] are D-SACKs, stale or lies.
            if start > self.una && start < end && end <= self.nxt {
                self.board.sack(start, end, &mut delivery);
            }
        }
        if why == Some(Why::Overtaken) {
            // Beyond RFC 8985 6.2 step 3: a late original that was sent again meanwhile no longer shows that it
            // was overtaken, but the D-SACK of its retransmission does.
            self.rack.reordering_seen = true;
            self.rack.on_dsack(self.una, self.nxt);
        }
        if advanced {
            self.check_guess(echo_ms, blocks.is_empty());
        }
        let mut black_hole = false;
        if delivery.bytes > 0 {
            // RFC 7323 section 4.3: out of order, the echo is that of the last segment in order, long ago.
            let is_in_order = advanced && delivery.bytes == acknowledged;
            if duplicate.is_some() || self.liveness.hears_aside {
                delivery.rtt = None;
            }
            self.on_delivery(now, &delivery, echo_ms.filter(|_| is_in_order), duplicate.is_some());
            black_hole = self.pmtud.on_delivered(&delivery, self.rto());
        }
        self.detect_spurious(now, prior_una, why, echo_ms, &delivery);
        let found = self.detect_losses(now);
        self.finish_probe(now, duplicate, echo_ms);
        self.leave_recovery(now);
        if delivery.bytes > 0 || found.bytes() > 0 {
            self.report(now, &delivery, prior_in_flight, found, advanced);
        }
        if advanced || delivery.bytes > 0 {
            self.rto_start = now; // RFC 6298 5.3
        }
        self.arm_loss_timer(now);
        AckEffect { advanced, delivered: delivery.bytes, black_hole, grew: asked == Some(true) }
    }

    /// `answers_duplicate`: what is delivered now arrived long ago, its own ACK was lost: no round trip.
    fn on_delivery(&mut self, now: Time, delivery: &Delivery, echo_ms: Option<u64>, answers_duplicate: bool) {
        if answers_duplicate || self.liveness.hears_aside {
            // neither the record, as `delivery` knows, nor the echoed timestamp tells when the ACK was caused
        } else if let Some(rtt) = delivery.rtt {
            // Samples per round trip: as many as ACKs like this one. The peer may stretch them.
            let flight = self.board.undelivered() + delivery.bytes;
            let expected = u32::try_from(flight / delivery.bytes.max(1)).unwrap_or(u32::MAX);
            self.rtt.on_sample_among(rtt, expected);
            self.recent_rtt.on_sample(rtt);
            self.lag.on_sample();
        } else if let Some(echo) = echo_ms {
            // Karn leaves retransmissions out; their timestamps tell to a millisecond (RFC 7323 section 4). If
            // the first ACK was lost, it is not a round trip but an outage: no more than the timer waited for.
            let measured = Duration::from_millis(now.as_millis().saturating_sub(echo).max(1));
            self.rtt.on_sample(measured.min(self.rto()));
            self.lag.on_sample();
        }
        if let Some(newest) = &delivery.newest {
            self.rack.on_delivered(now, newest);
        }
        self.rack.reordering_seen |= delivery.reordered;
        self.size.on_intact(delivery.segments, delivery.bytes);
        self.note_delivered(now, delivery.segments);
        self.loss_rate.on_lost(delivery.copies_lost);
        self.note_path_answer(now);
        self.backoff = 0;
        self.ecn.on_delivered(delivery, self.mss as u64);
    }

    fn report(&mut self, now: Time, delivery: &Delivery, prior_in_flight: u64, found: Found, advanced: bool) {
        let rate = self.board.rate_sample(delivery);
        if self.cwnd_limited {
            self.limited_until = self.nxt;
        }
        let mut all = std::mem::take(&mut self.unreported);
        all += found;
        let sample = AckSample {
            newly_acked: delivery.bytes,
            newly_lost: all.lost,
            newly_corrupt: all.corrupt,
            acked_sent_at: delivery.latest.map_or(Time::ZERO, |(_, sent_at)| sent_at),
            watched: self.board.take_watched(),
            settled: self.board.oldest_outstanding().map_or(now, |sent| sent.sent_at),
            prior_in_flight,
            in_flight: self.board.in_flight(),
            rtt: delivery.rtt,
            srtt: self.rtt.srtt(),
            min_rtt: self.rtt.min_rtt(),
            delivered: self.board.delivered(),
            rate,
            in_recovery: (self.reduced && self.episode.is_some_and(|e| e.cause == Cause::Fast))
                || self.ecn.is_reducing(self.una),
            cwnd_limited: self.cwnd_limited || self.una < self.limited_until,
            snd_una: self.una,
            snd_nxt: self.nxt,
            newly_ce: self.ecn.take_news(),
        };
        self.cc.on_ack(now, &sample);
        self.repace(now);
        self.cwnd_limited = false;
        let (in_flight, mss) = (self.board.in_flight(), self.mss as u64);
        if let Some(prr) = self.episode.as_mut().and_then(|e| e.prr.as_mut()) {
            prr.on_ack(delivery.bytes, in_flight, advanced && found.bytes() == 0, mss);
        }
    }
}

/// RFC 2883 section 4: the first block reports a duplicate if the ACK or the second block covers it.
fn is_dsack(ack: u64, blocks: &[(u64, u64)]) -> bool {
    match blocks {
        [(_, end), ..] if *end <= ack => true,
        [(start, end), (outer_start, outer_end), ..] => outer_start <= start && end <= outer_end,
        _ => false,
    }
}
