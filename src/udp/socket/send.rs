//! How datagrams leave: many rows by one call, or one by one where the kernel, or one datagram, wants that.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::PoisonError;

use quinn_udp::UdpSockRef;

use super::super::io::{SendError, UdpIo};
use super::super::{Ecn, Transmit, mmsg, options};
use super::{PENDING_ERRORS_SKIPPED, UdpSocket};

/// The most payload that one system call takes, in however many segments: an IPv4 packet's limit.
const MAX_SEND_LEN: usize = 65_507;

/// What quinn-udp takes for "this kernel or interface lacks GSO, or ECN".
fn is_doubt(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO))
}

/// Bytes of a transmit that leave as one message, if the kernel cuts messages into so many segments.
fn head_len(transmit: &Transmit<'_>, max_segments: usize) -> usize {
    let len = transmit.bytes.len();
    transmit.segment_size.map_or(len, |size| {
        let size = size.max(1);
        len.min(size * max_segments.min(MAX_SEND_LEN / size).max(1))
    })
}

fn source(transmit: &Transmit<'_>) -> Option<IpAddr> {
    transmit.from.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_canonical())
}

impl UdpSocket {
    /// See [`UdpIo::send`].
    pub(super) fn send_all(&self, transmits: &mut [Transmit<'_>]) -> Result<usize, SendError> {
        let mut gone = 0;
        loop {
            gone += transmits[gone..].iter().take_while(|transmit| transmit.bytes.is_empty()).count();
            let rest = &mut transmits[gone..];
            let Some(to) = rest.first().map(|transmit| transmit.to) else { return Ok(gone) };
            let result = if self.has_many(rest) {
                match self.send_many(rest) {
                    // What the first one met, in its own call: it may be another's ICMP error, or GSO's fault.
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.send_next(&mut rest[0]),
                    result => result,
                }
            } else {
                self.send_next(&mut rest[0])
            };
            match result {
                Ok(()) => {}
                Err(_) if gone > 0 => return Ok(gone),
                Err(source) => return Err(SendError { to, source }),
            }
        }
    }

    /// Sends the head of one transmit, as much as one message takes, moving `bytes` past it.
    fn send_next(&self, transmit: &mut Transmit<'_>) -> io::Result<()> {
        if transmit.to.port() == 0 {
            // The kernel's EINVAL would be taken for a missing feature.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "port 0 is no destination"));
        }
        let (mut attempts, mut feature_doubted) = (0, false);
        loop {
            let (head, rest) = transmit.bytes.split_at(head_len(transmit, self.max_gso_segments()));
            match self.send_head(transmit, head) {
                Ok(()) => transmit.bytes = rest,
                // The interface's queue was full and dropped it: lost, like a datagram in any other
                // queue. (Without IP_RECVERR the kernel would not even say so.)
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => transmit.bytes = rest,
                Err(error) if attempts < PENDING_ERRORS_SKIPPED && self.is_pending(&error) => {
                    attempts += 1;
                    continue;
                }
                // GSO seems not to work here; quinn-udp has noted it, and the next round sends one segment.
                Err(error) if !feature_doubted && is_doubt(&error) => {
                    feature_doubted = true;
                    continue;
                }
                Err(error) => {
                    if feature_doubted && error.kind() != io::ErrorKind::WouldBlock {
                        self.restore_offload();
                    }
                    return Err(error);
                }
            }
            return Ok(());
        }
    }

    fn send_head(&self, transmit: &Transmit<'_>, head: &[u8]) -> io::Result<()> {
        let contents = quinn_udp::Transmit {
            destination: self.spelled(transmit.to),
            ecn: transmit.ecn.map(Ecn::codepoint),
            contents: head,
            segment_size: transmit.segment_size,
            src_ip: source(transmit),
        };
        self.state().try_send(UdpSockRef::from(&self.socket), &contents)
    }

    /// Sends as many heads as one call takes, moving `bytes` past what has gone. An error is about the first.
    fn send_many(&self, transmits: &mut [Transmit<'_>]) -> io::Result<()> {
        let segments = self.max_gso_segments();
        let mut room = mmsg::MESSAGES;
        let mut rows = Vec::with_capacity(transmits.len().min(room));
        for transmit in transmits.iter() {
            if room == 0 || transmit.to.port() == 0 {
                break;
            }
            let message_len = head_len(transmit, segments).max(1);
            let is_cut = transmit.segment_size.filter(|size| *size < message_len);
            rows.push(mmsg::Row {
                to: self.spelled(transmit.to),
                from: source(transmit),
                ecn: transmit.ecn,
                message_len,
                segment_size: is_cut.and_then(|size| u16::try_from(size).ok()),
                bytes: transmit.bytes,
            });
            room = room.saturating_sub(transmit.bytes.len().div_ceil(message_len));
        }
        let mut sent = mmsg::send(self.socket.as_raw_fd(), &rows)?;
        for transmit in transmits {
            while sent > 0 && !transmit.bytes.is_empty() {
                transmit.bytes = &transmit.bytes[head_len(transmit, segments)..];
                sent -= 1;
            }
        }
        Ok(())
    }

    /// Whether one call more than pays for itself.
    fn has_many(&self, transmits: &[Transmit<'_>]) -> bool {
        let [first, others @ ..] = transmits else { return false };
        let is_long = || head_len(first, self.max_gso_segments()) < first.bytes.len();
        self.has_sendmmsg && first.to.port() != 0 && (!others.is_empty() || is_long())
    }

    /// Turns offload on again after a datagram that fails even alone.
    ///
    /// quinn-udp takes every EINVAL for a missing feature and does without GSO and ECN from then on. But
    /// a source address that has gone or a segment above the MTU looks the same, and must not slow down
    /// every other peer for ever. GSO stays off only where the same bytes went through without it.
    fn restore_offload(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match options::prepare(&self.socket, self.offload) {
            Ok(fresh) => *state = fresh,
            Err(error) => log::debug!("cannot probe the socket's features again: {error}"),
        }
    }
}
