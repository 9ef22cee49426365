//! Many datagrams to the kernel by one call (sendmmsg), each with its own destination, source and ECN bits.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::ptr;

use socket2::SockAddr;

use super::Ecn;
use super::sys::check;

/// Most messages of one call: what 64 KiB of segments come to, and then some for small ones.
pub(super) const MESSAGES: usize = 64;

/// Messages to one destination, alike in all but their bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// In the spelling of the socket's family.
    pub(super) to: SocketAddr,
    /// `None`: the kernel chooses.
    pub(super) from: Option<IpAddr>,
    pub(super) ecn: Option<Ecn>,
    /// Bytes in each message but the last, which may be shorter; at least 1.
    pub(super) message_len: usize,
    /// The kernel cuts each message into datagrams of this size (GSO).
    pub(super) segment_size: Option<u16>,
    /// The messages, one after another.
    pub(super) bytes: &'a [u8],
}

impl Row<'_> {
    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.message_len.max(1))
    }
}

/// Whether this kernel has the call and lets us use it.
pub(super) fn is_supported(socket: RawFd) -> bool {
    // SAFETY: no messages, so the pointer is not read.
    check(unsafe { libc::sendmmsg(socket, ptr::null_mut(), 0, 0) }).is_ok()
}

/// Sends the messages of `rows` in order, at most [`MESSAGES`] of them. Answers how many have gone.
///
/// # Errors
/// About the first message: nothing has gone. If another cannot go, those before it have; only the next call
/// that begins with it says why.
pub(super) fn send(socket: RawFd, rows: &[Row<'_>]) -> io::Result<usize> {
    let rows = &rows[..rows.len().min(MESSAGES)];
    let mut envelopes: Vec<Envelope> = rows.iter().map(Envelope::new).collect();
    let messages = rows.iter().enumerate().flat_map(|(row, of)| of.messages().map(move |bytes| (row, bytes)));
    let (mut parts, mut headers) = (Vec::with_capacity(MESSAGES), Vec::with_capacity(MESSAGES));
    for (row, bytes) in messages.take(MESSAGES) {
        // sendmmsg only reads through this pointer, which is mutable because recvmmsg shares the type.
        parts.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        headers.push(envelopes[row].header());
    }
    for (part, header) in parts.iter_mut().zip(&mut headers) {
        header.msg_hdr.msg_iov = part; // now that `parts` does not move any more
        header.msg_hdr.msg_iovlen = 1;
    }
    let count = headers.len() as libc::c_uint;
    loop {
        // SAFETY: `count` headers, whose names and control messages are in `envelopes`, whose iovecs are in
        // `parts` and point into the rows' bytes: all of it lives to the end of this function and is only read,
        // but for `msg_len`.
        match check(unsafe { libc::sendmmsg(socket, headers.as_mut_ptr(), count, 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|sent| sent as usize),
        }
    }
}

/// Address and control messages of one row.
struct Envelope {
    to: SockAddr,
    control: Control,
}

impl Envelope {
    fn new(row: &Row<'_>) -> Self {
        let mut control = Control { words: [0; CONTROL_WORDS], len: 0 };
        // Always one of the two, as quinn-udp does: an adopted socket's own mark must not shine through.
        let ecn = row.ecn.map_or(0, |ecn| ecn.codepoint() as libc::c_int);
        match row.to.ip().to_canonical() {
            IpAddr::V4(_) => control.push(libc::IPPROTO_IP, libc::IP_TOS, ecn),
            IpAddr::V6(_) => control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ecn),
        }
        if let Some(size) = row.segment_size {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, size);
        }
        match row.from {
            Some(IpAddr::V4(ip)) => {
                let ip = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let none = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: ip, ipi_addr: none };
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Some(IpAddr::V6(ip)) => {
                let ip = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: ip };
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            None => {}
        }
        Self { to: row.to.into(), control }
    }

    /// A header without bytes that is good as long as the envelope stays where it is.
    fn header(&mut self) -> libc::mmsghdr {
        // SAFETY: all-zero is a valid mmsghdr: null pointers with zero lengths.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        header.msg_hdr.msg_name = self.to.as_ptr().cast_mut().cast(); // only read, see `send`
        header.msg_hdr.msg_namelen = self.to.len();
        header.msg_hdr.msg_control = self.control.words.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = self.control.len as _;
        header
    }
}

/// Room for the three largest: ECN bits, segment size and an IPv6 source take 88 bytes.
const CONTROL_WORDS: usize = 12;

/// Control messages one after another, aligned for their headers.
struct Control {
    words: [u64; CONTROL_WORDS],
    /// Bytes.
    len: usize,
}

impl Control {
    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        // SAFETY: computes a length, touches nothing.
        let space = unsafe { libc::CMSG_SPACE(size_of::<T>() as u32) } as usize;
        assert!(self.len + space <= size_of_val(&self.words), "CONTROL_WORDS is for all that is ever pushed");
        // SAFETY: all-zero is a valid cmsghdr, padding of other C libraries included.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        // SAFETY: computes a length, touches nothing.
        header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<T>() as u32) } as _;
        (header.cmsg_level, header.cmsg_type) = (level, kind);
        // SAFETY: `len` is within `words`, by the assertion above.
        let place: *mut libc::cmsghdr = unsafe { self.words.as_mut_ptr().byte_add(self.len) }.cast();
        // SAFETY: `space` bytes from `place` on are within `words`; `len` is a multiple of the alignment.
        unsafe { place.write(header) };
        // SAFETY: stays within the `space` bytes.
        let data = unsafe { libc::CMSG_DATA(place) };
        // SAFETY: CMSG_SPACE counts the data of a T after its header; it may be unaligned.
        unsafe { data.cast::<T>().write_unaligned(value) };
        self.len += space;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    fn row(to: SocketAddr, message_len: usize, bytes: &[u8]) -> Row<'_> {
        Row { to, from: None, ecn: None, message_len, segment_size: None, bytes }
    }

    #[test]
    fn rows_leave_in_order_and_at_most_64_messages_at_once() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(is_supported(socket.as_raw_fd()));
        let to = socket.local_addr().unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(send(socket.as_raw_fd(), &[row(to, 100, &bytes), row(to, 3, &bytes)]).unwrap(), 64);
        let mut datagram = [0; 512];
        let lens: Vec<_> = (0..64).map(|_| socket.recv(&mut datagram).unwrap()).collect();
        assert_eq!(lens[..4], [100, 100, 56, 3]);
        assert!(lens[4..].iter().all(|len| *len == 3));
    }

    #[test]
    fn a_socket_that_is_none_has_an_errno() {
        assert!(!is_supported(-1));
        let error = send(-1, &[row("127.0.0.1:9".parse().unwrap(), 1, b"x")]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
