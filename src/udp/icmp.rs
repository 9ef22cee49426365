//! What routers and hosts say of datagrams that they did not deliver.
//!
//! quinn-udp reads the same queue but names only the router that complained; we need the peer.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;

use socket2::SockAddrStorage;

use super::datagram::canonical;

/// How much of the undelivered datagram is kept: a TCP header without options, and some more.
const QUOTE_LEN: usize = 64;

/// An ICMP error about a datagram of ours. Anybody can forge one who guesses the ports: a hint, to be
/// checked against what is in flight (RFC 5927 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Where the datagram was to go.
    pub to: SocketAddr,
    /// What became of it.
    pub kind: IcmpKind,
    quote: [u8; QUOTE_LEN],
    quote_len: usize,
}

/// Why a datagram was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Nobody has the port.
    Refused,
    /// No way to the host or network, or a filter in between.
    Unreachable,
    /// It did not fit; the largest IP packet that would, headers included, or 0 if the router does not say.
    TooBig(u32),
    /// Anything else, by errno.
    Other(i32),
}

impl IcmpError {
    /// The beginning of the datagram, as far as the router quoted it: at most 64 bytes, maybe none.
    #[must_use]
    pub fn quoted(&self) -> &[u8] {
        &self.quote[..self.quote_len]
    }
}

/// Whether a call may have failed with `error` for an ICMP error about another peer's datagram.
pub(super) fn may_be_pending(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EMSGSIZE
                | libc::EACCES
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
                | NO_NETWORK
        )
    )
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_NETWORK: i32 = libc::ENONET;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const NO_NETWORK: i32 = libc::ENETDOWN;

/// Takes the next ICMP error from the queue of a socket that has `IP_RECVERR` set.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn next_error(socket: RawFd) -> io::Result<Option<IcmpError>> {
    loop {
        let mut quote = [0u8; QUOTE_LEN];
        let mut control = [0u64; 64]; // aligned for cmsghdr; the error needs 64 bytes of it
        let mut name = SockAddrStorage::zeroed();
        let mut part = libc::iovec { iov_base: quote.as_mut_ptr().cast(), iov_len: quote.len() };
        // SAFETY: all-zero is a valid msghdr: null pointers with zero lengths.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = name.size_of();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: every pointer in `message` is to a live local of the length given beside it.
        let length =
            unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            }
        };
        // SAFETY: recvmsg has just filled `message`, and `control` is still there.
        let Some(report) = (unsafe { extended_error(&message) }) else { continue };
        // SAFETY: the kernel wrote `msg_namelen` bytes of a socket address there, all others are zero.
        let address = unsafe { socket2::SockAddr::new(name, message.msg_namelen) };
        if let (Some(kind), Some(to)) = (classify(&report), address.as_socket()) {
            let quote_len = length.min(QUOTE_LEN);
            return Ok(Some(IcmpError { to: canonical(to), kind, quote, quote_len }));
        }
    }
}

/// Elsewhere there is no such queue.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn next_error(_: RawFd) -> io::Result<Option<IcmpError>> {
    Ok(None)
}

/// The error report among the control messages.
///
/// # Safety
/// `message` was filled by recvmsg and its control buffer is alive.
#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe fn extended_error(message: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: the contract of this function.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a header within the control buffer by CMSG_FIRSTHDR and CMSG_NXTHDR.
    while let Some(header) = unsafe { next.as_ref() } {
        let kind = (header.cmsg_level, header.cmsg_type);
        // SAFETY: computes a length, touches nothing.
        let whole = unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) };
        if matches!(kind, (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR))
            && header.cmsg_len >= whole as _
        {
            // SAFETY: stays within the message whose header this is.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: the length checked above covers one report; it may be unaligned.
            return Some(unsafe { ptr::read_unaligned(data.cast()) });
        }
        // SAFETY: `header` is within `message`'s control buffer.
        next = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// What the report means, or `None` if our own kernel made it: then the send has failed already.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn classify(report: &libc::sock_extended_err) -> Option<IcmpKind> {
    if !matches!(report.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6) {
        return None;
    }
    Some(match report.ee_errno as i32 {
        libc::ECONNREFUSED => IcmpKind::Refused,
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | NO_NETWORK | libc::EACCES => {
            IcmpKind::Unreachable
        }
        libc::EMSGSIZE => IcmpKind::TooBig(report.ee_info),
        errno => IcmpKind::Other(errno),
    })
}
