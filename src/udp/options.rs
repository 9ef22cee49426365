//! The socket options: what quinn-udp sets, and what we set besides.
#![allow(unsafe_code)]

use std::io;

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::Socket;

/// What to ask of the kernel for each direction: 4 MiB, 3 ms of 10 Gbit/s.
pub const UDP_BUFFER_DEFAULT: usize = 4 << 20;

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

/// Sets a bound socket up: non-blocking, unfragmented, with ECN, destination addresses, ICMP errors.
pub(super) fn apply(socket: &Socket, options: SocketOptions) -> io::Result<UdpSocketState> {
    let state = prepare(socket, options.offload)?;
    state.enable_transport_errors(UdpSockRef::from(socket))?;
    if options.udp_buffer > 0 {
        enlarge_buffers(socket, options.udp_buffer);
    }
    Ok(state)
}

/// quinn-udp's own probing and setting, corrected. May be repeated.
pub(super) fn prepare(socket: &Socket, offload: bool) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // quinn-udp 0.6.3 asks for timestamps that we do not read, and with them its control buffer (96
        // bytes) is too short for a merged row of datagrams: the ECN bits, which come last, fall off.
        set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0)?;
        if !offload && state.gro_segments() > 1 {
            set(socket, libc::SOL_UDP, libc::UDP_GRO, 0)?;
        }
    }
    Ok(state)
}

/// Asks for buffers of `bytes` each way. What the kernel does not grant is no error: less is slower.
fn enlarge_buffers(socket: &Socket, bytes: usize) {
    let bytes = bytes.min(i32::MAX as usize / 2); // the kernel doubles it
    let _ = socket.set_recv_buffer_size(bytes);
    let _ = socket.set_send_buffer_size(bytes);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // The system's limit (often 208 KiB) does not bind an administrator.
        if socket.recv_buffer_size().is_ok_and(|granted| granted < bytes) {
            let _ = set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes as i32);
        }
        if socket.send_buffer_size().is_ok_and(|granted| granted < bytes) {
            let _ = set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes as i32);
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn set(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is a live int and `length` its size.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    super::sys::check(result).map(drop)
}
