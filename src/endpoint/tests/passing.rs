//! Calls that never wait, beside a driver that does not get the lock.

use std::sync::atomic::Ordering;

use super::*;
use crate::endpoint::ConnOption;

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
