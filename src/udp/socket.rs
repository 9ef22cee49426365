//! The UDP socket, on top of quinn-udp's offloads. How it sends is in `send`.

mod send;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::datagram::{ReceiveBatch, Transmit, canonical};
use super::icmp::{self, IcmpError};
use super::io::{Backend, SendError, UdpIo};
use super::options::{self, SocketOptions};
use super::{mmsg, sys};

/// How often a call is repeated that may have failed for an ICMP error of another peer's datagram: the
/// kernel hands a pending error to whichever call comes next, once.
const PENDING_ERRORS_SKIPPED: usize = 3;

/// A bound, non-blocking UDP socket that never fragments, closed on exec.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    /// Locked for writing only to undo what quinn-udp concluded wrongly: see `restore_offload`.
    state: RwLock<UdpSocketState>,
    local_addr: SocketAddr,
    is_ipv6: bool,
    offload: bool,
    has_sendmmsg: bool,
    /// A call has met a pending ICMP error, which the kernel tells once.
    met_error: AtomicBool,
}

impl UdpSocket {
    /// A socket bound to `addr`; port 0 takes a free one. `[::]` takes IPv4 too.
    ///
    /// # Errors
    /// When the address is taken, not ours or not allowed; the text names it.
    pub fn bind(addr: SocketAddr, options: SocketOptions) -> io::Result<Self> {
        Self::bind_as(addr, false, options)
    }

    /// One more socket bound to this one's address. The kernel's hash deals arrivals out to all of them,
    /// unless a program is attached that does it better: see [`Steering`](super::Steering).
    pub(super) fn twin(&self, options: SocketOptions) -> io::Result<Self> {
        // Not before it is bound: another program's port would not be in use but shared.
        self.socket.set_reuse_port(true)?;
        Self::bind_as(self.local_addr, true, options)
    }

    fn bind_as(addr: SocketAddr, shares_port: bool, options: SocketOptions) -> io::Result<Self> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
            if addr.is_ipv6() {
                socket.set_only_v6(!addr.ip().is_unspecified())?;
            }
            if shares_port {
                socket.set_reuse_port(true)?;
            }
            socket.bind(&addr.into())?;
            Self::new(socket, options)
        };
        bind().inspect_err(|error| log::debug!("cannot bind {addr}: {error}"))
    }

    /// A socket bound to every address of the machine, IPv6 and IPv4, or IPv4 where there is no IPv6.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_any(port: u16, options: SocketOptions) -> io::Result<Self> {
        let any = |ip: IpAddr| Self::bind(SocketAddr::new(ip, port), options);
        match any(Ipv6Addr::UNSPECIFIED.into()) {
            // A port that is taken is no reason to listen to half of the world.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => any(Ipv4Addr::UNSPECIFIED.into()),
            result => result,
        }
    }

    /// A socket that shares the caller's `fd` (by dup: the caller still closes its own). What we set on it, such
    /// as non-blocking and ICMP errors, is so for both.
    ///
    /// # Errors
    /// `InvalidInput` when it is not a UDP socket that is bound to a port.
    pub fn from_fd(fd: BorrowedFd<'_>, options: SocketOptions) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
        let theirs = SockRef::from(&fd);
        let is_udp = || {
            let internet = matches!(theirs.domain()?, Domain::IPV4 | Domain::IPV6);
            Ok::<_, io::Error>(internet && theirs.protocol()? == Some(Protocol::UDP))
        };
        if !is_udp().map_err(|error| invalid(&format!("not a socket: {error}")))? {
            return Err(invalid("not a UDP socket"));
        }
        if theirs.local_addr()?.as_socket().is_none_or(|local| local.port() == 0) {
            return Err(invalid("the socket is not bound to a port"));
        }
        Self::new(theirs.try_clone()?, options)
    }

    /// [`from_fd`](Self::from_fd) for a descriptor number as C has it.
    ///
    /// # Errors
    /// As [`from_fd`](Self::from_fd), and when the number is no open descriptor.
    pub fn from_raw(fd: RawFd, options: SocketOptions) -> io::Result<Self> {
        Self::from_fd(sys::duplicate(fd)?.as_fd(), options)
    }

    fn new(socket: Socket, options: SocketOptions) -> io::Result<Self> {
        let state = options::apply(&socket, options)?;
        let local_addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        let is_ipv6 = local_addr.is_ipv6();
        let has_sendmmsg = mmsg::is_supported(socket.as_raw_fd());
        let (state, offload) = (RwLock::new(state), options.offload);
        Ok(Self {
            socket,
            state,
            local_addr,
            is_ipv6,
            offload,
            has_sendmmsg,
            met_error: AtomicBool::new(false),
        })
    }

    /// Whether a call has met an ICMP error since this was last asked: for who receives without waiting first, and so
    /// is not told by the poller.
    pub fn has_met_error(&self) -> bool {
        self.met_error.load(Ordering::Relaxed) && self.met_error.swap(false, Ordering::Relaxed)
    }

    /// An error of a call that is about an earlier datagram, so that the call is to be repeated.
    fn is_pending(&self, error: &io::Error) -> bool {
        let is_pending = icmp::may_be_pending(error);
        if is_pending {
            self.met_error.store(true, Ordering::Relaxed);
        }
        is_pending
    }

    /// The next ICMP error about a datagram that this socket sent, `None` when there is none (any more).
    ///
    /// # Errors
    /// What the kernel says of a broken socket; none is expected.
    pub fn poll_error(&self) -> io::Result<Option<IcmpError>> {
        icmp::next_error(self.socket.as_raw_fd())
    }

    /// IPv4 as an IPv6 socket wants it.
    fn spelled(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            to => to,
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, UdpSocketState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UdpIo for UdpSocket {
    fn send(&self, transmits: &mut [Transmit<'_>]) -> Result<usize, SendError> {
        self.send_all(transmits)
    }

    fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        let state = self.state();
        for _ in 0..=PENDING_ERRORS_SKIPPED {
            let socket = UdpSockRef::from(&self.socket);
            match batch.fill(|slices, meta| state.recv(socket, slices, meta)) {
                Err(error) if self.is_pending(&error) => {}
                result => return result,
            }
        }
        Ok(0) // ICMP errors come as fast as we read: let the caller look at them
    }

    fn max_gso_segments(&self) -> usize {
        if self.offload { self.state().max_gso_segments() } else { 1 }
    }

    fn backend(&self) -> Backend {
        match self.has_sendmmsg {
            _ if self.max_gso_segments() > 1 => Backend::Offload,
            true => Backend::Batch,
            false => Backend::Single,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        canonical(self.local_addr)
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
