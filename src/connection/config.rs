//! What one connection is configured with, and what its endpoint names it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::congestion::Algorithm;
use crate::wire::SeqNum;

/// CRC-32C and the extension option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IntegrityMode {
    /// Never offered, never accepted: a plain RFC 9293 peer.
    Off,
    /// Offered; a peer without it is served with the 16-bit sum.
    #[default]
    Offer,
    /// A peer without it is refused.
    Require,
}

/// How large our datagrams may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PathMtu {
    /// 1,200 bytes of UDP payload at first; towards a peer with the extension or SACK a search (RFC 8899) up to
    /// what the interface and the peer take. Back if that vanishes, to 548 if need be.
    #[default]
    Discover,
    /// Up to so many bytes of UDP payload (header included), whatever the path does with them.
    Fixed(usize),
}

impl PathMtu {
    /// Bytes of UDP payload to begin with.
    #[must_use]
    pub const fn initial(self) -> usize {
        match self {
            Self::Discover => super::pmtud::BASE,
            Self::Fixed(size) => size,
        }
    }
}

/// What one connection is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size of the datagrams to send.
    pub mtu: PathMtu,
    /// Largest UDP payload the path's interface takes: what the MSS option of our SYN announces (plus
    /// 20), and where [`PathMtu::Discover`] ends.
    pub max_receive_datagram: usize,
    /// Most bytes to hold for the peer: those in flight (what was SACKed included) and those not yet sent. Of
    /// the latter no more wait than a congestion window, 20 ms (at most 4 MiB) or 128 KiB, whichever is most.
    pub send_buffer: usize,
    /// Largest window to offer, bytes. It begins with 128 KiB and grows as the application reads: two round trips
    /// of reading; while the sender's rate grows four, twice as many for each 100 ms of round trip, up to 64.
    pub recv_buffer: usize,
    /// Limit of the handshake.
    pub connect_timeout: Duration,
    /// Close after this long without any segment from the peer.
    pub idle_timeout: Option<Duration>,
    /// Probe an idle peer this often (RFC 9293 3.8.4; off by default).
    pub keepalive: Option<Duration>,
    /// Give up after this long without progress (RFC 9293 R2).
    pub user_timeout: Duration,
    /// False: Nagle's algorithm (RFC 9293 3.7.4).
    pub nodelay: bool,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// Integrity.
    pub integrity: IntegrityMode,
    /// Ask for explicit congestion notification, and grant it (RFC 3168).
    pub ecn: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: PathMtu::Discover,
            max_receive_datagram: 1472,
            // 1 Gbit/s x 300 ms is 37.5 MB; while a lost segment is repaired, and lost again, as much waits
            // behind it for each round trip.
            send_buffer: 128 << 20,
            recv_buffer: 128 << 20,
            // Deviates from RFC 9293 MUST-23 (3 minutes): a program's user waits less than a kernel's.
            connect_timeout: Duration::from_secs(30),
            idle_timeout: None,
            keepalive: None,
            user_timeout: Duration::from_secs(100), // RFC 9293 SHLD-11: R2 of at least 100 s
            nodelay: true,
            algorithm: Algorithm::Bbr,
            integrity: IntegrityMode::Offer,
            ecn: true, // RFC 9293 SHLD-8
        }
    }
}

/// Many connections may share one: [`super::Connection`] takes either.
impl From<&Config> for Arc<Config> {
    fn from(config: &Config) -> Self {
        Self::new(config.clone())
    }
}

/// Names and secrets of one connection, chosen by the endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Inner ports.
    pub local_port: u16,
    /// Inner port of the peer.
    pub peer_port: u16,
    /// Our initial sequence number (RFC 6528, keyed).
    pub iss: SeqNum,
    /// Offset of our timestamp clock: keyed PRF of the tuple.
    pub ts_offset: u32,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}->{}]", self.local_port, self.peer_port)
    }
}
