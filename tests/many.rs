//! Many connections to one receiver: who is idle costs no time, who is busy gets a share.

use std::time::Duration;

#[path = "common/many.rs"]
mod many;
use many::{BURST, Net};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_hundred_thousand_idle_connections_wake_nobody() {
    const CONNECTIONS: usize = 100_000;
    let mut net = Net::new(CONNECTIONS);
    net.dial(CONNECTIONS);
    assert_eq!(net.deadline(), None, "established");
    for first in (0..CONNECTIONS).step_by(CONNECTIONS / 20) {
        net.send(first, BURST);
        net.pass(MS);
    }
    assert!(net.deadline().is_some(), "some were busy just now");
    net.pass(Duration::from_secs(60));
    assert_eq!(net.deadline(), None, "not after an hour, not ever");
}

/// Each of 10,000 connections writes a message at the same moment, once a second, unless its last one is still on its
/// way. The link takes `per_ms` bytes. Returns what the slowest and what the mean one has delivered.
fn chatter(seconds: usize, per_ms: i64) -> (u64, u64) {
    const CONNECTIONS: usize = 10_000;
    let mut net = Net::new(CONNECTIONS);
    net.dial(CONNECTIONS);
    for _ in 0..seconds {
        net.send_if(0, CONNECTIONS, |connection| connection.is_acked());
        for _ in 0..1000 {
            net.room = net.room.min(0) + per_ms;
            net.pass(MS);
        }
    }
    let delivered: Vec<u64> = net.received_by_each().collect();
    assert_eq!(delivered.len(), CONNECTIONS);
    (*delivered.iter().min().expect("some"), delivered.iter().sum::<u64>() / CONNECTIONS as u64)
}

#[test]
fn ten_thousand_connections_with_a_message_a_second_each_are_all_heard() {
    let (slowest, mean) = chatter(5, 12_500); // 100 Mbit/s; the messages with their headers are 85
    assert_eq!((slowest, mean), (5_000, 5_000));
}

#[test]
fn where_the_link_takes_half_of_it_nobody_starves() {
    let (slowest, mean) = chatter(12, 5_300);
    assert!((4_000..8_000).contains(&mean), "{mean}");
    assert!(2 * slowest >= mean, "the slowest {slowest}, the mean {mean}");
}
