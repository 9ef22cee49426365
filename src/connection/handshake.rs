//! SYN and SYN-ACK: what is offered, what is agreed.

use super::Config;
use crate::wire::{Segment, SeqNum};

/// What a peer's SYN (or SYN-ACK) carried; small enough for a half-open table or a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The peer's initial sequence number.
    pub isn: SeqNum,
    /// Unscaled window of the SYN.
    pub window: u16,
    /// MSS option.
    pub mss: Option<u16>,
    /// Window-scale option, clamped to 14 (RFC 7323 2.3).
    pub window_scale: Option<u8>,
    /// SACK-permitted option.
    pub sack_permitted: bool,
    /// TSval, if the timestamps option was there.
    pub timestamp: Option<u32>,
    /// Capability flags of the extension option, if it was there.
    pub extension: Option<u8>,
    /// The SYN's checksum field was 0: this peer does not compute it (FreeBSD's way).
    pub zero_checksum: bool,
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Largest payload the peer takes, options not yet subtracted (its MSS option, or 536/1220).
    pub peer_mss: u16,
    /// Shift of the windows we receive / of those we send, if window scaling was agreed.
    pub window_scale: Option<(u8, u8)>,
    /// SACK may be sent.
    pub sack: bool,
    /// Timestamps in every segment.
    pub timestamps: bool,
    /// The extension option in every segment, CRC-32C checked.
    pub extension: bool,
    /// 0 is accepted in the peer's checksum field.
    pub zero_checksum: bool,
}

#[allow(unused_variables, missing_docs, clippy::all)]
impl Offer {
    pub fn from_segment(segment: &Segment<'_>, datagram: &[u8]) -> Self {
        todo!()
    }
}

/// Appends the SYN-ACK that answers `offer`, never longer than `syn_len` (the SYN's datagram), and says what is
/// agreed. `iss`/`ts_val`: ours. Err when `IntegrityMode::Require` is not met: refuse it.
#[allow(unused_variables, clippy::all, missing_docs)]
pub fn emit_syn_ack(config: &Config, local_port: u16, peer_port: u16, iss: SeqNum, ts_val: u32, offer: &Offer, syn_len: usize, out: &mut Vec<u8>) -> Result<Terms, super::Error> {
    todo!()
}
