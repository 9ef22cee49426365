//! Several threads at one endpoint: what one does reaches the other that waits, and nothing is mixed up.

use std::os::fd::AsRawFd;

use super::*;

#[test]
fn closing_from_another_thread_ends_a_wait() {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    client.poll(id, event::CONNECTED, LONG).unwrap();
    let peer = next_event(&server).conn;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| recv(&server, peer, 9, LONG));
        until_waiting(&server, 1);
        server.close_connection(peer, LONG).unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(CallError::NotFound)));
    });
    assert!(recv(&client, id, 9, LONG).unwrap().is_empty(), "the peer finished");
    client.abort(id).unwrap();
}

/// Runs `call` while this thread sleeps in `poll_events` and nothing comes from the network: the first record.
fn event_by(server: &Endpoint, call: impl FnOnce() + Send) -> Event {
    thread::scope(|scope| {
        scope.spawn(|| {
            until_waiting(server, 1);
            call();
        });
        next_event(server)
    })
}

#[test]
fn what_another_thread_brings_about_ends_the_wait_of_the_one_who_drives() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        let (client, id) = dial(&server, true);
        let peer = next_event(&server).conn;
        let writable = event_by(&server, || server.watch(peer, event::WRITABLE).unwrap());
        assert_eq!(writable.events, event::WRITABLE);
        server.watch(peer, 0).unwrap();
        server.finish(peer).unwrap();
        client.finish(id).unwrap();
        // Everything has crossed before anybody reads: reading the end is what ends the connection.
        server.poll(peer, event::READABLE, LONG).unwrap();
        server.flush(peer, LONG).unwrap();
        let closed = event_by(&server, || assert!(recv(&server, peer, 9, NOW).unwrap().is_empty()));
        assert_eq!((closed.events, closed.end), (event::CLOSED, Some(End::Orderly)));
    }
}

#[test]
fn closing_an_idle_endpoint_ends_the_waits_on_it_at_once() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| server.poll_events(&mut Vec::new(), 1, LONG));
            until_waiting(&server, 1);
            server.close_receiver(NOW).unwrap();
            assert!(matches!(waiting.join().unwrap(), Err(CallError::NotFound)));
        });

        // A close that waits for a peer which does not answer does not keep the others waiting.
        let (_silent, port) = silence();
        let (client, id) = Endpoint::sender(&config(io_thread), "127.0.0.1", port).unwrap();
        client.send(id, b"x", LONG).unwrap();
        let waker = client.waker(Some(id));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| recv(&client, id, 9, LONG));
            until_waiting(&client, 1);
            let closing = scope.spawn(|| client.close_connection(id, None));
            let result = waiting.join().unwrap();
            assert!(matches!(result, Err(CallError::NotFound)), "{result:?}");
            until_waiting(&client, 1);
            assert!(!closing.is_finished());
            waker.wake();
            assert!(matches!(closing.join().unwrap(), Err(CallError::Interrupted)));
        });
    }
}

#[test]
fn everybody_who_waits_for_the_handshake_is_told_of_it() {
    for io_thread in [true, false] {
        let (_silent, never) = silence();
        let (unanswered, port) = silence();
        let client = receiver(io_thread);
        let (first, _) = client.connect("127.0.0.1", never, 0, None).unwrap();
        let (second, _) = client.connect("127.0.0.1", port, 0, None).unwrap();
        thread::scope(|scope| {
            // One drives, for a peer that never answers; the other must be called by it.
            let driver = scope.spawn(|| client.poll(first, event::CONNECTED, None));
            until_waiting(&client, 1);
            let called = scope.spawn(|| client.poll(second, event::CONNECTED, LONG));
            until_waiting(&client, 2);
            let adopts = EndpointConfig { socket: Some(unanswered.as_raw_fd()), ..config(true) };
            let server = Endpoint::receiver(&adopts, None, 0).unwrap();
            assert_eq!(called.join().unwrap().unwrap(), event::CONNECTED);
            assert!(!driver.is_finished(), "called only when the driver left");
            client.waker(Some(first)).wake();
            assert!(matches!(driver.join().unwrap(), Err(CallError::Interrupted)));
            server.close_receiver(NOW).ok();
        });
    }
}

#[test]
fn a_short_count_does_not_use_up_a_wake() {
    let (_silent, port) = silence();
    let small = connection::Config { send_buffer: 1 << 16, ..connection::Config::default() };
    let own = EndpointConfig { connection: small, ..config(true) };
    let (client, id) = Endpoint::sender(&own, "127.0.0.1", port).unwrap();
    let waker = client.waker(Some(id));
    thread::scope(|scope| {
        let sending = scope.spawn(|| client.send(id, &pattern(1 << 20), LONG));
        until_waiting(&client, 1); // for room: the rest of it
        waker.wake();
        let taken = sending.join().unwrap().unwrap();
        assert!(taken > 0 && taken < 1 << 20, "{taken}");
    });
    assert!(matches!(client.send(id, b"x", LONG), Err(CallError::Interrupted)));
    assert!(matches!(client.send(id, b"x", NOW), Err(CallError::WouldBlock)), "once");
}

#[test]
fn a_wake_for_a_connection_does_not_keep_the_receiver_s_descriptor_readable() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        let descriptor = watch(&server);
        let (_silent, port) = silence();
        let (id, _) = server.connect("127.0.0.1", port, 0, None).unwrap();
        assert_eq!(server.poll_events(&mut Vec::new(), 1, NOW).unwrap(), 0);
        server.waker(Some(id)).wake();
        assert_eq!(server.poll_events(&mut Vec::new(), 1, NOW).unwrap(), 0);
        // Without a thread the timer of the SYN makes it readable too; a poll ends that.
        until("it calms down", || {
            let calm = !readable(&descriptor, Duration::from_millis(100));
            assert!(calm || server.poll_events(&mut Vec::new(), 1, NOW).unwrap() == 0);
            calm
        });
        assert!(matches!(recv(&server, id, 9, LONG), Err(CallError::Interrupted)), "remembered");
    }
}

#[test]
fn a_panic_in_one_call_ends_every_other_with_its_own_error() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        let thread_lives = Arc::downgrade(&server.shared);
        thread::scope(|scope| {
            let wait = || server.poll_events(&mut Vec::new(), 1, LONG);
            let waits = [scope.spawn(wait), scope.spawn(wait)];
            until_waiting(&server, 2); // one drives, one waits to be called
            let panicking =
                scope.spawn(|| server.call::<()>(|_, _| std::panic::resume_unwind(Box::new("a bug"))));
            assert!(panicking.join().is_err());
            for waiting in waits {
                assert!(matches!(waiting.join().unwrap(), Err(CallError::Dead)));
            }
        });
        assert!(matches!(server.close_receiver(LONG), Err(CallError::Dead)));
        drop(server);
        until("the I/O thread ends", || thread_lives.strong_count() == 0);
    }
}

#[test]
fn sends_of_several_threads_on_one_connection_stay_whole() {
    const LEN: usize = 1 << 20;
    for io_thread in [true, false] {
        let server = receiver(true);
        let small = connection::Config { send_buffer: 1 << 16, ..connection::Config::default() };
        let own = EndpointConfig { connection: small, ..config(io_thread) };
        let (client, id) = Endpoint::sender(&own, "127.0.0.1", server.local_addr().port()).unwrap();
        thread::scope(|scope| {
            // Another thread drives and calls the senders, who race for each piece of room.
            let driver = scope.spawn(|| recv(&client, id, 1, LONG));
            until_waiting(&client, 1);
            for byte in [1u8, 2, 3] {
                let client = &client;
                scope.spawn(move || assert_eq!(client.send(id, &vec![byte; LEN], LONG).unwrap(), LEN));
            }
            let peer = next_event(&server).conn;
            let mut bytes = Vec::new();
            while bytes.len() < 3 * LEN {
                bytes.extend(recv(&server, peer, 1 << 16, LONG).unwrap());
            }
            for message in bytes.chunks(LEN) {
                assert!(message.iter().all(|byte| *byte == message[0]), "bytes of another in between");
            }
            server.send(peer, b"!", LONG).unwrap();
            assert_eq!(driver.join().unwrap().unwrap(), b"!");
        });
    }
}

#[test]
fn who_waits_for_another_s_turn_to_send_sleeps_though_there_is_room() {
    for io_thread in [true, false] {
        let server = receiver(true);
        let (client, id) = dial(&server, io_thread);
        let loan = client.reserve(id, LONG).unwrap();
        thread::scope(|scope| {
            let client = &client;
            let sends = [b"a", b"b"].map(|byte| scope.spawn(move || client.send(id, byte, LONG)));
            until_waiting(client, 2);
            let mut last = None;
            until("nobody looks at the socket for 300 ms", || {
                let before = last.replace(client.shared.lock().unwrap().driven_at);
                thread::sleep(Duration::from_millis(300));
                last == before
            });
            until_waiting(client, 2);
            client.commit(id, loan, 0).unwrap();
            for send in sends {
                assert_eq!(send.join().unwrap().unwrap(), 1);
            }
        });
        client.flush(id, LONG).unwrap();
        let peer = next_event(&server).conn;
        let mut bytes = recv(&server, peer, 9, LONG).unwrap();
        bytes.extend(if bytes.len() < 2 { recv(&server, peer, 9, LONG).unwrap() } else { Vec::new() });
        bytes.sort_unstable();
        assert_eq!(bytes, b"ab");
        client.abort(id).unwrap();
    }
}

/// The next wait of the endpoint's application for an answer begins with looking.
fn expect_answer(endpoint: &Endpoint) {
    endpoint.shared.lock().unwrap().expectation.expect();
}

#[test]
fn who_looks_for_an_answer_gets_it_and_is_woken_as_who_sleeps() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        let (client, id) = dial(&server, io_thread);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(echo_one(&server), Some(End::Orderly)));
            for question in pattern(100) {
                expect_answer(&client);
                expect_answer(&server);
                client.send(id, &[question], LONG).unwrap();
                assert_eq!(recv(&client, id, 9, LONG).unwrap(), [question]);
            }
            client.finish(id).unwrap();
            assert!(recv(&client, id, 9, LONG).unwrap().is_empty());
        });

        let (_silent, port) = silence();
        let (asking, id) = Endpoint::sender(&config(io_thread), "127.0.0.1", port).unwrap();
        let waker = asking.waker(Some(id));
        for _ in 0..100 {
            expect_answer(&asking);
            asking.send(id, b"?", LONG).unwrap();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| recv(&asking, id, 9, LONG));
                waker.wake();
                assert!(matches!(waiting.join().unwrap(), Err(CallError::Interrupted)));
            });
            assert!(matches!(recv(&asking, id, 9, NOW), Err(CallError::WouldBlock)), "once");
        }
    }
}
