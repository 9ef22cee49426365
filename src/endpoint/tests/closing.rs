//! How long a close takes where the peer is no help.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::endpoint::close::FIN_LIMIT;
use crate::udp::{self, ReceiveBatch, SocketOptions, Transmit, UdpIo, UdpSocket};
use crate::wire::{Flags, Segment};

fn forward(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
    // What the socket does not take is lost on the way.
    let _ = socket.send(&mut [Transmit { to, from: None, ecn: None, segment_size: None, bytes }]);
}

/// Moves datagrams both ways until `done`, but none with a FIN towards the server.
fn route_without_fin(outside: &UdpSocket, inside: &UdpSocket, server: SocketAddr, done: &AtomicBool) {
    let (mut batch, mut client) = (ReceiveBatch::new(), None);
    while !done.load(Ordering::Relaxed) {
        if outside.receive(&mut batch).is_ok() {
            for datagram in batch.iter() {
                client = Some(datagram.from);
                if !Segment::parse(datagram.bytes).unwrap().flags.contains(Flags::FIN) {
                    forward(inside, server, datagram.bytes);
                }
            }
        }
        if let (Ok(_), Some(client)) = (inside.receive(&mut batch), client) {
            batch.iter().for_each(|datagram| forward(outside, client, datagram.bytes));
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Ends the routing even if the test fails: its scope would wait for ever.
struct EndsRouting<'a>(&'a AtomicBool);

impl Drop for EndsRouting<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client with a byte delivered to a server that never gets its FIN.
pub(super) fn without_fin(io_thread: bool, test: impl FnOnce(&Endpoint, ConnId)) {
    let server = receiver(true);
    let socket = || UdpSocket::bind("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap();
    let (outside, inside, done) = (socket(), socket(), AtomicBool::new(false));
    let client = Endpoint::sender(&config(io_thread), "127.0.0.1", outside.local_addr().port());
    let (client, id) = client.unwrap();
    thread::scope(|scope| {
        let _ends = EndsRouting(&done);
        scope.spawn(|| route_without_fin(&outside, &inside, server.local_addr(), &done));
        client.send(id, b"x", LONG).unwrap();
        client.flush(id, LONG).unwrap();
        test(&client, id);
    });
}

#[test]
fn a_wake_ends_the_stay_of_a_close() {
    without_fin(true, |client, id| {
        let begun = client.shared.lock().unwrap().turns;
        thread::scope(|scope| {
            let closing = scope.spawn(|| client.close_connection(id, None));
            until("it waits for its finish to be acknowledged", || {
                client.shared.lock().unwrap().turns > begun
            });
            client.waker(Some(id)).wake();
            assert!(matches!(closing.join().unwrap(), Ok(())));
        });
        assert_eq!(client.shared.lock().unwrap().turns, begun + 1, "no further wait");
    });
}

/// Caller-driven, so that nobody but the closer sleeps: it does not once it has taken the wake. What looks in between
/// may miss a sleep, but sees none that is not there.
fn until_closed_without_sleep_after_a_wake(client: &Endpoint, closing: &thread::ScopedJoinHandle<'_, ()>) {
    until("the close ends", || {
        let core = client.shared.lock().unwrap();
        let is_woken = core.is_closing && !client.flag.is_set();
        assert!(!is_woken || core.sleeping_until.is_none(), "it waits on after the wake");
        drop(core);
        closing.is_finished()
    });
}

#[test]
fn a_wake_before_a_close_ends_all_its_stays() {
    without_fin(false, |client, id| {
        client.waker(Some(id)).wake();
        thread::scope(|scope| {
            let closing = scope.spawn(|| client.close_connection(id, None).unwrap());
            until_closed_without_sleep_after_a_wake(client, &closing);
        });
    });
}

#[test]
fn a_wake_during_a_stay_of_a_close_ends_the_linger_too() {
    without_fin(false, |client, id| {
        thread::scope(|scope| {
            let closing = scope.spawn(|| client.close_connection(id, None).unwrap());
            until("it waits for its finish to be acknowledged", || {
                let core = client.shared.lock().unwrap();
                core.is_closing && core.sleeping_until.is_some() || closing.is_finished()
            });
            client.waker(Some(id)).wake();
            until_closed_without_sleep_after_a_wake(client, &closing);
        });
    });
}

/// The server has taken the finish and has none of its own (FIN-WAIT-2), so the linger is the long wait. False: it was
/// over before the wake.
fn wakes_while_it_lingers() -> bool {
    let server = receiver(true);
    let (client, id) = dial(&server, false);
    client.send(id, b"x", LONG).unwrap();
    client.finish(id).unwrap();
    client.flush(id, LONG).unwrap();
    until("the finish is acknowledged", || {
        client.poll(id, 0, NOW).unwrap();
        client.shared.lock().unwrap().mux.connection(id).unwrap().fin_patience().is_some()
    });
    thread::scope(|scope| {
        let closing = scope.spawn(|| client.close_connection(id, None).unwrap());
        until("it sleeps", || {
            let core = client.shared.lock().unwrap();
            core.is_closing && core.sleeping_until.is_some() || closing.is_finished()
        });
        client.waker(Some(id)).wake();
        until_closed_without_sleep_after_a_wake(&client, &closing);
    });
    !client.flag.is_set()
}

#[test]
fn a_wake_ends_the_linger_of_a_close() {
    assert!((0..30).any(|_| wakes_while_it_lingers()), "a close took no wake");
}

#[test]
fn once_all_bytes_are_there_a_close_waits_for_its_finish_no_longer_than_its_limit() {
    let server = receiver(true);
    let socket = || UdpSocket::bind("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap();
    let (outside, inside, done) = (socket(), socket(), AtomicBool::new(false));
    let (client, id) = Endpoint::sender(&config(false), "127.0.0.1", outside.local_addr().port()).unwrap();
    thread::scope(|scope| {
        let _ends = EndsRouting(&done);
        scope.spawn(|| route_without_fin(&outside, &inside, server.local_addr(), &done));
        client.send(id, b"x", LONG).unwrap();
        client.flush(id, LONG).unwrap();
        let earliest = udp::now() + FIN_LIMIT;
        let closing = scope.spawn(|| client.close_connection(id, None));
        until("it closes", || client.shared.lock().unwrap().is_closing);
        // The quarter is for a thread that is late between two steps; the next timer of the FIN would be later still.
        let latest = udp::now() + FIN_LIMIT + FIN_LIMIT / 4;
        until("the limit is over", || {
            let until = client.shared.lock().unwrap().sleeping_until;
            let is_finished = closing.is_finished();
            let is_over = udp::now() >= earliest;
            assert!(is_over || !is_finished, "the finish arrived");
            assert!(is_over || until.is_none_or(|until| until <= latest), "it would sleep past its limit");
            is_over
        });
        until("the close ends", || closing.is_finished());
        assert!(matches!(closing.join().unwrap(), Ok(())));
    });
}

/// A server that has accepted one client, which has delivered a byte.
fn with_member() -> (Arc<Endpoint>, ConnId, Arc<Endpoint>, ConnId) {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    client.send(id, b"x", LONG).unwrap();
    let member = next_event(&server).conn;
    (server, member, client, id)
}

#[test]
fn what_was_aborted_here_is_no_failure_of_the_close_that_follows() {
    let (server, member, _client, _id) = with_member();
    server.abort(member).unwrap();
    server.close_receiver(LONG).unwrap();
}

#[test]
fn a_close_says_if_a_connection_was_reset_at_the_limit_of_its_own_close() {
    let (server, member, _client, _id) = with_member(); // which reads nothing
    let more_than_fits = vec![0; 1 << 20];
    while matches!(server.send(member, &more_than_fits, NOW), Ok(1..)) {}
    server.close_connection(member, Some(Duration::from_millis(1))).unwrap();
    assert!(matches!(server.close_receiver(LONG), Err(CallError::TimedOut)));
}

#[test]
fn nothing_is_begun_on_an_endpoint_that_is_being_closed() {
    let server = receiver(true);
    server.begin_to_close().unwrap();
    assert!(matches!(server.connect("127.0.0.1", 9, 0, None), Err(CallError::NotFound)));
    assert_eq!(server.stats(None).unwrap().1, 0, "none that nobody would close");
}

#[test]
fn a_finish_answers_how_the_connection_has_failed() {
    let (server, member, client, id) = with_member();
    server.abort(member).unwrap();
    assert!(matches!(client.poll(id, event::CLOSED, LONG), Err(CallError::Ended(Error::Reset))));
    assert!(matches!(client.finish(id), Err(CallError::Ended(Error::Reset))));
}

#[test]
fn once_the_end_was_read_a_poll_of_that_connection_does_not_sleep() {
    for io_thread in [true, false] {
        let server = receiver(true);
        let (client, id) = dial(&server, io_thread);
        client.send(id, b"x", LONG).unwrap();
        client.finish(id).unwrap();
        client.flush(id, LONG).unwrap();
        let member = loop {
            let event = next_event(&server);
            if recv(&server, event.conn, 9, NOW).is_ok_and(|bytes| bytes.is_empty()) {
                break event.conn;
            }
        };
        let mut events = Vec::new();
        assert_eq!(
            server.poll_events(&mut events, 1, Some(Duration::from_millis(20))).unwrap(),
            0,
            "it is no news"
        );
        assert_eq!(
            server.poll(member, event::READABLE, LONG).unwrap(),
            event::READABLE,
            "reading would not wait"
        );
        server.finish(member).unwrap();
        assert_eq!(client.poll(id, event::READABLE, LONG).unwrap(), event::READABLE);
        assert!(recv(&client, id, 9, NOW).unwrap().is_empty());
        assert_eq!(client.poll(id, event::READABLE, LONG).unwrap(), event::READABLE);
        assert_eq!(client.poll(id, event::CLOSED, LONG).unwrap(), event::CLOSED);
        assert_eq!(client.poll(id, event::ACCEPTED, LONG).unwrap(), event::CLOSED, "nothing more will be");
        client.close_connection(id, LONG).unwrap();
    }
}
