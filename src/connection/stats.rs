//! Counters of one connection.

use std::ops::AddAssign;
use std::time::Duration;

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
        self.rto_spurious += other.rto_spurious;
        self.bytes_retransmitted += other.bytes_retransmitted;
    }
}
