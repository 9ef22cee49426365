//! Counters of one connection.

use std::ops::AddAssign;
use std::time::Duration;

use super::ecn::EcnMode;

/// Counters and gauges; `rtcp_stats` in the C header is made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes accepted from the application.
    pub bytes_sent: u64,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes read by the application.
    pub bytes_received: u64,
    /// Segments sent, all kinds.
    pub packets_sent: u64,
    /// Segments received and accepted as ours, all kinds.
    pub packets_received: u64,
    /// Segments sent again.
    pub packets_retransmitted: u64,
    /// Segments marked lost.
    pub packets_lost: u64,
    /// Segments dropped for a failing checksum or CRC.
    pub packets_corrupt: u64,
    /// Segments dropped for any other reason.
    pub packets_dropped: u64,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// Smallest round-trip time.
    pub min_rtt: Duration,
    /// Round-trip time variation.
    pub rttvar: Duration,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// Slow-start threshold, bytes.
    pub ssthresh: u64,
    /// Bytes in flight.
    pub bytes_in_flight: u64,
    /// Peer's receive window, bytes.
    pub peer_window: u64,
    /// Largest UDP payload now in use, bytes.
    pub max_datagram: u64,
    /// Retransmission timeouts fired.
    pub rto_count: u64,
    /// Tail loss probes sent.
    pub probe_count: u64,
    /// Recoveries that turned out to be mistakes and were undone.
    pub undo_count: u64,
    /// Payload bytes that the peer is known to hold, cumulatively acknowledged or not.
    pub bytes_delivered: u64,
    /// Most recent round-trip time.
    pub latest_rtt: Duration,
    /// Bytes per second that sending is paced at; 0: it is not.
    pub pacing_rate: u64,
    /// Bytes per second that the path is thought to deliver; 0: not estimated.
    pub bandwidth: u64,
    /// Share of the latest transmissions that were lost, per mille.
    pub loss_permille: u64,
    /// Share of transmissions whose loss is not taken for congestion, per mille.
    pub loss_floor_permille: u64,
    /// The congestion controller's name.
    pub controller: &'static str,
    /// Its phase; "" if it has none.
    pub phase: &'static str,
    /// Congestion notification in use on what is sent.
    pub ecn: EcnMode,
    /// Data segments that arrived marked "congestion experienced".
    pub packets_ce: u64,
    /// Bytes that the peer reported as marked; from a plain peer one segment per round trip with marks.
    pub bytes_ce: u64,
    /// Recoveries begun by a timeout and found needless (Eifel, F-RTO, D-SACK).
    pub rto_spurious: u64,
    /// Stream bytes sent again, copies on purpose included.
    pub bytes_retransmitted: u64,
}

impl AddAssign<&Self> for Stats {
    /// Adds the counters (a receiver's sum over its connections); the gauges of single paths stay zero.
    fn add_assign(&mut self, other: &Self) {
        self.bytes_sent += other.bytes_sent;
        self.bytes_acked += other.bytes_acked;
        self.bytes_received += other.bytes_received;
        self.packets_sent += other.packets_sent;
        self.packets_received += other.packets_received;
        self.packets_retransmitted += other.packets_retransmitted;
        self.packets_lost += other.packets_lost;
        self.packets_corrupt += other.packets_corrupt;
        self.packets_dropped += other.packets_dropped;
        self.bytes_in_flight += other.bytes_in_flight;
        self.rto_count += other.rto_count;
        self.probe_count += other.probe_count;
        self.undo_count += other.undo_count;
        self.bytes_delivered += other.bytes_delivered;
        self.packets_ce += other.packets_ce;
        self.bytes_ce += other.bytes_ce;
        self.rto_spurious += other.rto_spurious;
        self.bytes_retransmitted += other.bytes_retransmitted;
    }
}

/// What is counted for [`Stats`] and nowhere else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packets {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) dropped: u64,
}

/// A share, 0 to 1, in whole thousandths.
pub(super) fn per_mille(share: f32) -> u64 {
    (share.clamp(0.0, 1.0) * 1000.0).round() as u64
}
