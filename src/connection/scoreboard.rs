//! What is in flight: one record per segment and transmission, with its fate so far.

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::{Fates, RateSample, Watch};
use super::sent::{Delivery, Fate, Sent, Transmission};
use crate::time::Time;

mod check;
mod run;

/// Most records to move for the sake of one cut.
const SHIFT_MAX: usize = 64;

/// Segments from SND.UNA to SND.NXT, contiguous and in order.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    segments: VecDeque<Sent>,
    by_time: VecDeque<Transmission>,
    /// Starts of segments marked lost, oldest verdict first; may hold stale ones.
    lost: VecDeque<u64>,
    next_transmission: u64,
    in_flight: u64,
    sacked: u64,
    lost_bytes: u64,
    outstanding_segments: usize,
    /// Highest sequence number delivered (SND.FACK).
    highest: u64,
    delivered: u64,
    delivered_at: Time,
    first_sent_at: Time,
    watch: Watch,
    /// Fates of watched transmissions since [`Scoreboard::take_watched`].
    watched: Fates,
    /// Until `delivered` passes this, samples are limited by the application.
    app_limited_until: u64,
}

impl Scoreboard {
    /// As after `delivered` bytes, all acknowledged, up to `una`.
    pub(super) fn resume(una: u64, delivered: u64) -> Self {
        Self { highest: una, delivered, ..Self::default() }
    }

    pub(super) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) const fn sacked(&self) -> u64 {
        self.sacked
    }

    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) const fn has_lost(&self) -> bool {
        self.lost_bytes > 0
    }

    /// From here on, [`Self::take_watched`] counts the fates of what `watch` covers; what was counted of a watch that
    /// began elsewhere is none of its business.
    pub(super) fn watch(&mut self, watch: Watch) {
        if watch.after != self.watch.after {
            self.watched = Fates::default();
        }
        self.watch = watch;
    }

    /// What became known of the watched transmissions since the last call.
    pub(super) fn take_watched(&mut self) -> Fates {
        std::mem::take(&mut self.watched)
    }

    /// Segments sent and not yet acknowledged cumulatively.
    pub(super) fn records(&self) -> usize {
        self.segments.len()
    }

    /// Segments in flight.
    pub(super) const fn outstanding_segments(&self) -> usize {
        self.outstanding_segments
    }

    /// Bytes sent and not yet delivered: in flight or waiting to be sent again.
    pub(super) const fn undelivered(&self) -> u64 {
        self.in_flight + self.lost_bytes
    }

    /// The flight is now bounded by the application, not by the network.
    pub(super) fn set_app_limited(&mut self) {
        self.app_limited_until = (self.delivered + self.in_flight).max(1);
    }

    fn stamp(&mut self, sent: &mut Sent, now: Time) {
        if self.in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        sent.sent_at = now;
        sent.transmission = self.next_transmission;
        self.next_transmission += 1;
        sent.delivered = self.delivered;
        sent.delivered_at = self.delivered_at;
        sent.first_sent_at = self.first_sent_at;
        sent.is_app_limited = self.app_limited_until != 0;
        self.in_flight += sent.len();
        self.outstanding_segments += 1;
        sent.tx_in_flight = self.in_flight;
        self.by_time.push_back(Transmission { start: sent.start, id: sent.transmission, sent_at: now });
    }

    /// An empty collection for the ACK that arrives now.
    pub(super) const fn delivery(&self, now: Time, min_rtt: Duration, echo_ms: Option<u64>) -> Delivery {
        Delivery::new(now, min_rtt, echo_ms, self.highest)
    }

    /// New data (or the FIN) left.
    pub(super) fn on_sent(&mut self, start: u64, end: u64, now: Time) {
        if self.in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        self.on_run_sent(start, end - start, 1, now);
    }

    /// The segment at `start` left again. Returns how often it was sent.
    pub(super) fn on_retransmitted(&mut self, start: u64, now: Time) -> u16 {
        let Some(index) = self.find(start) else { return 0 };
        let mut sent = self.segments[index];
        match sent.fate {
            Fate::Outstanding => {
                self.in_flight -= sent.len();
                self.outstanding_segments -= 1;
            }
            Fate::Lost => self.lost_bytes -= sent.len(),
            Fate::Sacked => return sent.transmissions,
        }
        if sent.fate == Fate::Outstanding {
            sent.copies = sent.copies.saturating_add(1);
        } else {
            (sent.copies, sent.copied_since) = (0, now);
        }
        sent.fate = Fate::Outstanding;
        sent.transmissions = sent.transmissions.saturating_add(1);
        self.stamp(&mut sent, now);
        self.segments[index] = sent;
        sent.transmissions
    }

    /// Next segment to send again, its length at most `max` (a longer one is cut in two); the FIN that ends
    /// at `fin` is not counted.
    pub(super) fn next_lost(&mut self, max: u64, fin: Option<u64>) -> Option<(u64, u64)> {
        while let Some(&start) = self.lost.front() {
            match self.find(start) {
                Some(index) if self.segments[index].fate == Fate::Lost => {
                    self.split(index, max, fin);
                    return Some((start, self.find(start).map_or(start, |index| self.segments[index].end)));
                }
                _ => self.lost.pop_front(),
            };
        }
        None
    }

    /// What was lost leaves in the order of the stream, not of the losses.
    pub(super) fn sort_lost(&mut self) {
        self.lost.make_contiguous().sort_unstable();
    }

    fn split(&mut self, index: usize, max: u64, fin: Option<u64>) {
        let mut rest = self.segments[index];
        let Some(middle) = rest.cut(max, fin) else { return };
        if index.min(self.segments.len() - index) > SHIFT_MAX {
            return self.split_all(max, fin);
        }
        self.segments[index].end = middle;
        rest.start = middle;
        self.segments.insert(index + 1, rest);
        self.lost.insert(1, middle);
    }

    /// Cuts whatever is lost and longer than `max`, in one pass: one by one would move half the records each time.
    fn split_all(&mut self, max: u64, fin: Option<u64>) {
        let mut lost = VecDeque::with_capacity(2 * self.lost.len());
        for start in std::mem::take(&mut self.lost) {
            lost.push_back(start);
            let Some(index) = self.find(start) else { continue };
            let mut rest = self.segments[index];
            while let Some(middle) = rest.cut(max, fin) {
                rest.start = middle;
                lost.push_back(middle);
            }
        }
        let mut segments = VecDeque::with_capacity(self.segments.len() + lost.len());
        for mut rest in std::mem::take(&mut self.segments) {
            while let Some(middle) = rest.cut(max, fin) {
                segments.push_back(Sent { end: middle, ..rest });
                rest.start = middle;
            }
            segments.push_back(rest);
        }
        (self.lost, self.segments) = (lost, segments);
    }

    /// The outstanding segment that was sent longest ago.
    pub(super) fn oldest_outstanding(&mut self) -> Option<Sent> {
        loop {
            let front = *self.by_time.front()?;
            match self.find(front.start) {
                Some(i) if self.is_current(i, front.id) => return Some(self.segments[i]),
                _ => self.by_time.pop_front(),
            };
        }
    }

    /// The outstanding segment with the highest sequence number (what a tail loss probe repeats).
    pub(super) fn last_outstanding(&self) -> Option<Sent> {
        self.segments.iter().rev().find(|s| s.fate == Fate::Outstanding).copied()
    }

    fn is_current(&self, index: usize, transmission: u64) -> bool {
        let s = &self.segments[index];
        s.transmission == transmission && s.fate == Fate::Outstanding
    }

    fn find(&self, start: u64) -> Option<usize> {
        // What nearly all ask for: the oldest, or one that was acknowledged meanwhile.
        let front = self.segments.front()?;
        if start <= front.start {
            return (start == front.start).then_some(0);
        }
        let index = self.segments.partition_point(|s| s.start < start);
        (self.segments.get(index)?.start == start).then_some(index)
    }

    /// Everything before `una` is acknowledged.
    pub(super) fn acknowledge(&mut self, una: u64, delivery: &mut Delivery) {
        self.acknowledge_run(una, delivery);
        self.acknowledge_each(una, delivery);
    }

    fn acknowledge_each(&mut self, una: u64, delivery: &mut Delivery) {
        while let Some(front) = self.segments.front_mut() {
            if front.start >= una {
                break;
            }
            if front.end > una {
                let mut covered = *front; // a partly acknowledged segment: its rest stays as it is
                covered.end = una;
                front.start = una;
                let id = front.transmission;
                match covered.fate {
                    Fate::Outstanding => {
                        let index = self.by_time.partition_point(|t| t.id < id);
                        if let Some(entry) = self.by_time.get_mut(index).filter(|t| t.id == id) {
                            entry.start = una;
                        }
                    }
                    Fate::Lost => {
                        // In the place of its entry, lest an ACK for each byte of it make the list as long.
                        if self.lost.front() == Some(&covered.start) {
                            self.lost.pop_front();
                        }
                        self.lost.push_front(una);
                    }
                    Fate::Sacked => {}
                }
                self.outstanding_segments += usize::from(covered.fate == Fate::Outstanding);
                self.deliver(covered, delivery);
                break;
            }
            let whole = *front;
            self.segments.pop_front();
            self.deliver(whole, delivery);
        }
        self.highest = self.highest.max(una);
        if self.segments.is_empty() {
            self.by_time.clear();
            self.lost.clear();
        }
    }

    /// The peer holds `start..end` beyond a hole. Only whole segments count (RFC 6675 section 4).
    ///
    /// What earlier ACKs told of is skipped in leaps; each record that this walk meets leaps to its end from now
    /// on, as in a union-find with path compression. So the cost is that of what is new, wherever blocks begin.
    pub(super) fn sack(&mut self, start: u64, end: u64, delivery: &mut Delivery) {
        let first = self.segments.partition_point(|s| s.start < start);
        let (mut index, mut covered) = (first, 0);
        while let Some(segment) = self.segments.get(index).filter(|s| s.end <= end) {
            if segment.fate == Fate::Sacked {
                covered = segment.sacked_to;
                if covered >= end {
                    break;
                }
            } else {
                let was = *segment;
                covered = was.end;
                self.segments[index].fate = Fate::Sacked;
                self.segments[index].sacked_to = was.end;
                self.deliver(was, delivery);
                self.sacked += was.len();
            }
            index = self.after(index, covered);
        }
        let mut index = first;
        while let Some(segment) = self.segments.get_mut(index).filter(|s| s.end < covered) {
            let leap = std::mem::replace(&mut segment.sacked_to, covered);
            if leap == covered {
                break;
            }
            index = self.after(index, leap);
        }
    }

    /// Where the record that begins at `at` is, behind `index`: most often next to it.
    fn after(&self, index: usize, at: u64) -> usize {
        match self.segments.get(index + 1) {
            Some(next) if next.start < at => self.segments.partition_point(|s| s.start < at),
            _ => index + 1,
        }
    }

    fn deliver(&mut self, sent: Sent, delivery: &mut Delivery) {
        match sent.fate {
            Fate::Outstanding => {
                self.in_flight -= sent.len();
                self.outstanding_segments -= 1;
            }
            Fate::Lost => self.lost_bytes -= sent.len(),
            Fate::Sacked => {
                self.sacked -= sent.len();
                return; // counted when it was SACKed
            }
        }
        self.delivered += sent.len();
        if self.watch.covers(sent.sent_at) {
            self.watched.acked += sent.len();
            if sent.fate == Fate::Lost {
                self.watched.lost = self.watched.lost.saturating_sub(sent.len());
            }
        }
        self.delivered_at = delivery.now;
        delivery.add(&sent);
        self.highest = self.highest.max(sent.end);
    }

    /// RFC 8985 6.2 step 5: marks what was sent before `newest` and more than `limit` ago as lost. Returns
    /// (bytes, segments) marked.
    pub(super) fn mark_lost(&mut self, now: Time, newest: (Time, u64), limit: Duration) -> (u64, u64) {
        let (mut bytes, mut count) = (0, 0);
        while let Some(&Transmission { start, id, sent_at }) = self.by_time.front() {
            let Some(index) = self.find(start).filter(|i| self.is_current(*i, id)) else {
                self.by_time.pop_front();
                continue;
            };
            if (sent_at, self.segments[index].end) >= newest || sent_at + limit > now {
                break;
            }
            self.by_time.pop_front();
            bytes += self.mark(index);
            count += 1;
        }
        (bytes, count)
    }

    /// When the oldest segment sent before `newest` counts as lost, if there is one.
    pub(super) fn reorder_deadline(&mut self, newest: (Time, u64), limit: Duration) -> Option<Time> {
        let oldest = self.oldest_outstanding()?;
        ((oldest.sent_at, oldest.end) < newest).then(|| oldest.sent_at + limit)
    }

    /// What was marked lost and not yet sent again is in flight after all.
    pub(super) fn unmark_lost(&mut self) {
        let mut found = Vec::with_capacity(self.lost.len());
        for start in std::mem::take(&mut self.lost) {
            let Some(index) = self.find(start) else { continue };
            let s = &mut self.segments[index];
            if s.fate != Fate::Lost {
                continue;
            }
            s.fate = Fate::Outstanding;
            self.in_flight += s.len();
            self.outstanding_segments += 1;
            self.lost_bytes -= s.len();
            found.push(Transmission { start, id: s.transmission, sent_at: s.sent_at });
        }
        // They were sent before nearly all that is in flight: only what is older than some of them changes places.
        let Some(newest) = found.iter().map(|t| t.id).max() else { return };
        found.extend(self.by_time.drain(..self.by_time.partition_point(|t| t.id < newest)));
        found.sort_unstable_by_key(|t| t.id);
        for transmission in found.into_iter().rev() {
            self.by_time.push_front(transmission);
        }
    }

    /// No path carries what is longer than `max` (`fin`: as in [`Self::next_lost`]): all such are lost.
    /// Returns how many.
    pub(super) fn mark_longer_lost(&mut self, max: u64, fin: Option<u64>) -> u64 {
        let mut count = 0;
        for index in 0..self.segments.len() {
            let s = &self.segments[index];
            if s.fate == Fate::Outstanding && s.len() > max + u64::from(fin == Some(s.end)) {
                self.mark(index);
                count += 1;
            }
        }
        count
    }

    /// The segment at `start`, if in flight, is to be sent again in other pieces.
    pub(super) fn mark_outstanding_lost(&mut self, start: u64) {
        if let Some(index) = self.find(start).filter(|i| self.segments[*i].fate == Fate::Outstanding) {
            self.mark(index);
        }
    }

    fn mark(&mut self, index: usize) -> u64 {
        let segment = &mut self.segments[index];
        debug_assert_eq!(segment.fate, Fate::Outstanding);
        segment.fate = Fate::Lost;
        let (len, start) = (segment.len(), segment.start);
        let watched = u64::from(self.watch.covers(segment.sent_at));
        self.in_flight -= len;
        self.outstanding_segments -= 1;
        self.lost_bytes += len;
        self.watched.lost += len * watched;
        self.lost.push_back(start);
        len
    }

    /// The retransmission timer fired (RFC 8985 6.3): the first segment is lost, and every other that was
    /// sent more than `limit` ago. Returns how many are marked.
    pub(super) fn mark_lost_on_timeout(&mut self, now: Time, limit: Duration) -> u64 {
        if self.segments.front().is_some_and(|s| s.fate == Fate::Sacked) {
            self.forget_sacks(); // the peer has reneged (RFC 2018 section 8)
        }
        let mut segments = 0;
        for index in 0..self.segments.len() {
            let s = self.segments[index];
            if s.fate == Fate::Outstanding && (index == 0 || s.sent_at + limit <= now) {
                self.mark(index);
                segments += 1;
            }
        }
        segments
    }

    fn forget_sacks(&mut self) {
        for index in 0..self.segments.len() {
            if self.segments[index].fate == Fate::Sacked {
                self.segments[index].fate = Fate::Outstanding;
                self.in_flight += self.segments[index].len();
                self.outstanding_segments += 1;
                self.sacked -= self.segments[index].len();
                self.mark(index);
            }
        }
    }

    /// The delivery-rate sample of this ACK (draft-cheng-iccrg-delivery-rate-estimation 3.3).
    pub(super) fn rate_sample(&mut self, delivery: &Delivery) -> RateSample {
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let Some(p) = delivery.rated else { return RateSample::default() };
        self.first_sent_at = p.sent_at;
        let send_elapsed = p.sent_at - p.first_sent_at;
        let ack_elapsed = self.delivered_at - p.delivered_at;
        RateSample {
            delivered: self.delivered - p.delivered,
            interval: send_elapsed.max(ack_elapsed),
            prior_delivered: p.delivered,
            is_app_limited: p.is_app_limited,
            tx_in_flight: p.tx_in_flight,
        }
    }

    /// Gives the memory of an empty scoreboard back.
    pub(super) fn release(&mut self) {
        if self.segments.is_empty() {
            (self.segments, self.by_time, self.lost) = Default::default();
        }
    }
}
