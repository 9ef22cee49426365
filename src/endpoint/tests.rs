//! Endpoints on loopback: real sockets, real threads, both ways of driving.

mod closing;
mod marks;
mod passing;
mod shards;
mod threads;
mod waking;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::core::Seat;
use super::mux::event;
use super::{CallError, ConnId, Endpoint, EndpointConfig, Event, Phase};
use crate::connection::{self, End, Error};
use crate::udp::WaitSet;

/// What a wait for something certain may take where everything is slow and others want the processors too.
const LONG: Option<Duration> = Some(PATIENCE);
const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Option<Duration> = Some(Duration::ZERO);

fn config(io_thread: bool) -> EndpointConfig {
    EndpointConfig { io_thread, ..EndpointConfig::default() }
}

fn receiver(io_thread: bool) -> Arc<Endpoint> {
    Endpoint::receiver(&config(io_thread), Some("127.0.0.1"), 0).unwrap()
}

fn dial(to: &Endpoint, io_thread: bool) -> (Arc<Endpoint>, ConnId) {
    Endpoint::sender(&config(io_thread), "127.0.0.1", to.local_addr().port()).unwrap()
}

fn recv(endpoint: &Endpoint, id: ConnId, len: usize, wait: Option<Duration>) -> Result<Vec<u8>, CallError> {
    let mut bytes = vec![0; len];
    let count = endpoint.recv_slice(id, &mut bytes, wait)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Waits until `holds`.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns once `count` calls wait at this endpoint: one in the seat, others to be called by whoever is there.
fn until_waiting(endpoint: &Endpoint, count: usize) {
    until("as many calls wait", || {
        let core = endpoint.shared.lock().unwrap();
        core.waiters.len() + usize::from(core.seat == Seat::Application) == count
    });
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn next_event(endpoint: &Endpoint) -> Event {
    let mut events = Vec::new();
    assert_eq!(endpoint.poll_events(&mut events, 1, LONG).unwrap(), 1, "no event came");
    events[0]
}

/// Echoes one connection until its end, and answers how it ended.
fn echo_one(endpoint: &Endpoint) -> Option<End> {
    let mut accepted = false;
    loop {
        let event = next_event(endpoint);
        accepted |= event.events & event::ACCEPTED != 0;
        assert!(accepted, "{event:?} before ACCEPTED");
        if event.events & event::READABLE != 0 {
            match recv(endpoint, event.conn, 1 << 16, NOW) {
                Ok(bytes) if bytes.is_empty() => endpoint.finish(event.conn).unwrap(),
                Ok(bytes) => assert_eq!(endpoint.send(event.conn, &bytes, LONG).unwrap(), bytes.len()),
                Err(error) => assert!(event.events & event::CLOSED != 0, "{error}"),
            }
        }
        if event.events & event::CLOSED != 0 {
            return event.end;
        }
    }
}

fn carries_bytes_both_ways(io_thread: bool) {
    let server = receiver(io_thread);
    let (client, id) = dial(&server, io_thread);
    let data = pattern(3 << 20);
    thread::scope(|scope| {
        let served = scope.spawn(|| echo_one(&server));
        scope.spawn(|| {
            assert_eq!(client.send(id, &data, LONG).unwrap(), data.len());
            client.finish(id).unwrap();
        });
        let mut echoed = Vec::new();
        loop {
            let bytes = recv(&client, id, 1 << 16, LONG).unwrap();
            if bytes.is_empty() {
                break;
            }
            echoed.extend(bytes);
        }
        assert!(echoed == data);
        client.close_connection(id, LONG).unwrap();
        assert_eq!(served.join().unwrap(), Some(End::Orderly));
    });
    assert!(matches!(client.send(id, b"x", NOW), Err(CallError::NotFound)));
    server.close_receiver(LONG).unwrap();
}

#[test]
fn bytes_cross_both_ways_with_an_io_thread() {
    carries_bytes_both_ways(true);
}

#[test]
fn bytes_cross_both_ways_without_an_io_thread() {
    carries_bytes_both_ways(false);
}

#[test]
fn a_ping_pong_of_blocking_calls_does_not_wait_for_timers() {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    const ROUNDS: u32 = 500;
    thread::scope(|scope| {
        scope.spawn(|| {
            let peer = next_event(&server).conn;
            for _ in 0..ROUNDS {
                let ball = recv(&server, peer, 64, LONG).unwrap();
                server.send(peer, &ball, LONG).unwrap();
            }
        });
        client.poll(id, event::CONNECTED, LONG).unwrap();
        let mut rounds: Vec<Duration> = (0..ROUNDS)
            .map(|round| {
                let (ball, start) = (round.to_be_bytes(), Instant::now());
                client.send(id, &ball, LONG).unwrap();
                assert_eq!(recv(&client, id, 64, LONG).unwrap(), ball);
                start.elapsed()
            })
            .collect();
        // Other programs may stop most of them, but a timer would stop each.
        rounds.sort();
        let quick = rounds[rounds.len() / 10];
        assert!(quick < Duration::from_millis(5), "{quick:?}, and nine in ten take longer");
    });
}

#[test]
fn nobody_listens_and_the_first_call_says_so() {
    let gone = receiver(true);
    let (client, id) = {
        gone.close_receiver(NOW).unwrap();
        dial(&gone, true)
    };
    let error = client.poll(id, event::CONNECTED, LONG).unwrap_err();
    assert!(matches!(error, CallError::Ended(Error::Refused)), "{error:?}");
    assert!(matches!(client.state(id), Err(CallError::Ended(Error::Refused))));
    assert!(matches!(client.close_connection(id, LONG), Err(CallError::Ended(Error::Refused))));
}

#[test]
fn an_endpoint_that_accepts_nobody_refuses() {
    let server =
        Endpoint::receiver(&EndpointConfig { max_clients: 0, ..config(true) }, Some("127.0.0.1"), 0).unwrap();
    let (client, id) = dial(&server, true);
    let error = client.poll(id, event::CONNECTED, LONG).unwrap_err();
    assert!(matches!(error, CallError::Ended(Error::Refused)), "{error:?}");
}

#[test]
fn a_wake_ends_a_wait_and_is_remembered_until_then() {
    for io_thread in [true, false] {
        let server = receiver(io_thread);
        let (client, id) = dial(&server, io_thread);
        let waker = client.waker(Some(id));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| recv(&client, id, 9, LONG));
            until_waiting(&client, 1);
            waker.wake();
            assert!(matches!(waiting.join().unwrap(), Err(CallError::Interrupted)));
        });
        waker.wake();
        assert!(matches!(client.recv(id, &mut [], NOW), Ok(0) | Err(CallError::WouldBlock)));
        assert!(matches!(client.poll(id, event::READABLE, NOW), Err(CallError::Interrupted)));
        assert_eq!(client.poll(id, event::READABLE, NOW).unwrap(), 0, "once");
        server.waker(None).wake();
        assert!(matches!(server.poll_events(&mut Vec::new(), 1, LONG), Err(CallError::Interrupted)));
    }
}

#[test]
fn a_call_that_may_not_wait_says_so() {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    assert!(matches!(recv(&client, id, 9, NOW), Err(CallError::WouldBlock)));
    assert!(matches!(recv(&client, id, 9, Some(Duration::from_millis(5))), Err(CallError::TimedOut)));
    assert_eq!(next_event(&server).events, event::ACCEPTED);
    assert_eq!(server.poll_events(&mut Vec::new(), 9, Some(Duration::from_millis(1))).unwrap(), 0);
    assert_eq!(client.poll(id, event::READABLE, Some(Duration::from_millis(5))).unwrap(), 0);
    assert_eq!(client.poll(id, event::CONNECTED | event::WRITABLE, LONG).unwrap(), 10);
    assert_eq!(client.state(id).unwrap(), Phase::Established);
}

#[test]
fn many_connections_from_one_socket_all_end_in_order() {
    let (server, many) = (receiver(true), receiver(true));
    let port = server.local_addr().port();
    const COUNT: usize = 50;
    for number in 0..COUNT {
        let own = EndpointConfig { local_tcp_port: 2000 + number as u16, ..config(true) };
        let (id, existed) = many.connect("127.0.0.1", port, number, Some(&own)).unwrap();
        assert!(!existed);
        many.send(id, &number.to_be_bytes(), NOW).unwrap();
        many.close_connection(id, LONG).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut closed = 0;
            while closed < COUNT {
                let event = next_event(&server);
                if event.events & event::READABLE != 0
                    && recv(&server, event.conn, 64, NOW).unwrap().is_empty()
                {
                    server.finish(event.conn).unwrap();
                }
                closed += usize::from(event.events & event::CLOSED != 0);
            }
        });
        let mut seen = [false; COUNT];
        for _ in 0..COUNT {
            let event = next_event(&many);
            assert_eq!((event.events, event.end), (event::CLOSED, Some(End::Orderly)));
            assert!(!std::mem::replace(&mut seen[event.user_data], true));
        }
    });
    assert_eq!(many.stats(None).unwrap().1, 0);
}

/// A port where nobody answers, as long as the socket lives.
fn silence() -> (std::net::UdpSocket, u16) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Is the descriptor readable, now or within `wait`?
fn readable(watch: &WaitSet, wait: Duration) -> bool {
    let mut ready = Vec::new();
    watch.wait(Some(wait), &mut ready).unwrap();
    !ready.is_empty()
}

fn watch(endpoint: &Endpoint) -> WaitSet {
    let (watch, fd, signals) = (WaitSet::new().unwrap(), endpoint.fd(), &endpoint.shared.signals);
    if signals.has_thread {
        watch.add(&signals.news, 1).unwrap();
    } else {
        watch.add(&signals.poller, 1).unwrap();
    }
    assert!(fd >= 0);
    watch
}

#[test]
fn the_descriptor_is_readable_while_there_is_something_to_do() {
    for io_thread in [true, false] {
        let (server, moment) = (receiver(io_thread), PATIENCE);
        let descriptor = watch(&server);
        assert!(!readable(&descriptor, Duration::from_millis(20)), "nothing yet");
        let (client, id) = dial(&server, true);
        client.send(id, b"hello", LONG).unwrap();
        let peer = loop {
            assert!(readable(&descriptor, moment), "a client comes");
            let mut events = Vec::new();
            if server.poll_events(&mut events, 1, NOW).unwrap() == 1 {
                break events[0].conn;
            }
        };
        while server.poll(peer, event::READABLE, LONG).unwrap() == 0 {}
        assert!(readable(&descriptor, moment), "bytes wait");
        assert_eq!(recv(&server, peer, 64, NOW).unwrap(), b"hello");
        // Without a thread, timers and ACKs make it readable too; polls deal with them.
        until("it calms down", || {
            let calm = !readable(&descriptor, Duration::from_millis(50));
            assert!(calm || server.poll_events(&mut Vec::new(), 1, NOW).unwrap() == 0);
            calm
        });
        server.waker(None).wake();
        assert!(readable(&descriptor, moment), "a wake waits");
        assert!(matches!(server.poll_events(&mut Vec::new(), 1, NOW), Err(CallError::Interrupted)));
        server.send(peer, b"back", NOW).unwrap();
        while client.poll(id, event::READABLE, Some(Duration::from_millis(1))).unwrap() == 0 {
            assert!(io_thread || readable(&descriptor, moment), "a send makes I/O due");
            server.poll_events(&mut Vec::new(), 1, NOW).unwrap();
        }
        client.abort(id).unwrap();
    }
}

#[test]
fn a_program_that_only_computes_has_its_acks_sent_by_the_thread() {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    let data = pattern(50_000); // within the first window, since nobody reads
    client.send(id, &data, LONG).unwrap();
    client.flush(id, LONG).unwrap();
    assert_eq!(server.stats(None).unwrap().1, 1, "nobody has polled the server");
}

/// A process of its own, because the I/O threads of other tests have the same name: it is run by the next.
#[test]
#[ignore = "run by an_idle_endpoint_sleeps"]
fn two_endpoints_become_idle_and_sleep() {
    let server = receiver(true);
    let (client, id) = dial(&server, true);
    client.send(id, b"x", LONG).unwrap();
    client.flush(id, LONG).unwrap();
    // Delayed ACKs, tail probes and the grace of the seat come first.
    let mut before = HashMap::new();
    until("both threads sleep for 400 ms", || {
        thread::sleep(Duration::from_millis(400));
        let now = switches();
        std::mem::replace(&mut before, now.clone()) == now && now.len() == 2
    });
}

#[test]
fn an_idle_endpoint_sleeps() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "endpoint::tests::two_endpoints_become_idle_and_sleep"]);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Voluntary context switches of every I/O thread in this process.
fn switches() -> HashMap<String, u64> {
    let mut all = HashMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == "rtcp-io" {
            let status = read("status");
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let count = count.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            all.insert(task.file_name().to_string_lossy().into_owned(), count);
        }
    }
    all
}
