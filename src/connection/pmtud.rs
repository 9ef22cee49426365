//! Path-MTU discovery of the packetization layer (RFC 8899): PROBEs search upward, ECHOs confirm; where large
//! segments vanish and small ones arrive, back to the base.
//!
//! A PROBE takes no sequence space and is not in flight, so that its loss is nothing but a hint of size. ICMP
//! is not listened to: anyone may forge it (RFC 5927), and half the paths do not send it.

use std::time::Duration;

use super::loss_rate::LossRate;
use super::sent::Delivery;
use super::{Connection, PathMtu};
use crate::time::Time;
use crate::wire::{Segment, ext_flags};

/// BASE_PLPMTU (RFC 8899 5.1.2): the UDP payload that every path is expected to carry.
pub(super) const BASE: usize = 1200;
/// A search that has come this near to the largest size that passes has come near enough.
const RESOLUTION: usize = 16;
/// PROBE_TIMER must not be shorter (RFC 8899 5.1.1).
const PROBE_TIMER_MIN: Duration = Duration::from_secs(1);
/// PMTU_RAISE_TIMER (RFC 8899 5.1.1): how long a finished search holds.
const RAISE_TIMER: Duration = Duration::from_secs(600);
/// In a black hole so many retransmission timeouts pass before the size is blamed.
const HOLE_TIMEOUTS: u32 = 2;

/// The size in use, the search for a larger one, and the watch over those that vanish.
#[derive(Debug)]
pub(super) struct Pmtud {
    /// UDP payload in use, bytes.
    size: usize,
    /// Where a search ends. Not above `size` from the beginning: there is nothing to search.
    ceiling: usize,
    /// Payload of a segment in a datagram of [`BASE`] bytes.
    base_payload: u64,
    /// Smallest size taken to be too large.
    too_large: usize,
    /// The first candidate of this search, the largest, has failed.
    is_narrowed: bool,
    candidate: Option<Candidate>,
    /// When the search goes on. Counts only while data flows.
    timer: Option<Time>,
    hole: Option<Hole>,
    fallbacks: u32,
    seed: u64,
    /// PROBEs made so far.
    probes: u64,
}

/// A size under test.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    size: usize,
    /// Number of its first PROBE.
    first: u64,
    sent_at: Option<Time>,
    lost: u32,
}

/// No segment above the base has been delivered since.
#[derive(Clone, Copy, Debug)]
struct Hole {
    since: Time,
    /// Such segments sent.
    misses: u32,
    /// The loss rate when it began: what the hole itself takes is no property of the path.
    rate: LossRate,
    timeouts: u32,
    /// Number of the first PROBE of the base size, once there is one.
    first: Option<u64>,
    is_probe_due: bool,
    /// The path carries the base size: a PROBE of it was answered.
    is_path_alive: bool,
}

impl Hole {
    fn is_beyond_chance(&self) -> bool {
        self.misses >= self.rate.verdict()
    }
}

impl Pmtud {
    /// `size` is used as it is until [`Self::search`].
    pub(super) const fn new(size: usize, seed: u64) -> Self {
        Self {
            size,
            ceiling: 0,
            base_payload: u64::MAX,
            too_large: 0,
            is_narrowed: false,
            candidate: None,
            timer: None,
            hole: None,
            fallbacks: 0,
            seed,
            probes: 0,
        }
    }

    /// What both ends take is known, and the peer answers PROBEs: up to `ceiling` from now on.
    fn search(&mut self, now: Time, ceiling: usize, base_payload: usize) {
        self.ceiling = ceiling;
        self.base_payload = base_payload as u64;
        self.restart(ceiling + 1);
        self.timer = self.next_size().map(|_| now);
    }

    fn restart(&mut self, too_large: usize) {
        self.too_large = too_large;
        self.is_narrowed = false;
        self.candidate = None;
    }

    /// The largest first, for most paths carry it; then halves.
    fn next_size(&self) -> Option<usize> {
        if self.too_large <= self.size + RESOLUTION {
            return None;
        }
        Some(if self.is_narrowed { usize::midpoint(self.size, self.too_large) } else { self.too_large - 1 })
    }

    /// On to the next candidate; without one, until the path may have changed for the better.
    fn advance(&mut self, now: Time) {
        self.timer = None;
        self.candidate =
            self.next_size().map(|size| Candidate { size, first: self.probes, sent_at: None, lost: 0 });
        if self.candidate.is_none() {
            self.restart(self.ceiling + 1);
            self.timer = self.next_size().map(|_| now + RAISE_TIMER);
        }
    }

    /// Data flows and the timer may be due. A PROBE counts as lost only if the peer was `heard` since: an
    /// outage says nothing of sizes.
    fn handle_timeout(&mut self, now: Time, heard: Time, verdict: u32) {
        if self.timer.is_none_or(|at| at > now) {
            return;
        }
        self.timer = None;
        let Some(candidate) = &mut self.candidate else { return self.advance(now) };
        candidate.lost += u32::from(candidate.sent_at.take().is_some_and(|sent_at| heard > sent_at));
        if candidate.lost >= verdict {
            self.too_large = candidate.size;
            self.is_narrowed = true;
            self.advance(now);
        }
    }

    /// `is_flowing`: the search may go on; the watch may always.
    fn wants_probe(&self, is_flowing: bool) -> bool {
        let is_unsent = |c: Candidate| c.sent_at.is_none() && self.timer.is_none();
        (is_flowing && self.candidate.is_some_and(is_unsent))
            || self.hole.is_some_and(|hole| hole.is_probe_due)
    }

    /// One of the PROBEs that are wanted: its size and nonce. `wait`: how long its ECHO may take.
    fn take_probe(&mut self, now: Time, wait: Duration) -> Option<(usize, [u8; 8])> {
        let number = self.probes;
        let size = match &mut self.hole {
            Some(hole) if hole.is_probe_due => {
                hole.is_probe_due = false;
                hole.first.get_or_insert(number);
                BASE
            }
            _ => {
                let candidate = self.candidate.as_mut()?;
                candidate.sent_at = Some(now);
                self.timer = Some(now + wait);
                candidate.size
            }
        };
        self.probes += 1;
        Some((size, self.nonce(size, number)))
    }

    #[cfg(test)]
    pub(super) const fn probes(&self) -> u64 {
        self.probes
    }

    /// SplitMix64 over the ISN and the timestamp offset, both keyed secrets: off the path nobody can guess it,
    /// on the path nobody needs to. (A peer that could would deceive itself: what it says has passed is sent.)
    fn nonce(&self, size: usize, number: u64) -> [u8; 8] {
        let step = (number << 16) | size as u64; // sizes are below 2^16
        let mut z = self.seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_be_bytes()
    }

    /// An ECHO; true: the size under test passes and is in use. A late one, of an earlier try, is as good.
    fn on_echo(&mut self, now: Time, nonce: [u8; 8]) -> bool {
        let is_from = |first: u64, size| (first..self.probes).any(|n| self.nonce(size, n) == nonce);
        if let Some(candidate) = self.candidate
            && is_from(candidate.first, candidate.size)
        {
            self.size = candidate.size;
            self.advance(now);
            return true;
        }
        let is_alive = self.hole.and_then(|hole| hole.first).is_some_and(|first| is_from(first, BASE));
        if let Some(hole) = self.hole.as_mut().filter(|_| is_alive) {
            hole.is_path_alive = true;
        }
        false
    }

    /// `len` bytes of the stream leave.
    pub(super) fn on_sent(&mut self, now: Time, len: u64, rate: LossRate) {
        if len > self.base_payload {
            let hole = self.hole.get_or_insert(Hole {
                since: now,
                misses: 0,
                rate,
                timeouts: 0,
                first: None,
                is_probe_due: false,
                is_path_alive: false,
            });
            hole.misses += 1;
        }
    }

    /// Large segments are not sent any more, and that they did not arrive had another cause.
    pub(super) fn forget_hole(&mut self) {
        self.hole = None;
    }

    /// True: smaller segments sent since then arrive, and for two RTOs no large one has.
    pub(super) fn on_delivered(&mut self, delivery: &Delivery, rto: Duration) -> bool {
        // A segment with the FIN counts one byte more than it carries.
        if delivery.longest > self.base_payload.saturating_add(1) {
            self.hole = None;
        }
        self.hole.is_some_and(|hole| {
            let is_newer = delivery.rated.is_some_and(|sent| sent.sent_at > hole.since + rto);
            is_newer && delivery.now - hole.since >= HOLE_TIMEOUTS * rto && hole.is_beyond_chance()
        })
    }

    /// The retransmission timer fired. The path is asked whether it carries small datagrams. True: it did, and
    /// still no large segment has arrived.
    fn on_timeout(&mut self) -> bool {
        let Some(hole) = &mut self.hole else { return false };
        hole.timeouts += 1;
        // While chance explains the losses the question is not worth a datagram.
        hole.is_probe_due = hole.is_beyond_chance();
        hole.is_path_alive && hole.timeouts >= HOLE_TIMEOUTS && hole.is_beyond_chance()
    }

    /// To the base; after a pause a search up to the size that failed, beginning with it, as it may yet have
    /// been an outage. Returns the loss rate before the hole.
    fn fall_back(&mut self, now: Time, pause: Duration) -> Option<LossRate> {
        if self.size > BASE {
            self.restart(self.size + 1);
        }
        self.size = BASE;
        self.timer = Some(now + (pause * 2u32.pow(self.fallbacks.min(16))).min(RAISE_TIMER));
        self.fallbacks = self.fallbacks.saturating_add(1);
        self.hole.take().map(|hole| hole.rate)
    }
}

impl Connection {
    /// UDP payload in use, bytes.
    pub(super) fn datagram_size(&self) -> usize {
        self.snd.pmtud.size
    }

    /// The terms are known: so are the sizes both ends take.
    pub(super) fn adopt_datagram_size(&mut self, now: Time) {
        let most = usize::from(self.terms.peer_mss) + 20;
        let pmtud = &mut self.snd.pmtud;
        pmtud.size = pmtud.size.min(most);
        // A plain peer answers no PROBEs; a size that was asked for is not searched for.
        if self.terms.extension && self.config.mtu == PathMtu::Discover && pmtud.size == BASE {
            let ceiling = most.min(self.config.max_receive_datagram);
            pmtud.search(now, ceiling, self.terms.segment_payload(BASE));
        }
    }

    /// Who sends less than a segment at a time gains nothing by larger ones, and idle connections sleep.
    fn is_data_flowing(&self) -> bool {
        self.established
            && self.opening.is_confirmed
            && self.state.may_transmit_data()
            && !self.snd.size.is_limited()
            && self.snd.board.undelivered() >= self.snd.mss as u64
    }

    pub(super) fn path_deadline(&self) -> Option<Time> {
        self.snd.pmtud.timer.filter(|_| self.is_data_flowing())
    }

    pub(super) fn handle_path_timeout(&mut self, now: Time) {
        if self.is_data_flowing() {
            let verdict = self.snd.loss_rate.verdict();
            self.snd.pmtud.handle_timeout(now, self.snd.last_heard, verdict);
        }
    }

    /// A PROBE of the path is due.
    pub(super) fn wants_path_probe(&self) -> bool {
        self.state.may_transmit_data() && self.snd.pmtud.wants_probe(self.is_data_flowing())
    }

    pub(super) fn take_path_probe(&mut self, now: Time) -> Option<(usize, [u8; 8])> {
        if !self.wants_path_probe() {
            return None;
        }
        let wait = self.probe_timer();
        self.snd.pmtud.take_probe(now, wait)
    }

    fn probe_timer(&self) -> Duration {
        (3 * self.snd.pto()).max(PROBE_TIMER_MIN)
    }

    pub(super) fn hear_echo(&mut self, now: Time, segment: &Segment<'_>) {
        let echo = segment.options.ext.filter(|ext| ext.flags & ext_flags::ECHO != 0);
        let nonce =
            echo.filter(|_| segment.is_probe_or_echo() && self.keys.is_some()).and_then(|ext| ext.nonce());
        if let Some(nonce) = nonce
            && self.snd.pmtud.on_echo(now, nonce)
        {
            log::debug!("{} the path carries {} bytes", self.identity, self.datagram_size());
            self.set_payload(self.terms.segment_payload(self.datagram_size()));
        }
    }

    pub(super) fn watch_black_hole(&mut self, now: Time) {
        if self.snd.pmtud.on_timeout() {
            self.leave_black_hole(now);
        }
    }

    /// RFC 8899 4.3. What is in flight and too large is cut anew, at once; it was not lost to congestion.
    pub(super) fn leave_black_hole(&mut self, now: Time) {
        log::debug!("{} {} bytes do not pass any more", self.identity, self.datagram_size());
        let pause = self.probe_timer();
        let rate = self.snd.pmtud.fall_back(now, pause);
        self.set_payload(self.terms.segment_payload(BASE));
        self.snd.recut(now, rate);
    }
}
