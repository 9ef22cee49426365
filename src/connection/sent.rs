//! One segment as last transmitted, and what an ACK says of those it delivers.

use std::time::Duration;

use crate::time::Time;

/// What we believe of a segment's latest transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In flight.
    Outstanding,
    /// Thought lost, to be sent again.
    Lost,
    /// Held by the peer beyond a hole; kept until acknowledged cumulatively (RFC 2018 section 8).
    Sacked,
}

/// A transmission in order of time; stale once its segment was sent again, delivered or marked lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transmission {
    pub(super) start: u64,
    pub(super) id: u64,
    pub(super) sent_at: Time,
}

/// One segment as last transmitted. `start` and `end` count the FIN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) sent_at: Time,
    pub(super) fate: Fate,
    /// If SACKed: everything from here to there is, and perhaps more.
    pub(super) sacked_to: u64,
    /// How often it was sent; 1 = never again.
    pub(super) transmissions: u16,
    /// Copies sent while it was in flight, and when that began.
    pub(super) copies: u16,
    pub(super) copied_since: Time,
    pub(super) is_app_limited: bool,
    /// Identifies this transmission among all.
    pub(super) transmission: u64,
    // The connection's counters when it was sent (draft-cheng-iccrg-delivery-rate-estimation 3.2).
    pub(super) delivered: u64,
    pub(super) delivered_at: Time,
    pub(super) first_sent_at: Time,
    pub(super) tx_in_flight: u64,
}

impl Sent {
    pub(super) const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Where to cut it, if it is lost and longer than `max`; the FIN that ends at `fin` is not counted. Transmissions
    /// in flight keep their shape.
    pub(super) fn cut(&self, max: u64, fin: Option<u64>) -> Option<u64> {
        let max = max + u64::from(fin == Some(self.end));
        // Pieces of one size: a scrap at the end would cost a whole packet.
        let is_too_long = self.fate == Fate::Lost && self.len() > max;
        is_too_long.then(|| self.start + self.len().div_ceil(self.len().div_ceil(max)))
    }

    /// It is delivered at last: copies that left so long ago that their answer would have come before, had they
    /// arrived. They are evenly spaced. `echo_ms`: when what is answered left; of what left after it nothing is
    /// known, however long this answer took.
    fn copies_lost(&self, now: Time, rtt: Duration, echo_ms: Option<u64>) -> u64 {
        let answered = echo_ms.map_or(Time::MAX, |echo| Time::ZERO + Duration::from_millis(echo));
        let known = now.before(rtt).min(answered).since(self.copied_since);
        let all = self.sent_at.since(self.copied_since);
        if self.copies == 0 || all.is_zero() {
            return 0;
        }
        (f64::from(self.copies) * (known.as_secs_f64() / all.as_secs_f64()).min(1.0)) as u64
    }
}

/// What one arriving ACK delivered, collected while it walks the scoreboard.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) now: Time,
    min_rtt: Duration,
    /// TSecr as a tick of our own clock in ms, if timestamps are in use.
    echo_ms: Option<u64>,
    /// SND.FACK before this ACK.
    highest_before: u64,
    /// Newly delivered bytes.
    pub(super) bytes: u64,
    /// Newly delivered segments.
    pub(super) segments: u64,
    /// How long an answer takes, as far as copies are concerned.
    pub(super) round_trip: Duration,
    /// Copies of them that were lost.
    pub(super) copies_lost: u64,
    /// Length of the longest newly delivered segment.
    pub(super) longest: u64,
    /// The most recently sent of the newly delivered segments, ambiguous retransmissions left out.
    pub(super) newest: Option<Sent>,
    /// RTT of the most recently sent segment, if its transmission is known.
    pub(super) rtt: Option<Duration>,
    /// A never-retransmitted segment below the highest delivered one arrived: the network reorders.
    pub(super) reordered: bool,
    /// Earliest send time among newly delivered segments that were sent once only.
    pub(super) original_sent_at: Option<Time>,
    /// The record for the rate sample: newest by transmission, ambiguous ones left out. An original that is late
    /// would pass for the retransmission that has just left, and end a round trip that has just begun.
    pub(super) rated: Option<Sent>,
    /// Number of the newest transmission of all, and when it left.
    pub(super) latest: Option<(u64, Time)>,
}

impl Delivery {
    pub(super) const fn new(now: Time, min_rtt: Duration, echo_ms: Option<u64>, highest_before: u64) -> Self {
        Self {
            now,
            min_rtt,
            echo_ms,
            highest_before,
            bytes: 0,
            segments: 0,
            round_trip: min_rtt,
            copies_lost: 0,
            longest: 0,
            newest: None,
            rtt: None,
            reordered: false,
            original_sent_at: None,
            rated: None,
            latest: None,
        }
    }

    /// What follows is held beyond a hole. RFC 7323 4.3: the timestamp that its ACK echoes is that of the last
    /// segment in order, however long ago that was, and tells nothing of these.
    pub(super) const fn beyond_hole(&mut self) {
        self.echo_ms = None;
    }

    /// Which transmission the peer answers is unknown (RFC 8985 6.2 step 2, Karn): the answer came sooner
    /// than any round trip, or echoes a timestamp from before the latest transmission. Deviates from RFC 6298
    /// section 3 (Karn): a retransmission whose timestamp is echoed is known, and gives a sample.
    fn is_ambiguous(&self, sent: &Sent) -> bool {
        if sent.transmissions == 1 {
            return false;
        }
        match self.echo_ms {
            Some(echo) => echo < sent.sent_at.as_millis(),
            None => self.now - sent.sent_at < self.min_rtt,
        }
    }

    /// What [`add`](Self::add) would make of each, for segments in order that were sent only once. Returns how many bytes
    /// and segments they are, if any.
    pub(super) fn add_run<'a>(&mut self, run: impl Iterator<Item = &'a Sent>) -> Option<(u64, usize)> {
        let mut run = run.peekable();
        let first = **run.peek()?;
        let (mut count, mut newest, mut end) = (0, &first, first.end);
        let mut sent_at = self.original_sent_at.unwrap_or(first.sent_at);
        for sent in run {
            count += 1;
            end = sent.end;
            self.longest = self.longest.max(sent.len());
            sent_at = sent_at.min(sent.sent_at);
            if sent.transmission > newest.transmission {
                newest = sent;
            }
        }
        self.bytes += end - first.start;
        self.segments += count as u64;
        self.reordered |= first.end < self.highest_before;
        self.original_sent_at = Some(sent_at);
        if self.latest.is_none_or(|(id, _)| newest.transmission > id) {
            self.latest = Some((newest.transmission, newest.sent_at));
            self.rtt = Some(self.now - newest.sent_at);
        }
        if self.rated.is_none_or(|r| newest.transmission > r.transmission) {
            self.rated = Some(*newest);
        }
        if self.newest.is_none_or(|n| newest.transmission > n.transmission) {
            self.newest = Some(*newest);
        }
        Some((end - first.start, count))
    }

    pub(super) fn add(&mut self, sent: &Sent) {
        self.bytes += sent.len();
        self.segments += 1;
        self.copies_lost += sent.copies_lost(self.now, self.round_trip, self.echo_ms);
        self.longest = self.longest.max(sent.len());
        if sent.transmissions == 1 {
            self.reordered |= sent.end < self.highest_before;
            self.original_sent_at = Some(self.original_sent_at.map_or(sent.sent_at, |t| t.min(sent.sent_at)));
        }
        let is_ambiguous = self.is_ambiguous(sent);
        if !is_ambiguous && self.rated.is_none_or(|r| sent.transmission > r.transmission) {
            self.rated = Some(*sent);
        }
        if self.latest.is_none_or(|(id, _)| sent.transmission > id) {
            self.latest = Some((sent.transmission, sent.sent_at));
            // The ACK is its; those sent before tell no round trip: an outage may have taken their own ACKs.
            let is_known = !is_ambiguous && (sent.transmissions == 1 || self.echo_ms.is_some());
            self.rtt = is_known.then(|| self.now - sent.sent_at);
        }
        if !is_ambiguous && self.newest.is_none_or(|n| sent.transmission > n.transmission) {
            self.newest = Some(*sent);
        }
    }
}
