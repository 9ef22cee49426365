//! Datagrams on their way out and in, many at a time.

use std::array;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta};

/// What one buffer must hold: the largest datagram, or as much as GRO merges into one. And 25 cache lines, lest
/// all buffers begin in the same set of the cache, where small datagrams would drive each other out.
const BUFFER_LEN: usize = (1 << 16) + 25 * 64;

/// Buffers that are offered after a call that filled fewer: to prepare all of them costs as much as to receive
/// one small datagram.
const FEW: usize = 4;

/// And after one that brought merged datagrams: half a megabyte at a time stays in the cache until it is copied on.
const LARGE: usize = 8;

/// The congestion bits of the IP header, RFC 3168 section 5; "not capable" is the absence of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECN-capable, codepoint 10.
    Ect0,
    /// ECN-capable, codepoint 01.
    Ect1,
    /// Congestion experienced, codepoint 11.
    Ce,
}

impl Ecn {
    pub(super) fn from_codepoint(codepoint: EcnCodepoint) -> Self {
        match codepoint {
            EcnCodepoint::Ect0 => Self::Ect0,
            EcnCodepoint::Ect1 => Self::Ect1,
            EcnCodepoint::Ce => Self::Ce,
        }
    }

    pub(super) fn codepoint(self) -> EcnCodepoint {
        match self {
            Self::Ect0 => EcnCodepoint::Ect0,
            Self::Ect1 => EcnCodepoint::Ect1,
            Self::Ce => EcnCodepoint::Ce,
        }
    }
}

/// One datagram to send, or a row of equal ones to one destination.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The destination.
    pub to: SocketAddr,
    /// The source address, where the kernel shall not choose: the one to which the peer wrote.
    pub from: Option<IpAddr>,
    /// The ECN bits of each datagram.
    pub ecn: Option<Ecn>,
    /// Bytes in each datagram but the last, which may be shorter; `None`: `bytes` is one datagram.
    pub segment_size: Option<usize>,
    /// The payloads, one after another. Any number: the socket splits what one system call cannot take.
    pub bytes: &'a [u8],
}

/// One datagram that has arrived, or several that GRO has merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The sender. Never port 0; an IPv4 address is always `V4`, on a dual-stack socket too.
    pub from: SocketAddr,
    /// The address of ours to which it was sent.
    pub local_ip: Option<IpAddr>,
    /// Its ECN bits.
    pub ecn: Option<Ecn>,
    /// Bytes in each but the last of what was merged; else all.
    pub stride: usize,
    /// The payload, or one after another; never empty.
    pub bytes: &'a [u8],
}

/// Buffers for one [`UdpIo::receive`](super::UdpIo::receive), and after it the datagrams in them.
///
/// Address space for 64 KiB per buffer is taken at once, memory only as datagrams touch it.
pub struct ReceiveBatch {
    buffers: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    offered: usize,
    filled: usize,
}

impl ReceiveBatch {
    /// As many buffers as one system call can fill: 32 on Linux.
    #[must_use]
    pub fn new() -> Self {
        Self::with_buffers(BATCH_SIZE)
    }

    /// `count` buffers, brought into 1 to 32: for those who would rather save memory than system calls.
    #[must_use]
    pub fn with_buffers(count: usize) -> Self {
        let count = count.clamp(1, BATCH_SIZE);
        let (buffers, meta) = (vec![0; count * BUFFER_LEN], [RecvMeta::default(); BATCH_SIZE]);
        Self { buffers, meta, offered: 1, filled: 0 }
    }

    /// The datagrams in order of arrival, GRO undone.
    ///
    /// Left out is what nothing could answer: empty datagrams, those from port 0 and, by RFC 9293
    /// section 3.9.2.3 (MUST-57), those sent to a multicast or broadcast address.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        self.rows().flat_map(|row| {
            let cut = row.bytes.chunks(row.stride);
            cut.map(move |bytes| Received { stride: bytes.len(), bytes, ..row })
        })
    }

    /// What [`iter`](Self::iter) brings, as it came: one item for each buffer.
    pub fn rows(&self) -> impl Iterator<Item = Received<'_>> {
        let filled = self.buffers.chunks_exact(BUFFER_LEN).zip(&self.meta[..self.filled]);
        filled.filter(|(_, meta)| meta.len > 0 && is_answerable(meta)).map(|(buffer, meta)| Received {
            from: canonical(meta.addr),
            local_ip: meta.dst_ip.map(|ip| ip.to_canonical()),
            ecn: meta.ecn.map(Ecn::from_codepoint),
            stride: meta.stride.max(1),
            bytes: buffer.get(..meta.len).unwrap_or_default(),
        })
    }

    /// How many buffers came filled: as many as datagrams, unless GRO has merged some.
    #[must_use]
    pub const fn buffers_filled(&self) -> usize {
        self.filled
    }

    /// One datagram came, by itself.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(&self.meta[..self.filled], [meta] if meta.len <= meta.stride)
    }

    /// Every buffer that was offered is filled: more may wait.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.filled == self.offered
    }

    /// Forgets the datagrams.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Lets `receive` fill the buffers: all, or a few where it found little to fill before. Answers how many
    /// datagrams there are now.
    pub(super) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let merged = self.meta[..self.filled].iter().any(|meta| meta.len > BUFFER_LEN / 4);
        let wanted = match self.filled {
            _ if merged => LARGE,
            filled if filled < FEW => FEW,
            _ => BATCH_SIZE,
        };
        let count = wanted.min(self.buffers.len() / BUFFER_LEN);
        (self.offered, self.filled) = (count, 0);
        let mut chunks = self.buffers.chunks_exact_mut(BUFFER_LEN).take(count);
        let mut slices: [_; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.filled = receive(&mut slices[..count], &mut self.meta[..count])?.min(count);
        Ok(self.rows().map(|row| row.bytes.len().div_ceil(row.stride)).sum())
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn is_answerable(meta: &RecvMeta) -> bool {
    let to_many = |ip: IpAddr| ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    meta.addr.port() != 0 && !meta.dst_ip.is_some_and(|ip| to_many(ip.to_canonical()))
}

/// One spelling for one peer, so that equal addresses compare equal: no IPv4 in IPv6, no flow label.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V6(ip), SocketAddr::V6(v6)) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        (ip, _) => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(addr: &str, dst_ip: &str, len: usize, stride: usize) -> ReceiveBatch {
        let mut batch = ReceiveBatch::with_buffers(1);
        let fill = |slices: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]| {
            for (at, byte) in slices[0].iter_mut().enumerate() {
                *byte = at as u8;
            }
            meta[0] = RecvMeta::default();
            meta[0].addr = addr.parse().unwrap();
            meta[0].dst_ip = Some(dst_ip.parse().unwrap());
            (meta[0].len, meta[0].stride) = (len, stride);
            Ok(1)
        };
        batch.fill(fill).unwrap();
        batch
    }

    #[test]
    fn a_merged_row_is_cut_at_its_stride_with_a_short_tail() {
        let batch = batch("[::ffff:192.0.2.1]:9", "::ffff:192.0.2.2", 10, 4);
        let lens: Vec<_> = batch.iter().map(|datagram| datagram.bytes.len()).collect();
        assert_eq!(lens, [4, 4, 2]);
        let last = batch.iter().last().unwrap();
        assert_eq!(last.bytes, [8, 9]);
        assert_eq!(last.from, "192.0.2.1:9".parse().unwrap());
        assert_eq!(last.local_ip, Some("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_answered_is_left_out() {
        assert_eq!(batch("192.0.2.1:9", "192.0.2.2", 5, 5).iter().count(), 1);
        for (from, to, len) in [
            ("192.0.2.1:9", "192.0.2.2", 0),
            ("192.0.2.1:0", "192.0.2.2", 5),
            ("192.0.2.1:9", "255.255.255.255", 5),
            ("192.0.2.1:9", "224.0.0.1", 5),
            ("[2001:db8::1]:9", "ff02::1", 5),
        ] {
            assert_eq!(batch(from, to, len, len).iter().count(), 0, "{from} to {to}, {len} bytes");
        }
    }
}
