//! One UDP address, several sockets: who gets a datagram, and how to know it beforehand.
//!
//! The kernel's own choice among sockets that share a port is a hash of its own, which nobody can ask for in
//! advance: the answers to a connection that is begun here would come to a socket that does not know of it.
//! So the kernel is given a program (classic BPF, no privilege needed) that computes a function of the
//! sender's address and port which we can compute too. All datagrams of one peer's socket therefore come to
//! one of ours, whoever began; the kernel merges (GRO) only what came from one such socket.
#![allow(unsafe_code)]

use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use super::datagram::{ReceiveBatch, canonical};
use super::sys::check;
use super::{SocketOptions, UdpIo, UdpSocket};

/// `sock_fprog`, its padding spelt out: the kernel copies that as well, and memory checkers want it written.
#[repr(C)]
struct Program {
    len: u16,
    padding: [u8; size_of::<usize>() - size_of::<u16>()],
    filter: *mut libc::sock_filter,
}
const _: () = assert!(size_of::<Program>() == size_of::<libc::sock_fprog>());
const _: () = assert!(offset_of!(Program, filter) == offset_of!(libc::sock_fprog, filter));

/// Which of the sockets of one address gets the datagrams of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    /// Unpredictable, or strangers could choose who is to get theirs.
    key: u32,
    count: u32,
}

// Those of MurmurHash3 (the constants: public domain, Austin Appleby).
const SPREAD: u32 = 0xcc9e_2d51;
const MIX1: u32 = 0x85eb_ca6b;
const MIX2: u32 = 0xc2b2_ae35;

impl Steering {
    /// `first` and as many more sockets bound to its address that there are `count`, at most 65,535, in the
    /// order of [`place_of`](Self::place_of). The kernel counts them: none may be closed before the last.
    ///
    /// # Errors
    /// `Unsupported` where the kernel takes no program (Linux 4.5); else why a socket cannot be had.
    pub fn share(
        first: UdpSocket,
        count: u16,
        key: u32,
        options: SocketOptions,
    ) -> io::Result<(Self, Vec<UdpSocket>)> {
        let steering = Self { key, count: u32::from(count.max(1)) };
        let mut sockets = vec![first];
        while sockets.len() < steering.count as usize {
            sockets.push(sockets[0].twin(options)?);
        }
        if count > 1 {
            steering
                .attach(&sockets[0])
                .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
            // What came before the program was there may be another's.
            let mut batch = ReceiveBatch::new();
            sockets
                .iter()
                .for_each(|socket| while socket.receive(&mut batch).is_ok_and(|count| count > 0) {});
        }
        Ok((steering, sockets))
    }

    /// The place in the list of the socket that gets what `from` sends.
    #[must_use]
    pub fn place_of(&self, from: SocketAddr) -> usize {
        let from = canonical(from);
        let ip = match from.ip() {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                (0..4).fold(0, |sum, word| sum ^ (bits >> (32 * word)) as u32)
            }
        };
        let mut hash = (ip ^ self.key).wrapping_mul(SPREAD) ^ u32::from(from.port());
        hash = (hash ^ (hash >> 16)).wrapping_mul(MIX1);
        hash = (hash ^ (hash >> 13)).wrapping_mul(MIX2);
        (((hash >> 16) * self.count) >> 16) as usize
    }

    /// [`place_of`](Self::place_of) as the kernel can run it. A load outside of the packet answers 0.
    fn program(&self) -> Vec<libc::sock_filter> {
        let network = libc::SKF_NET_OFF as u32;
        let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let load = |size: u32, at: u32| op(libc::BPF_LD | size | libc::BPF_ABS, network.wrapping_add(at));
        let alu = |what: u32, k: u32| op(libc::BPF_ALU | what | libc::BPF_K, k);
        let (tax, xor_x) =
            (op(libc::BPF_MISC | libc::BPF_TAX, 0), op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0));
        let mut v4 = vec![
            load(libc::BPF_W, 12), // the source address
            op(libc::BPF_ST, 0),
            op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, network), // X: the header's length
            op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, network),  // the source port
        ];
        let v6 = [
            load(libc::BPF_W, 8),
            tax,
            load(libc::BPF_W, 12),
            xor_x,
            tax,
            load(libc::BPF_W, 16),
            xor_x,
            tax,
            load(libc::BPF_W, 20),
            xor_x,
            op(libc::BPF_ST, 0),
            load(libc::BPF_H, 40),
        ];
        v4.push(op(libc::BPF_JMP | libc::BPF_JA, v6.len() as u32));
        let is_v4 = libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: v4.len() as u8,
            k: 4,
        };
        let fold = |shift: u32| [tax, alu(libc::BPF_RSH, shift), xor_x];
        let mut program = vec![load(libc::BPF_B, 0), alu(libc::BPF_RSH, 4), is_v4];
        program.extend(v4);
        program.extend(v6);
        program.extend([tax, op(libc::BPF_LD | libc::BPF_MEM, 0)]);
        program.extend([alu(libc::BPF_XOR, self.key), alu(libc::BPF_MUL, SPREAD), xor_x]);
        program.extend(fold(16));
        program.push(alu(libc::BPF_MUL, MIX1));
        program.extend(fold(13));
        program.extend([alu(libc::BPF_MUL, MIX2), alu(libc::BPF_RSH, 16)]);
        program.extend([alu(libc::BPF_MUL, self.count), alu(libc::BPF_RSH, 16)]);
        program.push(op(libc::BPF_RET | libc::BPF_A, 0));
        program
    }

    fn attach(&self, socket: &UdpSocket) -> io::Result<()> {
        let mut program = self.program();
        let filter =
            Program { len: program.len() as u16, padding: Default::default(), filter: program.as_mut_ptr() };
        let (fd, length) = (socket.as_raw_fd(), size_of_val(&filter) as libc::socklen_t);
        let option = libc::SO_ATTACH_REUSEPORT_CBPF;
        // SAFETY: `filter` points to a live program of the stated length, which the kernel copies.
        let result =
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const filter).cast(), length) };
        check(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Sends one datagram from each of 64 sockets and finds it where it was foretold.
    fn arrives_as_foretold(bound: &str, from: &str, to: &str) {
        let first = UdpSocket::bind(bound.parse().unwrap(), SocketOptions::default()).unwrap();
        let (steering, sockets) = Steering::share(first, 3, 0x1234_5678, SocketOptions::default()).unwrap();
        let port = sockets[0].local_addr().port();
        assert!(sockets.iter().all(|socket| socket.local_addr() == sockets[0].local_addr()));
        let mut places = [0; 3];
        for _ in 0..64 {
            let peer = std::net::UdpSocket::bind((from, 0)).unwrap();
            for bytes in [&b"some bytes"[..], b""] {
                peer.send_to(bytes, (to, port)).unwrap();
            }
            let place = steering.place_of(peer.local_addr().unwrap());
            let socket: std::net::UdpSocket = {
                use std::os::fd::AsFd;
                sockets[place].as_fd().try_clone_to_owned().unwrap().into()
            };
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            for len in [10, 0] {
                assert_eq!(socket.recv(&mut [0; 20]).expect("at the place that was foretold"), len);
            }
            places[place] += 1;
        }
        assert!(places.iter().all(|&count| count > 0), "{places:?}");
    }

    #[test]
    fn the_kernel_deals_out_as_was_foretold() {
        arrives_as_foretold("127.0.0.1:0", "127.0.0.1", "127.0.0.1");
        arrives_as_foretold("0.0.0.0:0", "127.0.0.2", "127.0.0.3");
        arrives_as_foretold("[::]:0", "127.0.0.1", "127.0.0.1");
        arrives_as_foretold("[::]:0", "::1", "::1");
    }

    #[test]
    fn an_address_that_is_shared_is_taken_for_everybody_else() {
        let bind = |addr| UdpSocket::bind(addr, SocketOptions::default());
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (_, sockets) = Steering::share(first, 2, 1, SocketOptions::default()).unwrap();
        let error = bind(sockets[0].local_addr()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn peers_are_spread_evenly_and_differently_by_another_key() {
        let peers = || {
            (0..6000u32).map(|n| {
                SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0001 + n % 60).into(), (1024 + n / 60) as u16)
            })
        };
        for count in [2, 3, 64] {
            let places = |key| {
                let steering = Steering { key, count };
                peers().map(|peer| steering.place_of(peer)).collect::<Vec<_>>()
            };
            let (one, other) = (places(1), places(2));
            assert_ne!(one, other);
            for place in 0..count as usize {
                let here = one.iter().filter(|&&at| at == place).count();
                let fair = 6000 / count as usize;
                assert!((fair / 2..fair * 2).contains(&here), "{here} of {fair} at {place} of {count}");
            }
        }
    }
}
