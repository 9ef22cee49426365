//! Path-MTU discovery of the packetization layer (RFC 8899): probes search upward, answers confirm; where large
//! segments vanish and small ones arrive, back to a size that passes.
//!
//! A peer with our extension is asked by PROBEs and answers with ECHOs; a plain one with SACK gets bytes it has
//! already acknowledged, and answers with a D-SACK (RFC 2883). Neither takes sequence space or is in flight, so
//! that its loss is nothing but a hint of size. ICMP is not listened to: anyone may forge it (RFC 5927), and half
//! the paths do not send it.

use std::time::Duration;

use super::loss_rate::LossRate;
use super::nonce::Nonces;
use super::sent::Delivery;
use super::{Connection, PathMtu};
use crate::time::Time;
use crate::wire::{Segment, ext_flags};

mod rest;
pub(super) use rest::Rested;

/// BASE_PLPMTU (RFC 8899 5.1.2): the UDP payload that every path is expected to carry.
pub(super) const BASE: usize = 1200;
/// MIN_PLPMTU (RFC 8899 5.1.2): a 576-byte IPv4 packet (RFC 791), for paths that disappoint.
const MIN: usize = 548;
/// What is fallen back to, the largest below the size in use that is known to pass.
const RUNGS: [usize; 2] = [BASE, MIN];
/// A search that has come this near to the largest size that passes has come near enough.
const RESOLUTION: usize = 16;
/// PROBE_TIMER must not be shorter (RFC 8899 5.1.1).
const PROBE_TIMER_MIN: Duration = Duration::from_secs(1);
/// PMTU_RAISE_TIMER (RFC 8899 5.1.1): how long a finished search holds.
const RAISE_TIMER: Duration = Duration::from_secs(600);
/// In a black hole so many retransmission timeouts pass before the size is blamed.
const HOLE_TIMEOUTS: u32 = 2;

/// How the peer can be asked whether a size has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// Not to be asked: the size was asked for by the user, or the peer is not known yet.
    Never,
    /// It has neither our extension nor SACK: only what arrives tells.
    Trial,
    /// D-SACKs of bytes sent again.
    Duplicates,
    /// ECHOs of PROBEs.
    Echoes,
}

/// What asks the peer about a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A PROBE that makes the datagram `size` bytes long.
    Probe {
        /// UDP payload, bytes.
        size: usize,
        /// Comes back in the ECHO.
        nonce: [u8; 8],
    },
    /// Acknowledged bytes again, for a D-SACK of just these.
    Duplicate {
        /// First byte.
        start: u64,
        /// Sequence number after the last.
        end: u64,
    },
}

/// The size in use, the search for a larger one, and the watch over those that vanish.
#[derive(Debug)]
pub(super) struct Pmtud {
    /// UDP payload in use, bytes.
    size: usize,
    means: Means,
    /// Where a search ends. Not above `size` from the beginning: there is nothing to search.
    ceiling: usize,
    /// TCP header and options of a data segment.
    header: usize,
    /// Smallest size taken to be too large.
    too_large: usize,
    /// The first candidate of this search, the largest, has failed.
    is_narrowed: bool,
    candidate: Option<Candidate>,
    /// When the search goes on. Counts only while data flows.
    timer: Option<Time>,
    hole: Option<Hole>,
    fallbacks: u32,
    nonces: Nonces,
    /// Questions made so far.
    probes: u64,
}

/// A size under test.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    size: usize,
    /// Number of its first question.
    first: u64,
    /// The bytes last sent again for it.
    duplicate: Option<(u64, u64)>,
    sent_at: Option<Time>,
    lost: u32,
}

/// No segment above the rung below the size in use has been delivered since.
#[derive(Clone, Copy, Debug)]
struct Hole {
    since: Time,
    /// Such segments sent.
    misses: u32,
    /// The loss rate when it began: what the hole itself takes is no property of the path.
    rate: LossRate,
    timeouts: u32,
    /// Number of its first question, once there is one.
    first: Option<u64>,
    /// The rungs from here on are still to be asked about.
    next_rung: usize,
    /// The bytes last sent again for each rung.
    duplicates: [Option<(u64, u64)>; RUNGS.len()],
    /// The largest rung that the path carries: a question of that size was answered.
    alive: Option<usize>,
}

impl Hole {
    const fn new(since: Time, rate: LossRate) -> Self {
        let (next_rung, duplicates) = (RUNGS.len(), [None; RUNGS.len()]);
        Self { since, misses: 0, rate, timeouts: 0, first: None, next_rung, duplicates, alive: None }
    }

    fn is_beyond_chance(&self) -> bool {
        self.misses >= self.rate.verdict()
    }
}

impl Pmtud {
    /// UDP payload in use, bytes.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Acknowledged bytes that questions may repeat.
    pub(super) fn bytes_to_keep(&self) -> usize {
        if self.means == Means::Duplicates { self.ceiling } else { 0 }
    }

    /// What both ends take, and how the peer can be asked, is known: up to `ceiling` from now on.
    fn search(&mut self, now: Time, means: Means, ceiling: usize, header: usize) {
        self.means = means;
        self.ceiling = if means == Means::Trial { self.size } else { ceiling };
        self.header = header;
        self.restart(self.ceiling + 1);
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
        if self.next_size().is_none() && !self.is_narrowed && self.too_large <= self.ceiling {
            self.restart(self.ceiling + 1); // the size that failed passes again: it is no limit
        }
        let (first, duplicate) = (self.probes, None);
        self.candidate =
            self.next_size().map(|size| Candidate { size, first, duplicate, sent_at: None, lost: 0 });
        if self.candidate.is_none() {
            self.restart(self.ceiling + 1);
            self.timer = self.next_size().map(|_| now + RAISE_TIMER);
        }
    }

    /// The candidate passes.
    fn adopt(&mut self, now: Time, size: usize) {
        self.size = size;
        self.hole = None; // what was large for the old size need not be for this one
        self.advance(now);
    }

    /// Data flows and the timer may be due. A question counts as lost only if the peer was `heard` since: an
    /// outage says nothing of sizes. True: the size has changed.
    fn handle_timeout(&mut self, now: Time, heard: Time, verdict: u32) -> bool {
        if self.timer.is_none_or(|at| at > now) {
            return false;
        }
        self.timer = None;
        if self.candidate.is_none() {
            self.advance(now);
        }
        let Some(candidate) = &mut self.candidate else { return false };
        let size = candidate.size;
        if self.means == Means::Trial {
            self.adopt(now, size);
            return true;
        }
        candidate.lost += u32::from(candidate.sent_at.take().is_some_and(|sent_at| heard > sent_at));
        if candidate.lost >= verdict {
            self.too_large = size;
            self.is_narrowed = true;
            self.advance(now);
        }
        false
    }

    /// The peer can be asked about `size`; `kept`: acknowledged bytes that we still have.
    fn may_ask(&self, size: usize, kept: usize) -> bool {
        match self.means {
            Means::Never | Means::Trial => false,
            Means::Duplicates => (1..=kept).contains(&size.saturating_sub(self.header)),
            Means::Echoes => true,
        }
    }

    /// The size to ask about now. `is_flowing`: the search may go on; the watch may always.
    fn wanted(&self, is_flowing: bool, kept: usize) -> Option<usize> {
        let rung = self.hole.and_then(|hole| RUNGS.get(hole.next_rung).copied());
        let is_unsent = |c: &Candidate| is_flowing && c.sent_at.is_none() && self.timer.is_none();
        let candidate = self.candidate.filter(is_unsent).map(|c| c.size);
        [rung, candidate].into_iter().flatten().find(|size| self.may_ask(*size, kept))
    }

    /// One of the questions that are wanted. `una`: everything before is acknowledged; `wait`: how long the
    /// answer may take.
    fn ask(&mut self, now: Time, size: usize, una: u64, wait: Duration) -> Question {
        let number = self.probes;
        self.probes += 1;
        let duplicate = (una.saturating_sub((size - self.header) as u64), una);
        match &mut self.hole {
            Some(hole) if RUNGS.get(hole.next_rung) == Some(&size) => {
                hole.duplicates[hole.next_rung] = Some(duplicate);
                hole.next_rung += 1;
                hole.first.get_or_insert(number);
            }
            _ => {
                if let Some(candidate) = &mut self.candidate {
                    candidate.sent_at = Some(now);
                    candidate.duplicate = Some(duplicate);
                    self.timer = Some(now + wait);
                }
            }
        }
        if self.means == Means::Duplicates {
            Question::Duplicate { start: duplicate.0, end: duplicate.1 }
        } else {
            Question::Probe { size, nonce: self.nonce(size, number) }
        }
    }

    #[cfg(test)]
    pub(super) const fn probes(&self) -> u64 {
        self.probes
    }

    fn nonce(&self, size: usize, number: u64) -> [u8; 8] {
        self.nonces.make(size as u16, number) // sizes are below 2^16
    }

    /// An ECHO; true: the size under test passes and is in use. A late one, of an earlier try, is as good.
    fn on_echo(&mut self, now: Time, nonce: [u8; 8]) -> bool {
        let is_from = |first: u64, size| (first..self.probes).any(|n| self.nonce(size, n) == nonce);
        if let Some(candidate) = self.candidate
            && is_from(candidate.first, candidate.size)
        {
            self.adopt(now, candidate.size);
            return true;
        }
        let first = self.hole.and_then(|hole| hole.first);
        let rung = first.and_then(|first| RUNGS.into_iter().find(|size| is_from(first, *size)));
        self.note_alive(rung);
        false
    }

    /// The peer has got `start..end` twice. None: not because we asked; otherwise as for an ECHO.
    pub(super) fn on_duplicate(&mut self, now: Time, start: u64, end: u64) -> Option<bool> {
        let reported = Some((start, end));
        if let Some(candidate) = self.candidate.filter(|c| c.duplicate == reported) {
            self.adopt(now, candidate.size);
            return Some(true);
        }
        let index = self.hole?.duplicates.iter().position(|asked| *asked == reported)?;
        self.note_alive(Some(RUNGS[index]));
        Some(false)
    }

    fn note_alive(&mut self, rung: Option<usize>) {
        if let Some(hole) = &mut self.hole {
            hole.alive = hole.alive.max(rung);
        }
    }

    /// What to fall back to from the size in use.
    fn rung_below(&self) -> Option<usize> {
        RUNGS.into_iter().find(|rung| self.means != Means::Never && *rung < self.size)
    }

    /// Segments with more bytes of the stream than this are watched.
    fn watched_above(&self) -> u64 {
        self.rung_below().map_or(u64::MAX, |rung| rung.saturating_sub(self.header) as u64)
    }

    /// `count` segments of `len` bytes of the stream leave.
    pub(super) fn on_sent(&mut self, now: Time, len: u64, count: u32, rate: LossRate) {
        if len > self.watched_above() {
            self.hole.get_or_insert(Hole::new(now, rate)).misses += count;
        }
    }

    /// Large segments are not sent any more, and that they did not arrive had another cause.
    pub(super) fn forget_hole(&mut self) {
        self.hole = None;
    }

    /// True: smaller segments sent since then arrive, and for two RTOs no large one has.
    pub(super) fn on_delivered(&mut self, delivery: &Delivery, rto: Duration) -> bool {
        // A segment with the FIN counts one byte more than it carries.
        if delivery.longest > self.watched_above().saturating_add(1) {
            self.hole = None;
        }
        self.hole.is_some_and(|hole| {
            let is_newer = delivery.rated.is_some_and(|sent| sent.sent_at > hole.since + rto);
            is_newer && delivery.now - hole.since >= HOLE_TIMEOUTS * rto && hole.is_beyond_chance()
        })
    }

    /// The retransmission timer fired. The path is asked whether it carries small datagrams. True: it did, or
    /// cannot be asked, and still no large segment has arrived.
    fn on_timeout(&mut self, kept: usize) -> bool {
        let may_ask = self.may_ask(MIN, kept);
        let first_rung = RUNGS.iter().position(|rung| *rung < self.size && self.may_ask(*rung, kept));
        let Some(hole) = &mut self.hole else { return false };
        hole.timeouts += 1;
        // While chance explains the losses the question is not worth a datagram.
        if !hole.is_beyond_chance() {
            return false;
        }
        hole.next_rung = first_rung.unwrap_or(RUNGS.len());
        (hole.alive.is_some() || !may_ask) && hole.timeouts >= HOLE_TIMEOUTS
    }

    /// To the largest rung known to pass, or the next one; after a pause a search up to the size that failed,
    /// beginning with it, as it may yet have been an outage. Returns the hole.
    fn fall_back(&mut self, now: Time, pause: Duration) -> Option<Hole> {
        let hole = self.hole.take();
        if let Some(rung) = hole.and_then(|hole| hole.alive).filter(|r| *r < self.size).or(self.rung_below())
        {
            self.restart(self.size + 1);
            self.size = rung;
        }
        self.timer = Some(now + (pause * 2u32.pow(self.fallbacks.min(16))).min(RAISE_TIMER));
        self.fallbacks = self.fallbacks.saturating_add(1);
        hole
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
        if self.config.mtu != PathMtu::Discover {
            return; // a size that was asked for is not searched for
        }
        let means = match (self.terms.extension, self.terms.sack) {
            (true, _) => Means::Echoes,
            (false, true) => Means::Duplicates,
            (false, false) => Means::Trial,
        };
        let ceiling = most.min(self.config.max_receive_datagram);
        pmtud.search(now, means, ceiling, 20 + self.terms.data_options_len());
        self.snd.buffer.keep(self.snd.pmtud.bytes_to_keep());
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
        let verdict = self.snd.loss_rate.verdict();
        if self.is_data_flowing() && self.snd.pmtud.handle_timeout(now, self.snd.last_heard, verdict) {
            self.take_datagram_size();
        }
    }

    fn wanted_size(&self) -> Option<usize> {
        let kept = self.snd.buffer.kept();
        self.state.may_transmit_data().then(|| self.snd.pmtud.wanted(self.is_data_flowing(), kept))?
    }

    /// A question to the path is due.
    pub(super) fn wants_path_probe(&self) -> bool {
        self.wanted_size().is_some()
    }

    pub(super) fn take_path_probe(&mut self, now: Time) -> Option<Question> {
        let size = self.wanted_size()?;
        let wait = self.probe_timer();
        Some(self.snd.pmtud.ask(now, size, self.snd.buffer.base(), wait))
    }

    /// The size in use has changed, and nothing that is in flight needs to.
    pub(super) fn take_datagram_size(&mut self) {
        log::debug!("{} datagrams of {} bytes", self.identity, self.datagram_size());
        self.set_payload(self.terms.segment_payload(self.datagram_size()));
    }

    fn probe_timer(&self) -> Duration {
        (3 * self.snd.pto()).max(PROBE_TIMER_MIN)
    }

    /// What an ECHO says, if `segment` is one.
    pub(super) fn echoed_nonce(&self, segment: &Segment<'_>) -> Option<[u8; 8]> {
        let echo = segment.options.ext.filter(|ext| ext.flags & ext_flags::ECHO != 0)?;
        if segment.is_probe_or_echo() && self.keys.is_some() { echo.nonce() } else { None }
    }

    pub(super) fn hear_echo(&mut self, now: Time, segment: &Segment<'_>) {
        if let Some(nonce) = self.echoed_nonce(segment)
            && self.snd.pmtud.on_echo(now, nonce)
        {
            self.take_datagram_size();
        }
    }

    pub(super) fn watch_black_hole(&mut self, now: Time) {
        if self.snd.pmtud.on_timeout(self.snd.buffer.kept()) {
            self.leave_black_hole(now);
        }
    }

    /// RFC 8899 4.3. What is in flight and too large is cut anew, at once; it was not lost to congestion.
    pub(super) fn leave_black_hole(&mut self, now: Time) {
        log::debug!("{} {} bytes do not pass any more", self.identity, self.datagram_size());
        let pause = self.probe_timer();
        let hole = self.snd.pmtud.fall_back(now, pause);
        self.take_datagram_size();
        self.snd.recut(now, hole.map(|hole| (hole.since, hole.rate)));
    }
}
