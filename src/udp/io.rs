//! What a socket does with datagrams, and what it answers.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::datagram::{ReceiveBatch, Transmit};

/// Sends and receives batches of datagrams. Nothing here blocks.
pub trait UdpIo {
    /// Sends `transmits` in order and answers how many went whole.
    ///
    /// If that is fewer than all, `transmits[n]` met an error; the next call, which should begin there,
    /// returns it. Of a transmit that went in part, `bytes` is what remains.
    ///
    /// # Errors
    /// About the first transmit: [`SendError::would_block`] means "again when the socket is writable",
    /// anything else that this datagram cannot go and should be given up; others may still go.
    fn send(&self, transmits: &mut [Transmit<'_>]) -> Result<usize, SendError>;

    /// Replaces what is in `batch` by the datagrams that wait, as many as fit; a few, if there were few before.
    /// Answers how many.
    ///
    /// Zero is possible: what came was unanswerable (see [`ReceiveBatch::iter`]) or ICMP errors only.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits. ICMP errors are not among the others: see
    /// [`UdpSocket::poll_error`](super::UdpSocket::poll_error).
    fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize>;

    /// How many segments of one transmit leave by one system call: 1 without GSO. May sink to 1.
    fn max_gso_segments(&self) -> usize;

    /// How datagrams leave at the moment.
    fn backend(&self) -> Backend;

    /// The address that the socket is bound to, its port never 0.
    fn local_addr(&self) -> SocketAddr;
}

/// How many datagrams one system call sends: the best that the kernel and the interface turned out to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Rows that the kernel cuts (GSO), several of them in a call.
    Offload,
    /// One datagram per message, many messages in a call (sendmmsg).
    Batch,
    /// One.
    Single,
}

/// Why a datagram did not leave, and for whom it was.
#[derive(Debug)]
pub struct SendError {
    /// The destination.
    pub to: SocketAddr,
    /// The kernel's reason.
    pub source: io::Error,
}

impl SendError {
    /// The socket's buffer is full; no fault of this datagram.
    #[must_use]
    pub fn would_block(&self) -> bool {
        self.source.kind() == io::ErrorKind::WouldBlock
    }

    /// The socket was shut down for sending: no datagram will ever leave.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }

    /// The datagram is larger than the interface's MTU, or than UDP can carry.
    #[must_use]
    pub fn is_too_big(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EMSGSIZE)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot send to {}: {}", self.to, self.source)
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        Self::new(error.source.kind(), error)
    }
}
