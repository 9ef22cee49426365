//! The UDP socket: quinn-udp's offloads, with errors that say whom they concern.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::datagram::{ReceiveBatch, Transmit, canonical};
use super::icmp::{self, IcmpError};
use super::{mmsg, options, sys};

/// What to ask of the kernel for each direction: 4 MiB, 3 ms of 10 Gbit/s.
pub const UDP_BUFFER_DEFAULT: usize = 4 << 20;

/// The most payload that one system call takes, in however many segments: an IPv4 packet's limit.
const MAX_SEND_LEN: usize = 65_507;

/// How often a call is repeated that may have failed for an ICMP error of another peer's datagram: the
/// kernel hands a pending error to whichever call comes next, once.
const PENDING_ERRORS_SKIPPED: usize = 3;

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
    /// [`UdpSocket::poll_error`].
    fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize>;

    /// How many segments of one transmit leave by one system call: 1 without GSO. May sink to 1.
    fn max_gso_segments(&self) -> usize;

    /// How many datagrams may come merged in one buffer: 1 without GRO.
    fn max_gro_segments(&self) -> usize;

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

/// How to set a socket up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Bytes to ask of the kernel for each direction; 0 leaves its own choice. It may grant less.
    pub udp_buffer: usize,
    /// Whether to use GSO and GRO where the kernel has them.
    pub offload: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { udp_buffer: UDP_BUFFER_DEFAULT, offload: true }
    }
}

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
        Ok(Self { socket, state, local_addr, is_ipv6, offload, has_sendmmsg })
    }

    /// The next ICMP error about a datagram that this socket sent, `None` when there is none (any more).
    ///
    /// # Errors
    /// What the kernel says of a broken socket; none is expected.
    pub fn poll_error(&self) -> io::Result<Option<IcmpError>> {
        icmp::next_error(self.socket.as_raw_fd())
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
                Err(error) if attempts < PENDING_ERRORS_SKIPPED && icmp::may_be_pending(&error) => {
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
            ecn: transmit.ecn.map(super::Ecn::codepoint),
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

    /// IPv4 as an IPv6 socket wants it.
    fn spelled(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            to => to,
        }
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

    fn state(&self) -> RwLockReadGuard<'_, UdpSocketState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UdpIo for UdpSocket {
    fn send(&self, transmits: &mut [Transmit<'_>]) -> Result<usize, SendError> {
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

    fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        let state = self.state();
        for _ in 0..=PENDING_ERRORS_SKIPPED {
            let socket = UdpSockRef::from(&self.socket);
            match batch.fill(|slices, meta| state.recv(socket, slices, meta)) {
                Err(error) if icmp::may_be_pending(&error) => {}
                result => return result,
            }
        }
        Ok(0) // ICMP errors come as fast as we read: let the caller look at them
    }

    fn max_gso_segments(&self) -> usize {
        if self.offload { self.state().max_gso_segments() } else { 1 }
    }

    fn max_gro_segments(&self) -> usize {
        if self.offload { self.state().gro_segments() } else { 1 }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::{Ecn, IcmpKind};
    use std::time::{Duration, Instant};

    const V4: &str = "127.0.0.1:0";
    const V6: &str = "[::1]:0";

    fn socket(addr: &str) -> UdpSocket {
        UdpSocket::bind(addr.parse().unwrap(), SocketOptions::default()).unwrap()
    }

    const BACKENDS: [Backend; 3] = [Backend::Offload, Backend::Batch, Backend::Single];

    /// A socket as on a machine that has nothing better.
    fn limited(addr: &str, backend: Backend) -> UdpSocket {
        let options = SocketOptions { offload: backend == Backend::Offload, ..SocketOptions::default() };
        let mut socket = UdpSocket::bind(addr.parse().unwrap(), options).unwrap();
        socket.has_sendmmsg &= backend != Backend::Single;
        assert_eq!(socket.backend(), backend);
        socket
    }

    fn transmit(to: SocketAddr, bytes: &[u8]) -> Transmit<'_> {
        Transmit { to, from: None, ecn: None, segment_size: None, bytes }
    }

    /// Sender, congestion bits, payload.
    type Datagram = (SocketAddr, Option<Ecn>, Vec<u8>);

    /// Datagrams until `count` are there, with the number of `receive` calls that brought any.
    fn collect(socket: &UdpSocket, count: usize) -> (Vec<Datagram>, usize) {
        let (mut batch, mut datagrams, mut calls) = (ReceiveBatch::new(), Vec::new(), 0);
        let deadline = Instant::now() + Duration::from_secs(5);
        while datagrams.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} datagrams came", datagrams.len());
            match socket.receive(&mut batch) {
                Ok(received) => {
                    assert_eq!(received, batch.iter().count());
                    datagrams.extend(batch.iter().map(|d| (d.from, d.ecn, d.bytes.to_vec())));
                    calls += 1;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(socket.receive(&mut batch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        (datagrams, calls)
    }

    /// 40 datagrams of 1200 bytes and one of 77.
    fn pattern() -> Vec<u8> {
        (0..40 * 1200 + 77u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn carries_a_row_in_order(addr: &str, offload: bool) -> usize {
        let options = SocketOptions { offload, ..SocketOptions::default() };
        let here = UdpSocket::bind(addr.parse().unwrap(), options).unwrap();
        let there = UdpSocket::bind(addr.parse().unwrap(), options).unwrap();
        let bytes = pattern();
        let mut row = [Transmit {
            segment_size: Some(1200),
            ecn: Some(Ecn::Ect0),
            ..transmit(there.local_addr(), &bytes)
        }];
        assert_eq!(here.send(&mut row).unwrap(), 1);
        assert!(row[0].bytes.is_empty());
        let (datagrams, calls) = collect(&there, 41);
        for (sent, (from, ecn, received)) in bytes.chunks(1200).zip(&datagrams) {
            assert_eq!((*from, *ecn, &received[..]), (here.local_addr(), Some(Ecn::Ect0), sent));
        }
        calls
    }

    #[test]
    fn a_row_of_segments_arrives_as_datagrams_with_and_without_offload() {
        for addr in [V4, V6] {
            assert_eq!(carries_a_row_in_order(addr, true), 1, "one system call brings all 41");
            assert!(carries_a_row_in_order(addr, false) > 1);
        }
    }

    #[test]
    fn a_transmit_larger_than_any_packet_is_split() {
        let (here, there) = (socket(V4), socket(V4));
        let bytes = vec![7; 200 * 1000];
        let row = Transmit { segment_size: Some(1000), ..transmit(there.local_addr(), &bytes) };
        assert_eq!(here.send(&mut [row]).unwrap(), 1);
        let (datagrams, _) = collect(&there, 200);
        assert!(datagrams.iter().all(|(.., bytes)| bytes.len() == 1000));
    }

    #[test]
    fn every_congestion_codepoint_survives_even_in_merged_rows() {
        for (addr, dual_stack) in [(V4, false), (V6, false), (V4, true)] {
            let here = socket(addr);
            let there = if dual_stack { socket("[::]:0") } else { socket(addr) };
            let to = SocketAddr::new(here.local_addr().ip(), there.local_addr().port());
            for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
                let mut row = [Transmit { segment_size: Some(5), ecn, ..transmit(to, b"hello world") }];
                here.send(&mut row).unwrap();
                let (datagrams, _) = collect(&there, 3);
                assert!(datagrams.iter().all(|(_, bits, _)| *bits == ecn), "{to} {datagrams:?}");
            }
        }
    }

    #[test]
    fn a_dual_stack_socket_talks_to_both_and_spells_ipv4_plainly() {
        let both = UdpSocket::bind_any(0, SocketOptions::default()).unwrap();
        assert!(both.local_addr().is_ipv6(), "this machine has IPv6");
        for addr in [V4, V6] {
            let peer = socket(addr);
            let to = SocketAddr::new(peer.local_addr().ip(), both.local_addr().port());
            peer.send(&mut [transmit(to, b"there")]).unwrap();
            let mut batch = ReceiveBatch::new();
            assert_eq!(both.receive(&mut batch).unwrap(), 1);
            let got = batch.iter().next().unwrap();
            assert_eq!((got.from, got.local_ip), (peer.local_addr(), Some(to.ip())));

            let reply = Transmit { from: got.local_ip, ..transmit(got.from, b"back") };
            assert_eq!(both.send(&mut [reply]).unwrap(), 1);
            assert_eq!(collect(&peer, 1).0[0].0, to);
        }
    }

    #[test]
    fn a_reply_leaves_from_the_address_it_is_told() {
        let (any, peer) = (socket("0.0.0.0:0"), socket(V4));
        let from = "127.0.0.9".parse().unwrap();
        let told = Transmit { from: Some(from), ..transmit(peer.local_addr(), b"x") };
        any.send(&mut [told]).unwrap();
        assert_eq!(collect(&peer, 1).0[0].0, SocketAddr::new(from, any.local_addr().port()));
    }

    #[test]
    fn many_transmits_leave_in_order_each_with_its_source_and_congestion_bits() {
        for (backend, any) in
            BACKENDS.into_iter().flat_map(|backend| [(backend, "0.0.0.0:0"), (backend, "[::]:0")])
        {
            let (here, there) = (limited(any, backend), socket(V4));
            let to = there.local_addr();
            let plain = transmit(to, b"plain");
            let row = Transmit { segment_size: Some(4), ..transmit(to, b"row of seven") };
            let told = Transmit { from: Some("127.0.0.9".parse().unwrap()), ..row };
            let mut batch = [
                plain,
                Transmit { ecn: Some(Ecn::Ect0), ..row },
                transmit(to, b""),
                Transmit { ecn: Some(Ecn::Ce), ..told },
                Transmit { ecn: Some(Ecn::Ect1), ..plain },
            ];
            assert_eq!(here.send(&mut batch).unwrap(), 5);
            let (datagrams, _) = collect(&there, 8);
            let port = here.local_addr().port();
            let lines: Vec<_> = datagrams
                .iter()
                .map(|(from, ecn, bytes)| {
                    assert_eq!(from.port(), port);
                    (from.ip().to_string(), *ecn, str::from_utf8(bytes).unwrap())
                })
                .collect();
            let line = |ip: &str, ecn, text| (ip.to_owned(), ecn, text);
            let rest = ["row ", "of s", "even"];
            let expected: Vec<_> = [line("127.0.0.1", None, "plain")]
                .into_iter()
                .chain(rest.map(|text| line("127.0.0.1", Some(Ecn::Ect0), text)))
                .chain(rest.map(|text| line("127.0.0.9", Some(Ecn::Ce), text)))
                .chain([line("127.0.0.1", Some(Ecn::Ect1), "plain")])
                .collect();
            assert_eq!(lines, expected, "{backend:?} {any}");
        }
    }

    #[test]
    fn an_ipv6_source_is_kept_by_every_backend() {
        for backend in BACKENDS {
            let (here, there) = (limited("[::]:0", backend), socket(V6));
            let from = Some("::1".parse().unwrap());
            let one = Transmit { from, ecn: Some(Ecn::Ce), ..transmit(there.local_addr(), b"x") };
            assert_eq!(here.send(&mut [one; 70]).unwrap(), 70);
            let (datagrams, _) = collect(&there, 70);
            assert!(
                datagrams
                    .iter()
                    .all(|(from, ecn, _)| from.ip() == "::1".parse::<IpAddr>().unwrap()
                        && *ecn == Some(Ecn::Ce))
            );
        }
    }

    #[test]
    fn a_closed_port_is_reported_and_disturbs_nobody_else() {
        for (backend, (addr, dual_stack)) in
            BACKENDS.into_iter().flat_map(|b| [(V4, false), (V6, false), (V4, true)].map(|case| (b, case)))
        {
            let here = limited(if dual_stack { "[::]:0" } else { addr }, backend);
            let there = socket(addr);
            let closed = socket(addr).local_addr();
            for round in 0..10u8 {
                here.send(&mut [transmit(closed, b"segment"), transmit(there.local_addr(), &[round])])
                    .unwrap();
                let to = SocketAddr::new(there.local_addr().ip(), here.local_addr().port());
                there.send(&mut [transmit(to, &[round])]).unwrap();
                assert_eq!(collect(&here, 1).0[0].2, [round]);
            }
            assert_eq!(collect(&there, 10).0.len(), 10);
            let mut reports = 0;
            while let Some(error) = here.poll_error().unwrap() {
                assert_eq!((error.to, error.kind), (closed, IcmpKind::Refused));
                assert_eq!(error.quoted(), b"segment");
                reports += 1;
            }
            assert!(reports > 0);
        }
    }

    #[test]
    fn a_datagram_that_cannot_go_is_named_and_the_next_one_goes() {
        BACKENDS.into_iter().for_each(names_what_cannot_go);
    }

    fn names_what_cannot_go(backend: Backend) {
        let (here, there) = (limited(V4, backend), socket(V4));
        let segments = here.max_gso_segments();
        let large = vec![0; 70_000];
        let to = there.local_addr();
        let no_port = SocketAddr::new(to.ip(), 0);
        let no_source = Some("255.255.255.255".parse().unwrap());
        let mut batch = [
            transmit(to, b"1"),
            transmit(to, &large),
            Transmit { from: no_source, segment_size: Some(2), ..transmit(to, b"abcdef") },
            transmit(no_port, b"x"),
            transmit(to, b"2"),
        ];
        assert_eq!(here.send(&mut batch).unwrap(), 1);
        let error = here.send(&mut batch[1..]).unwrap_err();
        assert!(error.is_too_big() && error.to == to, "{error}");
        let error = here.send(&mut batch[2..]).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::EINVAL), "{error}");
        assert_eq!(here.max_gso_segments(), segments, "one bad source address turned offload off");
        let error = here.send(&mut batch[3..]).unwrap_err();
        assert!(error.to_string().starts_with("cannot send to 127.0.0.1:0: "), "{error}");
        assert_eq!(here.send(&mut batch[4..]).unwrap(), 1);
        let (datagrams, _) = collect(&there, 2);
        assert_eq!([&datagrams[0].2[..], &datagrams[1].2[..]], [b"1", b"2"]);
        assert_eq!(here.poll_error().unwrap(), None, "our own kernel's refusals are no ICMP errors");
    }

    /// The kernel refuses GSO without checksums with EINVAL, as interfaces without checksums do with EIO.
    #[test]
    fn a_row_goes_segment_by_segment_where_offload_proves_unsupported() {
        let (here, there) = (socket(V4), socket(V4));
        assert!(here.max_gso_segments() > 1, "this kernel has GSO");
        options::set(&here.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let bytes = pattern();
        let row = Transmit { segment_size: Some(1200), ..transmit(there.local_addr(), &bytes) };
        assert_eq!(here.send(&mut [row]).unwrap(), 1);
        assert_eq!(here.max_gso_segments(), 1);
        let (datagrams, _) = collect(&there, 41);
        assert!(bytes.chunks(1200).eq(datagrams.iter().map(|(.., bytes)| &bytes[..])));
    }

    #[test]
    fn a_batch_stops_at_what_cannot_go_and_keeps_the_rest() {
        for backend in BACKENDS {
            let (here, there) = (limited(V4, backend), socket(V4));
            let bytes = vec![1; 3000];
            let row = Transmit { segment_size: Some(1000), ..transmit(there.local_addr(), &bytes) };
            let large = vec![2; 70_000];
            let mut batch = [row, transmit(there.local_addr(), &large), row];
            assert_eq!(here.send(&mut batch).unwrap(), 1);
            assert_eq!(batch.map(|transmit| transmit.bytes.len()), [0, 70_000, 3000]);
            assert_eq!(collect(&there, 3).0.len(), 3);
        }
    }

    #[test]
    fn only_a_bound_udp_socket_is_adopted() {
        let refused = |fd: BorrowedFd<'_>| {
            UdpSocket::from_fd(fd, SocketOptions::default()).unwrap_err().kind()
                == io::ErrorKind::InvalidInput
        };
        assert!(refused(std::net::TcpListener::bind(V4).unwrap().as_fd()));
        assert!(refused(std::fs::File::open("/dev/null").unwrap().as_fd()));
        assert!(refused(Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap().as_fd()));

        let theirs = std::net::UdpSocket::bind(V4).unwrap();
        let ours = UdpSocket::from_fd(theirs.as_fd(), SocketOptions::default()).unwrap();
        assert_eq!(ours.local_addr(), theirs.local_addr().unwrap());
        drop(theirs);
        ours.send(&mut [transmit(ours.local_addr(), b"still open")]).unwrap();
        assert_eq!(collect(&ours, 1).0[0].2, b"still open");
    }

    #[test]
    fn a_taken_address_keeps_its_errno() {
        let first = socket(V4);
        let error = UdpSocket::bind(first.local_addr(), SocketOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }
}
