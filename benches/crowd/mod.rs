//! What a message of 1,000 bytes costs a receiver, by how many connections it has: arrival, event, read, ACK, timers.
//!
//! Each connection does the same at the same age whatever their number, so that nothing but the number differs.

use std::time::Duration;

use crate::callgrind::Count;
use crate::many::Net;

/// Messages that come at once, each of another connection.
const AT_ONCE: usize = 10;
/// Between two messages of one connection that sends now and then.
const PERIOD: Duration = Duration::from_millis(500);
/// The same when all come from rest: they are at rest again.
const APART: Duration = Duration::from_secs(11);
/// After that everything that grows old is old.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Ten are busy, the others rest.
pub(crate) fn active(name: &str, events: u32, connections: usize) {
    let busy = |net: &mut Net| {
        for _ in 0..events as usize / AT_ONCE {
            net.send(0, AT_ONCE);
            net.pass(Duration::from_millis(1));
        }
    };
    let mut net = established(connections);
    busy(&mut net);
    let count = Count::begin();
    net.is_counted = true;
    busy(&mut net);
    count.end(name, events / AT_ONCE as u32 * AT_ONCE as u32);
}

/// All are awake and send in turn; counted is the second turn, or the beginning of it.
pub(crate) fn in_turn(name: &str, events: u32, connections: usize) {
    let gap = PERIOD / (connections / AT_ONCE) as u32;
    let turn = |net: &mut Net, messages| send_apart(net, messages, gap);
    sample(name, events, connections, |net, _| turn(net, connections), turn);
}

/// All rest; ten send their second message and go to rest again, then the next ten.
pub(crate) fn from_rest(name: &str, events: u32, connections: usize) {
    let turn = |net: &mut Net, messages| {
        send_apart(net, messages, APART);
        net.pass(LONG);
    };
    sample(name, events, connections, turn, turn);
}

fn established(connections: usize) -> Net {
    let mut net = Net::new(connections);
    net.dial(connections);
    net.wait();
    net
}

fn send_apart(net: &mut Net, messages: usize, gap: Duration) {
    for first in (0..messages).step_by(AT_ONCE) {
        net.send(first, AT_ONCE);
        net.pass(gap);
    }
}

/// Counts the second of two works on as many nets as it takes for so many events. Each is told how many are wanted.
fn sample(
    name: &str,
    events: u32,
    connections: usize,
    first: impl Fn(&mut Net, usize),
    counted: impl Fn(&mut Net, usize),
) {
    let each = connections.min(events as usize);
    let nets = events as usize / each;
    let mut count = None;
    for _ in 0..nets {
        let mut net = established(connections);
        first(&mut net, each);
        count.get_or_insert_with(Count::begin);
        net.is_counted = true;
        counted(&mut net, each);
    }
    count.expect("begun").end(name, (nets * each) as u32);
}
