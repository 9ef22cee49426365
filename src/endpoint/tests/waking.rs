//! Who is woken, and who is not: a call that sleeps on for nothing hangs, one that wakes for nothing burns a processor.

use super::closing::without_fin;
use super::*;

#[test]
fn a_wake_whose_signal_comes_late_does_not_leave_the_descriptor_readable() {
    let server = receiver(true);
    let descriptor = watch(&server);
    server.waker(None).wake();
    assert!(matches!(server.poll_events(&mut Vec::new(), 1, NOW), Err(CallError::Interrupted)));
    // As if the waker had lost its processor to the one who took the wake.
    server.shared.signals.raise_news();
    assert!(readable(&descriptor, PATIENCE));
    assert_eq!(server.poll_events(&mut Vec::new(), 1, NOW).unwrap(), 0);
    assert!(!readable(&descriptor, Duration::ZERO), "readable for nothing, for ever");
    server.waker(None).wake();
    assert!(readable(&descriptor, PATIENCE), "the next wake");
}

#[test]
fn a_wake_calls_those_it_is_for_and_nobody_else() {
    let server = receiver(false);
    let (_silent, port) = silence();
    let dial = |local_tcp_port| {
        let own = EndpointConfig { local_tcp_port, ..config(false) };
        server.connect("127.0.0.1", port, 0, Some(&own)).unwrap().0
    };
    let ids = [dial(1), dial(2), dial(3)];
    thread::scope(|scope| {
        let server = &*server;
        let mut waits = Vec::new();
        for id in ids {
            waits.push(scope.spawn(move || recv(server, id, 9, LONG)));
            until_waiting(server, waits.len());
        }
        let sleepers = || -> Vec<_> {
            let core = server.shared.lock().unwrap();
            core.waiters.iter().map(|waiter| Arc::clone(&waiter.condvar)).collect()
        };
        let before = sleepers();
        server.waker(Some(ids[2])).wake();
        until("the wake is returned", || waits[2].is_finished());
        let after = sleepers();
        assert!(after.len() == 1 && Arc::ptr_eq(&after[0], &before[0]), "another sleeps on, where it was");
        for id in ids {
            server.waker(Some(id)).wake();
        }
        for waiting in waits {
            assert!(matches!(waiting.join().unwrap(), Err(CallError::Interrupted)));
        }
    });
}

#[test]
fn two_who_wait_for_the_same_do_not_wake_each_other() {
    for io_thread in [true, false] {
        without_fin(io_thread, |client, id| {
            client.finish(id).unwrap();
            let waker = client.waker(Some(id));
            thread::scope(|scope| {
                // Every byte is acknowledged, the finish is not.
                let flush = || client.flush(id, LONG);
                let waits = [scope.spawn(flush), scope.spawn(flush)];
                until_waiting(client, 2);
                let (mut steps, mut last, begun) = (0, Default::default(), Instant::now());
                while begun.elapsed() < Duration::from_millis(300) {
                    let driven_at = client.shared.lock().unwrap().driven_at;
                    steps += u32::from(std::mem::replace(&mut last, driven_at) != driven_at);
                    thread::sleep(Duration::from_micros(100));
                }
                for _ in waits {
                    until_woken_by(&waker, client);
                }
                assert!(steps < 100, "{steps} steps where there was next to nothing to do");
            });
        });
    }
}

/// Ends a wait, and returns once its wake is taken.
fn until_woken_by(waker: &super::super::Waker, endpoint: &Endpoint) {
    waker.wake();
    until("the wake is taken", || !endpoint.flag.is_set());
}

#[test]
fn a_send_that_waits_for_memory_to_come_back_learns_that_the_connection_has_ended() {
    for io_thread in [true, false] {
        let server = receiver(true);
        let (client, id) = dial(&server, io_thread);
        client.poll(id, event::CONNECTED, LONG).unwrap();
        let peer = next_event(&server).conn;
        let loan = client.reserve(id, LONG).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| client.send(id, b"x", LONG));
            let reserving = scope.spawn(|| client.reserve(id, LONG).map(drop));
            until_waiting(&client, 2);
            server.abort(peer).unwrap();
            assert!(matches!(sending.join().unwrap(), Err(CallError::Ended(Error::Reset))));
            assert!(matches!(reserving.join().unwrap(), Err(CallError::Ended(Error::Reset))));
        });
        assert!(matches!(client.commit(id, loan, 1), Err(CallError::Ended(Error::Reset))));
    }
}

#[test]
fn memory_lent_by_connections_that_are_over_is_forgotten() {
    let server = receiver(true);
    for _ in 0..50 {
        let (client, _) = dial(&server, true);
        let peer = next_event(&server).conn;
        drop(server.reserve(peer, LONG).unwrap());
        client.abort(client.own.unwrap()).unwrap();
        assert_ne!(next_event(&server).events & event::CLOSED, 0);
    }
    let lent = server.shared.lock().unwrap().sending.len();
    assert!(lent <= 4, "{lent}");
}

#[test]
fn the_descriptor_tells_of_news_also_while_another_thread_sleeps_in_the_seat() {
    let server = receiver(false);
    let descriptor = watch(&server);
    let [(first, _), (second, sender)] = [dial(&server, true), dial(&server, true)];
    let mut peers = Vec::new();
    until("both are accepted", || {
        server.poll_events(&mut peers, 9, Some(Duration::from_millis(20))).unwrap();
        peers.len() == 2
    });
    let asleep =
        peers.iter().find(|peer| server.peer_addr(peer.conn).unwrap().port() == first.local_addr().port());
    let asleep = asleep.unwrap().conn;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| recv(&server, asleep, 9, LONG));
        until_waiting(&server, 1);
        second.send(sender, b"x", LONG).unwrap();
        second.flush(sender, LONG).unwrap();
        thread::sleep(Duration::from_millis(20)); // whatever it told of the datagram itself is over
        let tells = readable(&descriptor, Duration::from_secs(5));
        server.waker(Some(asleep)).wake();
        assert!(matches!(waiting.join().unwrap(), Err(CallError::Interrupted)));
        assert!(tells, "bytes that another thread has fetched");
    });
}
