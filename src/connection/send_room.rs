//! How much the application may queue: enough to keep the pipe full, no more, so that what it writes leaves soon.
//!
//! What is in flight must be kept until it is acknowledged. Beyond that, bytes that wait to be sent for the first
//! time only make the stream older, so their number follows the path (the kernel's `TCP_NOTSENT_LOWAT`, tuned).

use std::time::Duration;

use super::sender::Sender;

/// What may wait whatever the path: a few writes of an application, a second of 1 Mbit/s.
const UNSENT_MIN: u64 = 128 << 10;
/// Time for which what waits lasts, should the application be late: scheduling takes milliseconds.
const UNSENT_TIME: Duration = Duration::from_millis(20);
/// What `UNSENT_TIME` may ask for, 0.8 ms of 10 Gbit/s: more does not stay in the cache until it leaves.
const UNSENT_BY_TIME_MAX: u64 = 1 << 20;

impl Sender {
    /// Bytes that `write` takes now.
    pub(super) fn room(&self) -> usize {
        let unsent = self.buffer.end().saturating_sub(self.nxt);
        let room = self.unsent_max().saturating_sub(unsent);
        usize::try_from(room).map_or(self.buffer.free(), |room| room.min(self.buffer.free()))
    }

    /// A quarter of what there is at most: fewer calls, larger writes.
    pub(super) fn has_room(&self) -> bool {
        let most =
            usize::try_from(self.unsent_max()).map_or(self.buffer.limit(), |n| n.min(self.buffer.limit()));
        self.room() >= most.div_ceil(4)
    }

    /// A window more than what is in flight, so that an application that refills once per round trip, even while
    /// the window doubles, never leaves the pipe empty.
    fn unsent_max(&self) -> u64 {
        let cwnd = self.cc.cwnd();
        let srtt = self.rtt.srtt().as_secs_f64();
        let rate = self.cc.pacing_rate().map_or(cwnd as f64 / srtt, |rate| rate as f64);
        let by_time = if srtt > 0.0 { (rate * UNSENT_TIME.as_secs_f64()) as u64 } else { 0 };
        cwnd.max(by_time.min(UNSENT_BY_TIME_MAX)).max(UNSENT_MIN)
    }
}
