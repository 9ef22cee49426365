//! What an idle connection holds of memory, and of time.
#![cfg(target_os = "linux")] // /proc/self/statm

use std::time::Duration;

#[path = "common/many.rs"]
mod many;
use many::{BURST, Net, resident};

const CONNECTIONS: usize = 20_000;
/// All in: connection, slot, tables, and what the allocator adds.
const BOUND: f64 = 1536.0;

#[test]
fn an_idle_connection_holds_at_most_a_kib_and_a_half_and_has_no_timer() {
    let mut net = Net::new(CONNECTIONS);
    let before = resident();
    let each = || (resident() - before) / (2 * CONNECTIONS) as f64; // both ends are here
    net.dial(CONNECTIONS);
    assert!(each() < BOUND, "just established: {} bytes", each());
    assert_eq!(net.deadline(), None, "nobody waits for anything");
    for first in (0..CONNECTIONS).step_by(BURST) {
        net.send(first, BURST);
        net.settle(Duration::from_millis(1));
    }
    assert!(net.deadline().is_some(), "whoever was busy just now does not rest");
    net.wait();
    assert!(each() < BOUND, "after a message and a while: {} bytes", each());
    // And they are all there.
    for first in (0..CONNECTIONS).step_by(BURST) {
        net.send(first, BURST);
        net.settle(Duration::from_millis(1));
    }
    assert_eq!(net.server.stats().bytes_received, 2 * 1000 * CONNECTIONS as u64);
}
