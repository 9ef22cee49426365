//! A host with several addresses, of which the first does not answer.

use super::*;

#[test]
fn the_next_address_is_tried_and_gets_what_was_written_before() {
    let mut net = Net::plain();
    let gone = addr("192.0.2.9:2000");
    let with_alternative = ConnectOptions { alternatives: vec![addr(B)], ..options(0) };
    let (a, _) = net.ends[0].connect(net.now, gone, with_alternative).unwrap();
    net.ends[0].write(net.now, a, b"early").unwrap();
    net.ends[0].finish(net.now, a).unwrap();
    let mut syn = Vec::new();
    assert_eq!(net.ends[0].poll_transmit(net.now, 1, &mut syn).unwrap().to, gone);
    net.ends[0].handle_refused(net.now, gone, &syn);
    assert!(net.events(0).is_empty(), "the application does not notice");
    assert_eq!(net.ends[0].peer_addr(a), Some(addr(B)));
    assert!(net.run_until(|ends| ends[1].has_events()));
    let b = net.events(1)[0].conn;
    assert!(net.run_until(|ends| ends[1].connection(b).is_some_and(|c| c.readable_bytes() == 5)));
    assert_eq!(net.read_all(1, b).unwrap(), b"early");
}

#[test]
fn what_is_set_while_one_address_is_tried_holds_at_the_next() {
    let mut net = Net::plain();
    let gone = addr("192.0.2.9:2000");
    let with_alternative = ConnectOptions { alternatives: vec![addr(B)], ..options(0) };
    let (a, _) = net.ends[0].connect(net.now, gone, with_alternative).unwrap();
    let (keepalive, now) = (Some(Duration::from_secs(7)), net.now);
    net.ends[0].configure(now, a, |connection| connection.set_keepalive(now, keepalive)).unwrap();
    net.ends[0].configure(now, a, |connection| connection.set_nodelay(now, false)).unwrap();
    let mut syn = Vec::new();
    net.ends[0].poll_transmit(now, 1, &mut syn).unwrap();
    net.ends[0].handle_refused(now, gone, &syn);
    assert_eq!(net.ends[0].peer_addr(a), Some(addr(B)));
    let config = net.ends[0].configure(now, a, |connection| connection.config().clone()).unwrap();
    let expected =
        Config { keepalive, nodelay: false, connect_timeout: config.connect_timeout, ..Config::default() };
    assert_eq!(config, expected);
    assert_eq!(
        config.connect_timeout,
        Config::default().connect_timeout,
        "all that is left is the last one's"
    );
}

#[test]
fn a_commit_that_comes_too_late_is_not_sent_to_the_next_address_either() {
    let mut net = Net::plain();
    let gone = addr("192.0.2.9:2000");
    let with_alternative = ConnectOptions { alternatives: vec![addr(B)], ..options(0) };
    let (a, _) = net.ends[0].connect(net.now, gone, with_alternative).unwrap();
    net.ends[0].write(net.now, a, b"taken").unwrap();
    let block = net.ends[0].reserve(net.now, a).unwrap();
    net.ends[0].finish(net.now, a).unwrap();
    assert_eq!(net.ends[0].commit(net.now, a, block, 7), Err(OpError::Finished));
    let mut syn = Vec::new();
    net.ends[0].poll_transmit(net.now, 1, &mut syn).unwrap();
    net.ends[0].handle_refused(net.now, gone, &syn);
    assert!(net.run_until(|ends| ends[1].has_events()));
    let b = net.events(1)[0].conn;
    assert!(net.run_until(|ends| ends[1].connection(b).is_some_and(|c| c.readable_bytes() > 0)));
    assert_eq!(net.read_all(1, b).unwrap(), b"taken");
}
