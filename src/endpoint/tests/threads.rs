//! Several threads at one endpoint: what one does reaches the other that waits, and nothing is mixed up.

use super::*;

#[test]
fn closing_from_another_thread_ends_a_wait() {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    client.poll(id, event::CONNECTED, LONG).unwrap();
    let peer = next_event(&server).conn;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| recv(&server, peer, 9, LONG));
        thread::sleep(Duration::from_millis(20));
        server.close_connection(peer, SECOND).unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(CallError::NotFound)));
    });
    assert!(recv(&client, id, 9, LONG).unwrap().is_empty(), "the peer finished");
    client.abort(id).unwrap();
}

/// Runs `call` while this thread sleeps in `poll_events` and nothing comes from the network: the first record.
fn event_by(server: &Endpoint, call: impl FnOnce() + Send) -> Event {
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(100));
            call();
        });
        let mut events = Vec::new();
        assert_eq!(
            server.poll_events(&mut events, 1, Some(Duration::from_secs(5))).unwrap(),
            1,
            "it slept on"
        );
        events[0]
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
            thread::sleep(Duration::from_millis(50));
            let start = Instant::now();
            server.close_receiver(NOW).unwrap();
            assert!(matches!(waiting.join().unwrap(), Err(CallError::NotFound)));
            assert!(start.elapsed() < Duration::from_secs(5));
        });

        // A close that waits for a peer which does not answer does not keep the others waiting.
        let (_silent, port) = silence();
        let (client, id) = Endpoint::sender(&config(io_thread), "127.0.0.1", port).unwrap();
        client.send(id, b"x", LONG).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let result = recv(&client, id, 9, LONG);
                (result, Instant::now())
            });
            thread::sleep(Duration::from_millis(50));
            let limit = Duration::from_secs(2);
            let until = Instant::now() + limit;
            assert!(matches!(client.close_connection(id, Some(limit)), Err(CallError::TimedOut)));
            let (result, at) = waiting.join().unwrap();
            assert!(matches!(result, Err(CallError::NotFound)), "{result:?}");
            assert!(at < until, "the wait lasted as long as the close");
        });
    }
}

#[test]
fn everybody_who_waits_for_the_handshake_is_told_of_it() {
    for io_thread in [true, false] {
        let (_silent, never) = silence();
        let (reserved, port) = silence();
        let client = receiver(io_thread);
        let (first, _) = client.connect("127.0.0.1", never, 0, None).unwrap();
        let (second, _) = client.connect("127.0.0.1", port, 0, None).unwrap();
        thread::scope(|scope| {
            // One drives, for a peer that never answers; the other must be called by it.
            let driver = scope.spawn(|| client.poll(first, event::CONNECTED, Some(Duration::from_secs(4))));
            thread::sleep(Duration::from_millis(50));
            let called = scope.spawn(|| client.poll(second, event::CONNECTED, LONG));
            thread::sleep(Duration::from_millis(50));
            drop(reserved);
            let server = Endpoint::receiver(&config(true), Some("127.0.0.1"), port).unwrap();
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
        thread::sleep(Duration::from_millis(50));
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
        assert!(!readable(&descriptor, Duration::from_millis(100)), "no poll would end that");
        assert!(matches!(recv(&server, id, 9, LONG), Err(CallError::Interrupted)), "remembered");
    }
}

#[test]
fn a_panic_in_one_call_ends_every_other_with_its_own_error() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        let thread_lives = Arc::downgrade(&server.shared);
        thread::scope(|scope| {
            let waits = [(); 2].map(|()| {
                let server = &server;
                let waiting = scope.spawn(move || server.poll_events(&mut Vec::new(), 1, LONG));
                thread::sleep(Duration::from_millis(50)); // one drives, one waits to be called
                waiting
            });
            let panicking =
                scope.spawn(|| server.call::<()>(|_, _| std::panic::resume_unwind(Box::new("a bug"))));
            assert!(panicking.join().is_err());
            let start = Instant::now();
            for waiting in waits {
                assert!(matches!(waiting.join().unwrap(), Err(CallError::Dead)));
            }
            assert!(start.elapsed() < Duration::from_secs(5), "left asleep");
        });
        assert!(matches!(server.close_receiver(LONG), Err(CallError::Dead)));
        drop(server);
        let deadline = Instant::now() + Duration::from_secs(5);
        while thread_lives.strong_count() > 0 {
            assert!(Instant::now() < deadline, "the I/O thread never ends");
            thread::sleep(Duration::from_millis(5));
        }
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
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                thread::scope(|senders| {
                    for byte in [1u8, 2, 3] {
                        let client = &client;
                        senders
                            .spawn(move || assert_eq!(client.send(id, &vec![byte; LEN], LONG).unwrap(), LEN));
                    }
                });
                client.flush(id, LONG).unwrap();
            });
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
