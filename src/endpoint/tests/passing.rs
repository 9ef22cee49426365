//! Calls that need not wait: what they do for the endpoint in passing.

use std::sync::atomic::Ordering;

use super::*;
use crate::endpoint::ConnOption;
use crate::endpoint::core::{PLENTY, Wanted};

/// A question or a change that never waits.
type Call = fn(&Endpoint, ConnId);

const CALLS: [(&str, Call); 6] = [
    ("stats", |endpoint, id| drop(endpoint.stats(Some(id)))),
    ("stats of all", |endpoint, _| drop(endpoint.stats(None))),
    ("state", |endpoint, id| drop(endpoint.state(id))),
    ("peer_addr", |endpoint, id| drop(endpoint.peer_addr(id))),
    ("set_option", |endpoint, id| drop(endpoint.set_option(id, ConnOption::NoDelay(true)))),
    ("poll", |endpoint, id| drop(endpoint.poll(id, event::WRITABLE, NOW))),
];

/// A connection to `server` that is up.
fn established(server: &Endpoint) -> (Arc<Endpoint>, ConnId, ConnId) {
    let (client, id) = dial(server, true);
    let mut events = Vec::new();
    assert_eq!(server.poll_events(&mut events, 1, LONG).unwrap(), 1);
    (client, id, events[0].conn)
}

/// A server, and a connection to it, whose driver is in the seat, and does nothing: others have its processor.
fn with_a_driver_that_does_nothing(test: impl Fn(&Endpoint, ConnId, &Endpoint, ConnId)) {
    let server = receiver(false);
    let (client, id, conn) = established(&server);
    server.shared.lock().unwrap().seat = Seat::Application;
    test(&server, conn, &client, id);
    server.shared.lock().unwrap().seat = Seat::Free;
}

#[test]
fn whoever_has_the_lock_does_the_work_of_a_driver_that_waits_for_it() {
    for (name, call) in CALLS {
        with_a_driver_that_does_nothing(|server, conn, client, id| {
            server.shared.knocks.store(true, Ordering::Relaxed);
            client.send(id, b"question", LONG).unwrap();
            until(name, || {
                call(server, conn);
                client.stats(Some(id)).unwrap().0.bytes_acked == 8
            });
        });
    }
}

#[test]
fn a_driver_that_sleeps_is_left_alone() {
    with_a_driver_that_does_nothing(|server, conn, client, id| {
        client.send(id, b"question", LONG).unwrap();
        until("the question is there", || server.shared.signals.poller.wait(NOW).unwrap().readable);
        for (_, call) in CALLS {
            call(server, conn);
        }
        assert!(server.shared.signals.poller.wait(NOW).unwrap().readable, "still");
    });
}

/// It would make the cache's bytes the memory's: 64 MB once waited for a program that was a tenth too slow.
#[test]
fn who_has_plenty_to_read_looks_at_the_socket_less_often() {
    let server = receiver(true);
    let (client, id, conn) = established(&server);
    let waiting = || server.shared.lock().unwrap().mux.connection(conn).unwrap().readable_bytes();
    let glance = || Wanted::readable(conn).glance(&server.shared.lock().unwrap().mux);
    let seldom = thread::scope(|scope| {
        let waker = client.waker(Some(id));
        let sending = scope.spawn(|| client.send(id, &pattern(64 << 20), LONG));
        let mut read = 0;
        while read < 4 << 20 {
            read += recv(&server, conn, 1 << 20, LONG).unwrap().len(); // the window grows with what is read
        }
        until("the window is full", || waiting() >= PLENTY);
        waker.wake();
        sending.join().unwrap().unwrap();
        glance()
    });
    client.finish(id).unwrap();
    while !recv(&server, conn, 1 << 20, LONG).unwrap().is_empty() {}
    assert!(seldom > 5 * glance());
}
