//! Runs: what leaves or comes together is mostly one segment after another that differ in nothing but their number.
//!
//! The first goes its own way. Those that continue it are asked for, or compared with its header, once, and counted
//! together. What time does to the connection happened with the first: they have the same.

use std::time::Duration;

use super::Connection;
use super::ack_policy::Urgency;
use super::chunks::Chunk;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::time::Time;
use crate::wire::{Flags, Segment, crc_ok, is_continued_by};

impl Connection {
    /// `first`, without a mark, was taken as expected; `datagram` is what it was parsed from. Takes those datagrams at
    /// the beginning of `rest` that continue it, and says how many bytes of `rest` they are.
    pub(super) fn take_run(&mut self, now: Time, first: &Segment<'_>, datagram: &[u8], rest: &[u8]) -> usize {
        let is_plain = first.flags == Flags::ACK && !self.is_closed_by_app && !self.rcv.awaits_fin();
        if !is_plain || rest.len() < datagram.len() || log::log_enabled!(log::Level::Trace) {
            return 0;
        }
        let Some((_, key)) = self.keys else { return 0 };
        let (header, payload) = datagram.split_at(datagram.len() - first.payload.len());
        let room = (self.rcv.window_end() - self.rcv.nxt()) / payload.len() as u64;
        let mut count: u32 = 0;
        for next in rest.chunks_exact(datagram.len()).take(usize::try_from(room).unwrap_or(usize::MAX)) {
            let seq = self.rcv.nxt();
            if !is_continued_by(header, next, self.rcv.space.wrap(seq)) || !crc_ok(next, key) {
                break;
            }
            self.rcv.buffer.insert(seq, &next[header.len()..]);
            self.snd.wl1 = seq; // it says the same window
            count += 1;
        }
        if count > 0 {
            self.packets.received += u64::from(count);
            self.rcv.on_run(now, count, payload.len(), self.snd.rtt.min_rtt());
        }
        count as usize * datagram.len()
    }
}

impl Receiver {
    /// `count` more segments of `len` new bytes each were stored in order, at the moment of the one before.
    fn on_run(&mut self, now: Time, count: u32, len: usize, min_rtt: Duration) {
        let rtt = self.arrivals.round_trip(min_rtt);
        let bytes = len * count as usize;
        self.acks.earn(bytes);
        for left in (1..=count).rev() {
            if self.acks.only_counts() {
                self.arrivals.count(left);
                self.acks.count_whole(left);
                break;
            }
            self.arrivals.count(1);
            self.acks.on_data(now, len, false, Urgency::Usual, &self.arrivals, rtt);
        }
        self.widen_behind_holes(now, bytes, rtt);
    }
}

impl Sender {
    /// A segment of `len` new bytes has just left: how many more of them `next_chunk` would let go one by one, had
    /// it been asked. Perhaps it would still more.
    pub(super) fn run(&self, now: Time, len: u64) -> u64 {
        let is_plain = self.episode.is_none() && !self.board.has_lost() && !self.probe_due;
        if !is_plain || len != self.size.payload() as u64 || len != self.mss as u64 {
            return 0;
        }
        // What ends the stream so far carries PSH, or the FIN.
        let end = self.buffer.end().saturating_sub(1).min(self.una + self.wnd);
        let by_cwnd = self.cc.cwnd().saturating_sub(self.board.in_flight());
        end.saturating_sub(self.nxt).min(by_cwnd).min(self.pacer.budget(now)) / len
    }

    /// The segments of a run have left: `run`, `count` of them, each as long as the others.
    pub(super) fn on_run_sent(&mut self, now: Time, run: Chunk, count: u32) {
        let bytes = run.end - run.start;
        let len = bytes / u64::from(count);
        self.pmtud.on_sent(now, len, count, self.loss_rate);
        self.note_ecn_sent(now, run);
        self.liveness.on_sent(count);
        self.size.on_sent(len, count);
        self.board.on_run_sent(run.start, len, count, now);
        self.nxt = run.end;
        self.pacer.on_sent(now, bytes);
        self.cc.on_sent(now, bytes, self.board.in_flight());
    }
}
