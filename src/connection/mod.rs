//! One stream, sans-IO: segments and time come in as arguments; segments, deadlines and events come out.
//!
//! Methods come in four kinds: `handle_*` (inputs), `poll_*` (outputs), plain verbs (application
//! commands), nouns and `is_*` (questions). Any order of calls is legal; a spurious call is a no-op.
pub mod congestion;
pub mod error;
pub mod handshake;
pub mod pacer;
pub mod rtt;
pub mod stats;
pub mod time_wait;

use std::time::Duration;

use crate::time::Time;
use crate::wire::{Segment, SeqNum};

pub use error::{Error, ReadError, WriteError};
pub use handshake::{Offer, Terms};
pub use stats::Stats;
pub use time_wait::TimeWait;

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

/// Congestion-control algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// A fixed window of this many bytes.
    Fixed(u64),
}

/// What one connection is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest UDP payload to send, bytes (header included).
    pub max_datagram: usize,
    /// Largest UDP payload the path's interface takes: what the MSS option of our SYN announces (plus 20).
    pub max_receive_datagram: usize,
    /// Largest send buffer, bytes.
    pub send_buffer: usize,
    /// Largest receive buffer, bytes; auto-tuning grows towards it.
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

/// One GSO batch that `poll_transmit` appended to its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes appended in all.
    pub size: usize,
    /// Size of each datagram but the last, if there are several.
    pub segment_size: Option<usize>,
    /// Mark as ECN-capable.
    pub ect: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer's stream was read to its end and every byte sent was acknowledged.
    Orderly,
    /// It failed.
    Failed(Error),
}

/// One stream.
#[derive(Debug)]
pub struct Connection {}

#[allow(unused_variables, missing_docs, clippy::all)]
impl Connection {
    /// Active open: SYN-SENT; the SYN leaves with the next poll_transmit.
    pub fn connect(now: Time, config: &Config, identity: Identity) -> Self {
        todo!()
    }
    /// Passive open, SYN-RECEIVED: the endpoint has sent the SYN-ACK (from `handshake::emit_syn_ack`, with these
    /// `terms`) and has just received a segment that acknowledges it (which it hands to handle_segment next).
    /// `syn_ack_sent`: when, if known (RTT sample), and whether it was sent once only (Karn).
    pub fn accept(now: Time, config: &Config, identity: Identity, offer: &Offer, terms: Terms, syn_ack_sent: Option<Time>) -> Self {
        todo!()
    }

    // inputs
    /// A segment for this connection. `datagram` = the bytes `segment` was parsed from; integrity is checked here
    /// (corrupt ones are counted and dropped). `ce`: congestion experienced mark. `exact`: the outer tuple and the ports
    /// name exactly this connection (always true when called from the mux's lookup).
    pub fn handle_segment(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8], ce: bool) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Time) {
        todo!()
    }
    /// ICMP port unreachable for this peer (only SYN-SENT and LAST-ACK take notice, RFC 5927). Not called for
    /// connections begun with rtcp_receiver_connect.
    pub fn handle_refused(&mut self, now: Time) {
        todo!()
    }

    // outputs
    /// Appends one GSO batch of at most `max_segments` equal segments (the last may be shorter) to `out`.
    pub fn poll_transmit(&mut self, now: Time, max_segments: usize, out: &mut Vec<u8>) -> Option<Transmit> {
        todo!()
    }
    /// Cheap: might poll_transmit return something now?
    pub fn wants_transmit(&self, now: Time) -> bool {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }

    // application
    pub fn write(&mut self, now: Time, data: &[u8]) -> Result<usize, WriteError> {
        todo!()
    }
    /// Ok(0): the peer finished (end of stream).
    pub fn read(&mut self, now: Time, out: &mut [u8]) -> Result<usize, ReadError> {
        todo!()
    }
    /// FIN after the queued bytes. Idempotent.
    pub fn finish(&mut self, now: Time) {
        todo!()
    }
    /// finish(), and the application will never read again: unread bytes are dropped; the peer gets a RST for
    /// further data, but only after it has acknowledged all of ours.
    pub fn close(&mut self, now: Time) {
        todo!()
    }
    /// RST (queued for the next poll_transmit) and end with Error::Aborted.
    pub fn abort(&mut self, now: Time) {
        todo!()
    }
    pub fn set_nodelay(&mut self, now: Time, nodelay: bool) {
        todo!()
    }
    pub fn set_keepalive(&mut self, now: Time, interval: Option<Duration>) {
        todo!()
    }
    pub fn set_idle_timeout(&mut self, now: Time, limit: Option<Duration>) {
        todo!()
    }
    pub fn set_user_timeout(&mut self, now: Time, limit: Duration) {
        todo!()
    }

    // questions
    /// read() would return bytes, the end of the stream not yet returned as Ok(0), or a failure.
    pub fn is_readable(&self) -> bool {
        todo!()
    }
    /// Connected and at least a quarter of the send buffer is free, or write() would fail.
    pub fn is_writable(&self) -> bool {
        todo!()
    }
    /// Every byte written, and the FIN if finish() was called, is acknowledged.
    pub fn is_acked(&self) -> bool {
        todo!()
    }
    /// The handshake completed (stays true).
    pub fn is_established(&self) -> bool {
        todo!()
    }
    /// How it ended, once it has: for an orderly end, only after read() returned Ok(0) (or close() was called).
    pub fn end(&self) -> Option<End> {
        todo!()
    }
    /// Nothing more to send, receive or wait for: the endpoint may drop it (after moving `time_wait()` into its table).
    pub fn is_drained(&self) -> bool {
        todo!()
    }
    /// What TIME-WAIT must keep, if this connection is in TIME-WAIT.
    pub fn time_wait(&self) -> Option<TimeWait> {
        todo!()
    }
    /// Bytes taken by write() so far / acknowledged so far (payload only).
    pub fn bytes_written(&self) -> u64 {
        todo!()
    }
    pub fn bytes_acked(&self) -> u64 {
        todo!()
    }
    pub fn stats(&self) -> Stats {
        todo!()
    }
    pub fn identity(&self) -> &Identity {
        todo!()
    }
}
