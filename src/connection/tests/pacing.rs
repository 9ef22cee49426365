//! A controller that asks for a rate gets it, whatever its window admits.

use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use crate::connection::Config;
use crate::connection::congestion::{AckSample, CongestionEvent, Controller};
use crate::emulator::Impairments;
use crate::time::Time;

/// A wide window and one rate.
#[derive(Debug)]
struct Steady;

const RATE: u64 = 125_000; // bytes per second: 1 Mbit/s

impl Controller for Steady {
    fn name(&self) -> &'static str {
        "steady"
    }
    fn on_sent(&mut self, _: Time, _: u64, _: u64) {}
    fn on_ack(&mut self, _: Time, _: &AckSample) {}
    fn on_congestion_event(&mut self, _: Time, _: &CongestionEvent) {}
    fn on_recovery_exit(&mut self, _: Time) {}
    fn on_retransmission_timeout(&mut self, _: Time, _: &CongestionEvent) {}
    fn on_spurious(&mut self, _: Time) {}
    fn on_idle_restart(&mut self, _: Time, _: Duration, _: Duration) {}
    fn on_mss(&mut self, _: u32) {}
    fn cwnd(&self) -> u64 {
        1 << 30
    }
    fn ssthresh(&self) -> u64 {
        u64::MAX
    }
    fn pacing_rate(&self) -> Option<u64> {
        Some(RATE)
    }
    fn wants_prr(&self) -> bool {
        false
    }
}

#[test]
fn the_stream_leaves_at_the_rate_the_controller_asks_for() {
    let link = Impairments { delay: ms(10), ..Impairments::default() };
    let mut pair = Pair::new(&Config::default(), link.clone(), link, 5);
    pair.a.conn().snd.cc = Box::new(Steady);
    pair.a.conn().snd.pacer.set_rate(Time::ZERO, Some(RATE), Duration::from_micros(50));
    pair.a.to_write = pattern(500_000, 1);
    let took = pair.run_to_end(ms(60_000));
    pair.assert_exact();
    let ideal = Duration::from_secs(4); // 500,000 bytes at RATE
    assert!(took > ideal.mul_f64(0.97) && took < ideal.mul_f64(1.05), "{took:?}");
    assert_eq!(pair.a.conn().stats().rto_count, 0);
}
