//! The receive half: RECEIVE variables, the peer's FIN, timestamps, window tuning.

use std::time::Duration;

use super::ack_policy::{AckPolicy, Urgency};
use super::arrivals::Arrivals;
use super::ecn::MarksSeen;
use super::receive_buffer::{Arrival, ReceiveBuffer};
use super::seq_space::SeqSpace;
use super::window_tuning::{Held, WindowTuning};
use crate::time::Time;
use crate::wire::SeqNum;

/// Window offered before anything is known of the path; covers the initial window many times.
const INITIAL_WINDOW: usize = 128 << 10;
/// RFC 7323 5.5: TS.Recent is invalid after 24 days of silence.
const TS_RECENT_LIFETIME: Duration = Duration::from_secs(24 * 24 * 3600);

/// RFC 7323's TS.Recent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TsRecent {
    value: u32,
    at: Time,
}

/// RECEIVE variables of RFC 9293 3.3.1, unwrapped.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) space: SeqSpace,
    pub(super) buffer: ReceiveBuffer,
    pub(super) acks: AckPolicy,
    pub(super) arrivals: Arrivals,
    tuning: WindowTuning,
    /// Sequence number of the peer's FIN, once seen in order or beyond a hole.
    fin_at: Option<u64>,
    /// The peer's FIN is acknowledged in order.
    pub(super) fin_received: bool,
    /// Shift of the windows we announce.
    pub(super) shift: u8,
    /// Last.ACK.sent of RFC 7323.
    pub(super) last_ack_sent: u64,
    pub(super) ts_recent: Option<TsRecent>,
    pub(super) marks: MarksSeen,
    /// Corrupt segments seen (the extension's flag bits carry it modulo 32).
    pub(super) corrupt: u64,
    pub(super) bytes_read: u64,
}

impl Receiver {
    pub(super) fn new(max_window: usize) -> Self {
        Self {
            space: SeqSpace::new(SeqNum::new(0)),
            buffer: ReceiveBuffer::new(1, INITIAL_WINDOW, max_window),
            acks: AckPolicy::default(),
            arrivals: Arrivals::default(),
            tuning: WindowTuning::default(),
            fin_at: None,
            fin_received: false,
            shift: 0,
            last_ack_sent: 0,
            ts_recent: None,
            marks: MarksSeen::default(),
            corrupt: 0,
            bytes_read: 0,
        }
    }

    /// Everything that came is read and acknowledged, and no FIN did.
    pub(super) fn is_at_rest(&self) -> bool {
        let has_fin = self.fin_at.is_some() || self.fin_received;
        self.acks.is_at_rest() && !has_fin && self.buffer.is_idle() && self.last_ack_sent == self.nxt()
    }

    /// RCV.NXT: the FIN counts once everything before it is here.
    pub(super) const fn nxt(&self) -> u64 {
        self.buffer.nxt() + self.fin_received as u64
    }

    /// RCV.NXT + RCV.WND as promised to the peer.
    pub(super) fn window_end(&self) -> u64 {
        self.buffer.edge().max(self.nxt())
    }

    /// The window field of the next segment.
    pub(super) fn window_field(&mut self, mss: usize) -> u16 {
        let window = self.buffer.advertise(mss, self.shift);
        u16::try_from(window >> self.shift).unwrap_or(u16::MAX)
    }

    /// Of a segment with timestamp `value`: it left before the one that TS.Recent is of, by so many ticks.
    fn ticks_older(&self, now: Time, value: u32) -> u32 {
        let recent = self.ts_recent.filter(|recent| now - recent.at < TS_RECENT_LIFETIME);
        recent.map_or(0, |recent| (value.wrapping_sub(recent.value) as i32).min(0).unsigned_abs())
    }

    /// RFC 7323 5.3 R1: a timestamp that is older by more than `overtaken` ticks marks an old duplicate.
    pub(super) fn is_old_timestamp(&self, now: Time, value: u32, overtaken: u32) -> bool {
        self.ticks_older(now, value) > overtaken
    }

    /// RFC 7323 4.3: the value to echo comes from the segment that Last.ACK.sent lies in.
    pub(super) fn note_timestamp(&mut self, now: Time, seq: u64, value: u32) {
        if seq <= self.last_ack_sent && self.ticks_older(now, value) == 0 {
            self.ts_recent = Some(TsRecent { value, at: now });
        }
    }

    pub(super) fn set_ts_recent(&mut self, now: Time, value: u32) {
        self.ts_recent = Some(TsRecent { value, at: now });
    }

    /// TSecr of the next segment.
    pub(super) fn ts_echo(&self) -> u32 {
        self.ts_recent.map_or(0, |recent| recent.value)
    }

    /// A FIN occupies `seq`.
    pub(super) fn note_fin(&mut self, seq: u64) {
        if !self.fin_received && seq >= self.buffer.nxt() {
            self.fin_at = Some(seq);
        }
    }

    /// SACK blocks, the FIN counted where one ends in it.
    pub(super) fn sack_blocks(&mut self, max: usize, mut push: impl FnMut(u64, u64)) {
        let fin_at = self.fin_at;
        self.buffer.sack_blocks(max, |start, end| push(start, end + u64::from(fin_at == Some(end))));
    }

    /// The peer's FIN came before what it follows.
    pub(super) const fn awaits_fin(&self) -> bool {
        self.fin_at.is_some()
    }

    /// True once: the FIN is next in order.
    pub(super) fn take_fin(&mut self) -> bool {
        if self.fin_received || self.fin_at != Some(self.buffer.nxt()) {
            return false;
        }
        self.fin_received = true;
        true
    }

    /// The peer brought back a tick of our clock, ms.
    pub(super) fn on_echo(&mut self, now: Time, echo_ms: Option<u64>) {
        self.arrivals.on_echo(now, echo_ms);
    }

    /// The least of the latest round trips that echoes told of; zero if none did.
    pub(super) fn echoed_round_trip(&self) -> Duration {
        self.arrivals.round_trip(Duration::ZERO)
    }

    /// Data at `seq`, true if any of it is new; `pushed`: its sender had no more. `echo_ms`: its TSecr as a millisecond of our clock;
    /// `min_rtt`: what the send half knows.
    pub(super) fn on_data(
        &mut self,
        now: Time,
        seq: u64,
        data: &[u8],
        pushed: bool,
        echo_ms: Option<u64>,
        min_rtt: Duration,
    ) -> bool {
        self.arrivals.on_segment(now, echo_ms, min_rtt);
        let nxt = self.buffer.nxt();
        let arrival = self.buffer.insert(seq, data);
        let urgency = match arrival {
            Arrival::InOrder => Urgency::Usual,
            Arrival::Beyond => Urgency::Repair,
            Arrival::Hole | Arrival::Duplicate | Arrival::Refused => Urgency::AtOnce,
        };
        if self.buffer.nxt() > nxt {
            self.tuning.on_arrival(now, self.buffer.nxt());
        }
        let rtt = self.arrivals.round_trip(min_rtt);
        let is_new = !matches!(arrival, Arrival::Duplicate | Arrival::Refused);
        if is_new {
            self.acks.earn(data.len());
        }
        self.acks.on_data(now, data.len(), pushed, urgency, &self.arrivals, rtt);
        if is_new {
            self.widen_behind_holes(now, data.len(), rtt);
        }
        is_new
    }

    /// New bytes came: the window grows with what arrives while holes keep it from the application.
    pub(super) fn widen_behind_holes(&mut self, now: Time, bytes: usize, rtt: Duration) {
        let held = Held {
            readable: self.buffer.readable() as u64,
            span: self.buffer.highest() - self.buffer.read_to(),
            read: self.bytes_read,
        };
        let first = INITIAL_WINDOW as u64;
        let wanted = self.tuning.on_bytes(now, bytes, &held, rtt, self.arrivals.is_growing(), first);
        self.buffer.raise_limit(usize::try_from(wanted.unwrap_or(0)).unwrap_or(usize::MAX / 2));
    }

    /// The application read `bytes`: the window grows with what it reads. `srtt`: what the send half knows.
    pub(super) fn on_read(&mut self, now: Time, bytes: usize, srtt: Duration) {
        self.bytes_read += bytes as u64;
        let (rtt, growing) = (self.arrivals.round_trip(srtt), self.arrivals.is_growing());
        let wanted = self.tuning.on_read(now, self.buffer.read_to(), bytes, rtt, growing);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX / 2);
        if wanted > self.buffer.limit() {
            self.buffer.raise_limit(wanted.next_power_of_two());
        }
    }
}

/// Shift for windows of up to `max_window` bytes (RFC 7323 2.3: at most 14).
pub(super) const fn window_shift(max_window: usize) -> u8 {
    let mut shift = 0;
    while shift < 14 && (max_window >> shift) > 0xffff {
        shift += 1;
    }
    shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_covers_the_largest_window() {
        for (window, shift) in
            [(0, 0), (65535, 0), (65536, 1), (16 << 20, 9), (1 << 30, 14), (usize::MAX, 14)]
        {
            assert_eq!(window_shift(window), shift, "{window}");
        }
    }

    #[test]
    fn the_window_doubles_while_a_round_trip_of_reading_fills_it() {
        let ms = Duration::from_millis(1);
        let mut now = Time::ZERO;
        let mut rcv = Receiver::new(4 << 20);
        for _ in 0..20 {
            let limit = rcv.buffer.limit();
            now += 10 * ms;
            rcv.on_read(now, limit, 10 * ms);
        }
        assert_eq!(rcv.buffer.limit(), 4 << 20, "up to the maximum");
        let mut slow = Receiver::new(4 << 20);
        for i in 1..100u32 {
            slow.on_read(Time::ZERO + i * 10 * ms, 10_000, 10 * ms);
        }
        assert_eq!(slow.buffer.limit(), INITIAL_WINDOW, "a slow reader keeps the small window");
    }

    #[test]
    fn old_timestamps_are_old_across_the_wrap_and_forgotten_after_24_days() {
        let mut rcv = Receiver::new(1 << 20);
        rcv.set_ts_recent(Time::ZERO, 5);
        assert!(rcv.is_old_timestamp(Time::ZERO, u32::MAX, 0));
        assert!(!rcv.is_old_timestamp(Time::ZERO, 6, 0));
        assert!(!rcv.is_old_timestamp(Time::ZERO + TS_RECENT_LIFETIME, u32::MAX, 0));
    }

    #[test]
    fn what_was_overtaken_by_a_little_is_not_old_and_does_not_turn_ts_recent_back() {
        let mut rcv = Receiver::new(1 << 20);
        rcv.set_ts_recent(Time::ZERO, 5);
        assert!(!rcv.is_old_timestamp(Time::ZERO, 5u32.wrapping_sub(250), 250));
        assert!(rcv.is_old_timestamp(Time::ZERO, 5u32.wrapping_sub(251), 250));
        rcv.note_timestamp(Time::ZERO, 0, 4);
        assert_eq!(rcv.ts_echo(), 5);
    }

    #[test]
    fn a_fin_counts_only_when_everything_before_it_is_here() {
        let mut rcv = Receiver::new(1 << 20);
        rcv.buffer.advertise(1000, 0);
        rcv.note_fin(4);
        assert!(!rcv.take_fin());
        rcv.buffer.insert(1, b"abc");
        assert!(rcv.take_fin());
        assert!(!rcv.take_fin());
        assert_eq!(rcv.nxt(), 5);
    }
}
