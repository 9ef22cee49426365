//! Several sockets and threads behind one handle.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::endpoint::Shards;

fn sharded(shards: usize) -> Shards {
    let config = EndpointConfig { shards, ..config(true) };
    Shards::receiver(&config, Some("127.0.0.1"), 0).unwrap()
}

fn dial_shards(to: &Shards) -> (Arc<Endpoint>, ConnId) {
    Endpoint::sender(&config(true), "127.0.0.1", to.local_addr().port()).unwrap()
}

/// Polls until `done` says so of the records seen so far.
fn poll_until(server: &Shards, max: usize, mut done: impl FnMut(&Event) -> bool) {
    let mut events = Vec::new();
    for _ in 0..100_000 {
        events.clear();
        assert!(server.poll_events(&mut events, max, LONG).unwrap() > 0, "no event came");
        if events.iter().filter(|record| done(record)).count() > 0 {
            return;
        }
    }
    panic!("not the event that was waited for");
}

/// Accepts `count` connections.
fn accept(server: &Shards, count: usize) -> Vec<ConnId> {
    let mut ids = Vec::new();
    poll_until(server, 8, |record| {
        if record.events & event::ACCEPTED != 0 {
            ids.push(record.conn);
        }
        ids.len() == count
    });
    ids
}

/// As many clients as it takes to have `least` of them, in the order of `ids`, and one on every shard: the kernel
/// chooses by their ports.
fn clients_on_all(
    server: &Shards,
    shards: usize,
    least: usize,
) -> (Vec<(Arc<Endpoint>, ConnId)>, Vec<ConnId>) {
    let (mut clients, mut ids) = (Vec::new(), Vec::new());
    while ids.len() < least || shards_of(&ids).len() < shards {
        assert!(ids.len() < 100, "all on {:?}", shards_of(&ids));
        clients.push(dial_shards(server));
        ids.extend(accept(server, 1));
    }
    (clients, ids)
}

fn shards_of(ids: &[ConnId]) -> HashSet<usize> {
    ids.iter().map(|id| id.shard()).collect()
}

#[test]
fn every_shard_has_its_connections_and_each_is_echoed_whole() {
    const LEAST: usize = 24;
    let server = sharded(3);
    let data = pattern(200_000);
    let (clients, accepted) = clients_on_all(&server, 3, LEAST);
    thread::scope(|scope| {
        for (number, (client, id)) in clients.iter().enumerate() {
            let (data, id) = (&data[number..], *id);
            scope.spawn(move || {
                assert_eq!(client.send(id, data, LONG).unwrap(), data.len());
                client.finish(id).unwrap();
                let mut echoed = Vec::new();
                while let bytes @ [_, ..] = &recv(client, id, 1 << 16, LONG).unwrap()[..] {
                    echoed.extend_from_slice(bytes);
                }
                assert!(echoed == data, "client {number} got {} of {} bytes", echoed.len(), data.len());
                client.close_connection(id, LONG).unwrap();
            });
        }
        let mut closed = HashSet::new();
        poll_until(&server, 4, |record| {
            let (id, place) = (record.conn, server.of(record.conn));
            assert!(accepted.contains(&id), "{record:?} of a stranger");
            if record.events & event::READABLE != 0 {
                match recv(place, id, 1 << 16, NOW).unwrap() {
                    bytes if bytes.is_empty() => place.finish(id).unwrap(),
                    bytes => assert_eq!(place.send(id, &bytes, LONG).unwrap(), bytes.len()),
                }
            }
            if record.events & event::CLOSED != 0 {
                assert_eq!(record.end, Some(End::Orderly));
                assert!(closed.insert(id), "CLOSED twice");
            }
            closed.len() == accepted.len()
        });
    });
    let (stats, connections) = server.stats().unwrap();
    let expected: usize = (0..clients.len()).map(|number| data.len() - number).sum();
    assert_eq!((stats.bytes_received, stats.bytes_acked), (expected as u64, expected as u64));
    assert_eq!(connections, 0);
    server.close(LONG).unwrap();
}

#[test]
fn what_is_dialled_comes_back_to_the_shard_that_dialled() {
    let (here, there) = (sharded(4), receiver(true));
    let peers: Vec<_> = (0..16).map(|_| receiver(true)).collect();
    let mut ids = Vec::new();
    for (number, peer) in peers.iter().enumerate() {
        let (id, existed) = here.connect("127.0.0.1", peer.local_addr().port(), number, None).unwrap();
        assert!(!existed);
        here.of(id).send(id, &[number as u8; 10], LONG).unwrap();
        ids.push(id);
    }
    assert!(shards_of(&ids).len() > 1);
    let mut connected = HashMap::new();
    poll_until(&here, 3, |record| {
        if record.events & event::CONNECTED != 0 {
            connected.insert(record.conn, record.user_data);
        }
        connected.len() == peers.len()
    });
    for (number, (peer, &id)) in peers.iter().zip(&ids).enumerate() {
        assert_eq!(connected[&id], number);
        let accepted = next_event(peer).conn;
        assert_eq!(recv(peer, accepted, 100, LONG).unwrap(), [number as u8; 10]);
        // Whoever began it: the same address again is the same connection.
        let again = here.connect("127.0.0.1", peer.local_addr().port(), 0, None).unwrap();
        assert_eq!(again, (id, true));
    }
    // One that came in is found by dialling back.
    let (back, _) = there.connect("127.0.0.1", here.local_addr().port(), 0, None).unwrap();
    let came = accept(&here, 1)[0];
    let found = here.connect("127.0.0.1", there.local_addr().port(), 0, None).unwrap();
    assert_eq!(found, (came, true));
    there.close_connection(back, LONG).unwrap();
}

#[test]
fn the_limit_on_clients_is_one_for_all_shards() {
    let config = EndpointConfig { shards: 4, max_clients: 5, ..config(true) };
    let server = Shards::receiver(&config, Some("127.0.0.1"), 0).unwrap();
    let clients: Vec<_> = (0..20).map(|_| dial_shards(&server)).collect();
    // Some are established before they are refused: the handshake's last segment finds no room any more.
    let lives = |(client, id): &&(Arc<Endpoint>, ConnId)| match client.poll(*id, event::CLOSED, NOW) {
        Ok(0) => true,
        Err(CallError::Ended(Error::Refused | Error::Reset)) => false,
        other => panic!("{other:?}"),
    };
    until("15 are refused", || clients.iter().filter(lives).count() == 5);
    let accepted: Vec<_> = clients.iter().filter(lives).collect();
    for (client, id) in &accepted {
        assert_eq!(client.poll(*id, event::CONNECTED, LONG).unwrap(), event::CONNECTED);
    }
    until("all five are in", || server.stats().unwrap().1 == 5);
    assert_eq!(accepted.into_iter().filter(lives).count(), 5);
    server.set_max_clients(6);
    let (client, id) = dial_shards(&server);
    assert_eq!(client.poll(id, event::CONNECTED, LONG).unwrap(), event::CONNECTED);
}

#[test]
fn one_record_at_a_time_still_reaches_every_shard() {
    let server = sharded(2);
    let (clients, ids) = clients_on_all(&server, 2, 16);
    for (client, id) in &clients {
        client.send(*id, b"unread for ever", LONG).unwrap();
    }
    let mut seen = HashSet::new();
    // Nobody reads: all stay readable, and each gets its turn all the same.
    poll_until(&server, 1, |record| {
        seen.insert(record.conn);
        seen.len() == ids.len()
    });
}

#[test]
fn an_id_lives_until_the_poll_after_its_last_record_whichever_shard_has_news() {
    let server = sharded(2);
    let (clients, ids) = clients_on_all(&server, 2, 8);
    clients.iter().for_each(|(client, id)| client.abort(*id).unwrap());
    let mut closed = HashSet::new();
    poll_until(&server, 8, |record| {
        assert!(server.of(record.conn).stats(Some(record.conn)).is_ok());
        closed.insert(record.conn);
        closed.len() == ids.len()
    });
    assert_eq!(server.poll_events(&mut Vec::new(), 8, NOW).unwrap(), 0);
    for id in ids {
        assert!(matches!(server.of(id).stats(Some(id)), Err(CallError::NotFound)));
    }
}

#[test]
fn a_wake_ends_one_poll_and_only_one() {
    let server = sharded(3);
    let waker = server.waker();
    waker.wake();
    waker.wake();
    let mut events = Vec::new();
    assert!(matches!(server.poll_events(&mut events, 1, LONG), Err(CallError::Interrupted)));
    assert_eq!(server.poll_events(&mut events, 1, NOW).unwrap(), 0);
    thread::scope(|scope| {
        let poll = scope.spawn(|| server.poll_events(&mut Vec::new(), 1, LONG));
        thread::sleep(Duration::from_millis(30)); // that it sleeps by then is likely; either way it is woken
        waker.wake();
        assert!(matches!(poll.join().unwrap(), Err(CallError::Interrupted)));
    });
    let limit = Duration::from_millis(50);
    let begun = Instant::now();
    assert_eq!(server.poll_events(&mut events, 1, Some(limit)).unwrap(), 0);
    assert!(begun.elapsed() >= limit);
}

#[test]
fn the_descriptor_says_whether_a_poll_would_find_something() {
    let server = sharded(3);
    let readable = || {
        // Takes the locks: whoever has just sent an ACK has also raised the descriptor after that.
        let due = server.timeout_ms();
        let mut poll = libc::pollfd { fd: server.fd(), events: libc::POLLIN, revents: 0 };
        #[allow(unsafe_code)]
        // SAFETY: one live pollfd.
        let count = unsafe { libc::poll(&raw mut poll, 1, 0) };
        assert_eq!(due, if count == 0 { -1 } else { 0 });
        count == 1
    };
    assert!(!readable());
    let (client, id) = dial_shards(&server);
    let accepted = accept(&server, 1)[0];
    assert!(!readable());
    client.send(id, b"x", LONG).unwrap();
    client.flush(id, LONG).unwrap();
    assert!(readable());
    recv(server.of(accepted), accepted, 10, NOW).unwrap();
    assert!(!readable());
    server.waker().wake();
    assert!(readable());
    assert!(matches!(server.poll_events(&mut Vec::new(), 1, NOW), Err(CallError::Interrupted)));
    assert_eq!(server.poll_events(&mut Vec::new(), 1, NOW).unwrap(), 0);
    assert!(!readable());
}

#[test]
fn a_close_delivers_what_every_shard_has_and_ends_a_poll() {
    let server = sharded(3);
    let (clients, ids) = clients_on_all(&server, 3, 12);
    let data = pattern(300_000);
    for &id in &ids {
        assert!(server.of(id).send(id, &data, NOW).unwrap() > 0);
    }
    thread::scope(|scope| {
        let poll = scope.spawn(|| server.poll_events(&mut Vec::new(), 1, LONG));
        for (client, id) in &clients {
            let data = &data;
            scope.spawn(move || {
                let mut got = Vec::new();
                while let bytes @ [_, ..] = &recv(client, *id, 1 << 16, LONG).unwrap()[..] {
                    got.extend_from_slice(bytes);
                }
                assert!(!got.is_empty() && data.starts_with(&got), "{} bytes", got.len());
            });
        }
        server.close(LONG).unwrap();
        assert!(matches!(poll.join().unwrap(), Err(CallError::NotFound)));
    });
    assert!(matches!(server.poll_events(&mut Vec::new(), 1, NOW), Err(CallError::NotFound)));
    assert!(matches!(server.connect("127.0.0.1", 9, 0, None), Err(CallError::NotFound)));
}

#[test]
fn a_close_has_one_limit_for_all_shards_and_one_wake() {
    const SHARDS: usize = 8;
    let limit = Duration::from_secs(1);
    for woken in [false, true] {
        let server = sharded(SHARDS);
        let (_clients, ids) = clients_on_all(&server, SHARDS, SHARDS);
        // More than the windows take: nobody reads it.
        let data = vec![1; 4 << 20];
        for &id in &ids {
            assert!(server.of(id).send(id, &data, NOW).unwrap() > 0);
        }
        if woken {
            server.waker().wake();
        }
        let (begun, wait) = (Instant::now(), if woken { PATIENCE } else { limit });
        let result = server.close(Some(wait));
        let took = begun.elapsed();
        match result {
            Err(CallError::Interrupted) if woken => assert!(took < PATIENCE, "others waited on: {took:?}"),
            Err(CallError::TimedOut) if !woken => {
                assert!(took >= limit && took < limit * SHARDS as u32, "one after the other: {took:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_port_is_free_again_after_the_last_linger_and_not_shared_before() {
    let server = sharded(2);
    let address = server.local_addr();
    let again = || {
        let config = EndpointConfig { shards: 2, ..config(true) };
        Shards::receiver(&config, Some("127.0.0.1"), address.port())
    };
    assert!(matches!(again(), Err(CallError::Os(..))), "a second one would take half of the datagrams");
    server.close(NOW).unwrap();
    drop(server);
    until("the port is free", || again().is_ok());
}

#[test]
fn what_does_not_go_with_shards_is_refused() {
    let base = || EndpointConfig { shards: 2, ..config(true) };
    for bad in [
        EndpointConfig { shards: 0, ..base() },
        EndpointConfig { shards: 65, ..base() },
        EndpointConfig { io_thread: false, ..base() },
        EndpointConfig { socket: Some(0), ..base() },
        EndpointConfig { any_source: true, ..base() },
    ] {
        let made = Shards::receiver(&bad, None, 0);
        assert!(matches!(made, Err(CallError::Invalid(_))), "{made:?}");
    }
    assert!(Shards::receiver(&EndpointConfig { shards: 64, ..base() }, None, 0).is_ok());
}

#[test]
fn a_poll_of_shards_says_that_a_socket_is_gone_instead_of_going_round() {
    let server = sharded(2);
    let endpoint = server.first();
    let mut core = endpoint.shared.lock().unwrap();
    core.mux.cut_off(crate::udp::now());
    endpoint.shared.publish(&mut core);
    drop(core);
    assert!(matches!(server.poll_events(&mut Vec::new(), 8, LONG), Err(CallError::Os(..))));
}
