//! TIME-WAIT in a few bytes: what must be kept after both FINs are acknowledged.

use crate::time::Time;
use crate::wire::{Segment, SeqNum};

/// Enough to answer a retransmitted FIN and to refuse old duplicates.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    /// Inner ports.
    pub local_port: u16,
    /// Inner port of the peer.
    pub peer_port: u16,
    /// Next sequence numbers.
    pub snd_nxt: SeqNum,
    /// Next expected sequence number.
    pub rcv_nxt: SeqNum,
    /// TS.Recent and our timestamp offset, if timestamps were agreed.
    pub timestamps: Option<(u32, u32)>,
    /// CRC keys (for what we send, for what we receive), if the extension was agreed.
    pub keys: Option<(u32, u32)>,
    /// When it may be forgotten: 2 MSL after the last FIN.
    pub expires: Time,
}

/// What a segment for a TIME-WAIT connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// An ACK was appended to the buffer: send it. The time restarts (RFC 9293 3.10.7.4).
    Answered,
    /// A new SYN with a later timestamp or sequence number (RFC 6191, RFC 9293 MAY-2): forget this and take it.
    Reopen,
}

#[allow(unused_variables, missing_docs, clippy::all)]
impl TimeWait {
    pub fn handle_segment(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8], out: &mut Vec<u8>) -> Verdict {
        todo!()
    }
}
