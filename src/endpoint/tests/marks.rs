//! Congestion marks between real sockets: a router in the middle marks what it may.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{LONG, config, next_event, pattern, receiver, recv};
use crate::connection::{Algorithm, Config, EcnMode, IntegrityMode};
use crate::endpoint::{Endpoint, EndpointConfig};
use crate::udp::{Ecn, ReceiveBatch, SocketOptions, Transmit, UdpIo, UdpSocket};

/// What the router saw on its way from the sender to the receiver.
#[derive(Debug, Default)]
struct Seen {
    ect: u64,
    not_ect: u64,
    marked: u64,
}

fn router() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap()
}

/// Moves datagrams both ways until `done`; each tenth that is ECN-capable leaves marked.
fn route(outside: &UdpSocket, inside: &UdpSocket, server: SocketAddr, done: &AtomicBool) -> Seen {
    let (mut batch, mut client, mut seen) = (ReceiveBatch::new(), None, Seen::default());
    while !done.load(Ordering::Relaxed) {
        if outside.receive(&mut batch).is_ok() {
            for datagram in batch.iter() {
                client = Some(datagram.from);
                let is_ect = datagram.ecn == Some(Ecn::Ect0);
                (seen.ect, seen.not_ect) = (seen.ect + u64::from(is_ect), seen.not_ect + u64::from(!is_ect));
                let marks = is_ect && seen.ect % 10 == 0;
                seen.marked += u64::from(marks);
                forward(inside, server, if marks { Some(Ecn::Ce) } else { datagram.ecn }, datagram.bytes);
            }
        }
        if let (Ok(_), Some(client)) = (inside.receive(&mut batch), client) {
            for datagram in batch.iter() {
                assert_eq!(datagram.ecn, None, "the receiver sends ACKs, which are not ECN-capable");
                forward(outside, client, None, datagram.bytes);
            }
        }
        thread::yield_now();
    }
    seen
}

fn forward(socket: &UdpSocket, to: SocketAddr, ecn: Option<Ecn>, bytes: &[u8]) {
    // What the socket does not take is lost on the way.
    let _ = socket.send(&mut [Transmit { to, from: None, ecn, segment_size: None, bytes }]);
}

fn marks_reach_the_sender(integrity: IntegrityMode, mode: EcnMode) {
    let server = receiver(true);
    let (outside, inside) = (router(), router());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let routed = scope.spawn(|| route(&outside, &inside, server.local_addr(), &done));
        // CUBIC has a threshold that tells whether the controller was told.
        let connection = Config { integrity, algorithm: Algorithm::Cubic, ..Config::default() };
        let config = EndpointConfig { connection, ..config(true) };
        let (client, id) = Endpoint::sender(&config, "127.0.0.1", outside.local_addr().port()).unwrap();
        let data = pattern(1 << 20);
        let (server, len) = (&server, data.len());
        scope.spawn(move || read_one(server, len));
        assert_eq!(client.send(id, &data, LONG).unwrap(), data.len());
        client.flush(id, LONG).unwrap();
        let (sender, receiver) = (client.stats(Some(id)).unwrap().0, server.stats(None).unwrap().0);
        done.store(true, Ordering::Relaxed);
        let seen = routed.join().unwrap();
        assert_eq!(sender.ecn, mode, "{seen:?}");
        assert!(seen.ect > 100 && seen.not_ect > 0 && seen.marked > 10, "{seen:?}");
        assert!(receiver.packets_ce > 0 && receiver.packets_ce <= seen.marked, "{receiver:?} {seen:?}");
        assert!(sender.bytes_ce > 0 && sender.ssthresh < u64::MAX, "{sender:?}");
        client.abort(id).unwrap();
    });
}

fn read_one(server: &Endpoint, mut left: usize) {
    let conn = next_event(server).conn;
    while left > 0 {
        match recv(server, conn, 1 << 16, LONG) {
            Ok(bytes) => left -= bytes.len(),
            Err(error) => panic!("{left} bytes are missing: {error}"),
        }
    }
}

#[test]
fn marks_of_a_router_reach_the_sender_as_a_count_and_as_ece() {
    marks_reach_the_sender(IntegrityMode::Offer, EcnMode::Accurate);
    marks_reach_the_sender(IntegrityMode::Off, EcnMode::Classic);
}
