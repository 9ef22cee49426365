//! Datagrams over loopback, with each backend, and what the kernel refuses.

use super::*;
use crate::udp::{Ecn, IcmpKind, WaitSet};
use std::time::{Duration, Instant};

/// What something certain may take where everything is slow.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// The kernel may be late even on loopback.
fn wait_for_one(socket: &UdpSocket) {
    let (set, mut ready) = (WaitSet::new().unwrap(), Vec::new());
    set.add(&socket.socket, 0).unwrap();
    set.wait(Some(PATIENCE), &mut ready).unwrap();
    assert_eq!(ready, [0], "nothing came");
}

/// Datagrams until `count` are there, with the number of `receive` calls that brought any.
fn collect(socket: &UdpSocket, count: usize) -> (Vec<Datagram>, usize) {
    let (mut batch, mut datagrams, mut calls) = (ReceiveBatch::new(), Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
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
    let mut row =
        [Transmit { segment_size: Some(1200), ecn: Some(Ecn::Ect0), ..transmit(there.local_addr(), &bytes) }];
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
        wait_for_one(&both);
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
                .all(|(from, ecn, _)| from.ip() == "::1".parse::<IpAddr>().unwrap() && *ecn == Some(Ecn::Ce))
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
            here.send(&mut [transmit(closed, b"segment"), transmit(there.local_addr(), &[round])]).unwrap();
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
fn who_receives_without_waiting_learns_once_that_an_error_waits() {
    let (here, closed) = (socket(V4), socket(V4).local_addr());
    assert!(!here.has_met_error());
    here.send(&mut [transmit(closed, b"segment")]).unwrap();
    let (mut batch, deadline) = (ReceiveBatch::new(), Instant::now() + PATIENCE);
    while !here.has_met_error() {
        assert!(Instant::now() < deadline, "no error was met");
        assert_eq!(here.receive(&mut batch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    assert!(!here.has_met_error());
    assert_eq!(here.poll_error().unwrap().map(|error| error.to), Some(closed));
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
        UdpSocket::from_fd(fd, SocketOptions::default()).unwrap_err().kind() == io::ErrorKind::InvalidInput
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
