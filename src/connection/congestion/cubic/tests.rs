//! CUBIC against the formulas of RFC 9438, in virtual time.

use super::super::{Algorithm, RateSample};
use super::*;

const MSS: u32 = 1000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A bulk sender on an ideal path: what is acknowledged is replaced at once.
struct Flow {
    cubic: Cubic,
    now: Time,
    rtt: Duration,
    una: u64,
    cwnd_limited: bool,
    in_recovery: bool,
}

impl Flow {
    fn new(rtt: Duration) -> Self {
        let cubic = Cubic::new(MSS);
        Self { cubic, now: Time::ZERO, rtt, una: 1, cwnd_limited: true, in_recovery: false }
    }

    /// In congestion avoidance right after a loss at a window of `segments`.
    fn after_loss_at(segments: f64, rtt: Duration) -> Self {
        let mut flow = Self::new(rtt);
        flow.set_window(segments);
        flow.lose();
        flow
    }

    fn set_window(&mut self, segments: f64) {
        self.cubic.state.cwnd = segments * f64::from(MSS);
    }

    /// cwnd in segments.
    fn window(&self) -> f64 {
        self.cubic.state.cwnd / f64::from(MSS)
    }

    fn ack(&mut self, bytes: u64) {
        let in_flight = self.cubic.cwnd();
        self.cubic.on_sent(self.now, bytes, in_flight);
        let snd_nxt = self.una + in_flight;
        self.una += bytes;
        let ack = AckSample {
            newly_acked: bytes,
            newly_lost: 0,
            newly_corrupt: 0,
            prior_in_flight: in_flight,
            in_flight: in_flight.saturating_sub(bytes),
            rtt: Some(self.rtt),
            srtt: self.rtt,
            min_rtt: self.rtt,
            delivered: self.una,
            rate: RateSample::default(),
            in_recovery: self.in_recovery,
            cwnd_limited: self.cwnd_limited,
            snd_una: self.una,
            snd_nxt,
            newly_ce: 0,
            ..AckSample::default()
        };
        self.cubic.on_ack(self.now, &ack);
    }

    /// One round trip: the window is acknowledged in `acks` ACKs, evenly spaced.
    fn round_in(&mut self, acks: u32) {
        let flight = self.cubic.cwnd();
        let end = self.una + flight;
        for left in (1..=acks).rev() {
            self.now += self.rtt / acks;
            self.ack((end - self.una) / u64::from(left));
        }
    }

    /// One round trip with an ACK per segment, as far as that is affordable.
    fn round(&mut self) {
        self.round_in((self.window() as u32).clamp(1, 200));
    }

    fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.round());
    }

    fn event(&self, ecn: bool) -> CongestionEvent {
        let in_flight = self.cubic.cwnd();
        CongestionEvent { in_flight, snd_nxt: self.una + in_flight, ecn }
    }

    /// A loss, and a recovery that takes no time.
    fn lose(&mut self) {
        self.cubic.on_congestion_event(self.now, &self.event(false));
        self.cubic.on_recovery_exit(self.now);
    }

    fn time_out(&mut self) {
        self.cubic.on_retransmission_timeout(self.now, &self.event(false));
    }
}

fn assert_close(actual: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((actual / expected - 1.0).abs() <= tolerance, "{what}: {actual:.2}, expected {expected:.2}");
}

#[test]
fn initial_window_is_that_of_rfc_6928() {
    for (mss, window) in [(536, 5_360), (1_460, 14_600), (1_500, 14_600), (9_000, 18_000), (0, 10)] {
        let cubic = Algorithm::Cubic.build(mss);
        assert_eq!((cubic.cwnd(), cubic.ssthresh()), (window, u64::MAX), "MSS {mss}");
    }
}

#[test]
fn mss_learned_before_data_flows_sets_the_initial_window_and_later_ones_keep_it() {
    let mut flow = Flow::new(ms(50));
    flow.cubic.on_mss(1_460);
    assert_eq!(flow.cubic.cwnd(), 14_600);
    flow.ack(1_460);
    flow.cubic.on_mss(1_200);
    assert_eq!(flow.cubic.cwnd(), 16_060);
    flow.cubic.on_mss(40_000);
    assert_eq!(flow.cubic.cwnd(), 40_000, "at least one segment");
}

#[test]
fn slow_start_doubles_per_round_trip_however_few_the_acks() {
    for acks in [1, 3, 10] {
        let mut flow = Flow::new(ms(50));
        (0..5).for_each(|_| flow.round_in(acks));
        assert_eq!(flow.cubic.cwnd(), 320_000, "{acks} ACKs per round");
    }
}

#[test]
fn slow_start_stops_at_ssthresh_and_the_rest_of_the_ack_counts_in_congestion_avoidance() {
    let mut flow = Flow::new(ms(50));
    flow.cubic.state.ssthresh = 12_000.0;
    flow.ack(10_000);
    assert!(flow.cubic.cwnd() >= 12_000 && flow.window() < 13.0, "{}", flow.window());
    assert!(flow.cubic.state.epoch.is_some());
}

/// RFC 9438 figure 1 with RFC numbers: W(t) = 0.4 (t - K)^3 + W_max, K = cbrt(0.3 W_max / 0.4).
#[test]
fn window_follows_the_cubic_function() {
    for (w_max, rtt) in [(1_000.0, ms(100)), (5_000.0, ms(200)), (20_000.0, ms(50)), (2_000.0, ms(600))] {
        let mut flow = Flow::after_loss_at(w_max, rtt);
        assert_close(flow.window(), 0.7 * w_max, 1e-9, "after the loss");
        flow.ack(1); // the stage begins with its first ACK
        let k = (0.3 * w_max / 0.4f64).cbrt();
        let rounds = (1.5 * k / rtt.as_secs_f64()) as u32;
        for round in 1..=rounds {
            flow.round();
            // cwnd at t aims at W_cubic(t + RTT), and gets there a round trip later.
            let t = rtt.as_secs_f64() * f64::from(round);
            let distance = t - k;
            let expected = 0.4 * distance * distance * distance + w_max;
            assert_close(flow.window(), expected, 0.01, &format!("W_max {w_max}, {rtt:?}, round {round}"));
        }
    }
}

#[test]
fn window_grows_by_half_its_size_towards_the_target_at_most() {
    let mut flow = Flow::after_loss_at(100.0, ms(100));
    flow.round();
    let before = flow.window();
    flow.now += Duration::from_secs(1_000); // the function is at 4 * 10^8 segments by now
    flow.ack(flow.cubic.cwnd());
    assert_close(flow.window(), 1.5 * before, 1e-4, "one window acknowledged at once");
}

/// On short paths Reno is faster than the cubic function, and CUBIC must keep up with the additive
/// increase alpha = 0.529 up to the old window and 1 beyond.
#[test]
fn reno_friendly_region_follows_the_aimd_model() {
    let mut flow = Flow::after_loss_at(100.0, ms(5));
    flow.ack(1);
    let mut model = 70.0f64;
    for round in 1..=200 {
        flow.round();
        model += if model < 100.0 { 3.0 * 0.3 / 1.7 } else { 1.0 };
        assert_close(flow.window(), model, 0.01, &format!("round {round}"));
    }
    assert!(model > 200.0, "the model passed the old window");
}

/// The promise of the region: under the same periodic loss, the average window is Reno's.
#[test]
fn reno_friendly_region_is_as_fast_as_reno_under_the_same_losses() {
    const PERIOD: f64 = 2_000.0; // one loss per so many segments
    let mut flow = Flow::after_loss_at(60.0, ms(5));
    let (mut cubic_sum, mut reno_sum) = (0.0, 0.0);
    let (mut cubic_sent, mut reno_sent, mut reno) = (0.0, 0.0, 60.0f64);
    for _ in 0..10_000 {
        flow.round();
        cubic_sum += flow.window();
        cubic_sent += flow.window();
        reno += 1.0;
        reno_sum += reno;
        reno_sent += reno;
        if cubic_sent >= PERIOD {
            cubic_sent -= PERIOD;
            flow.lose();
        }
        if reno_sent >= PERIOD {
            reno_sent -= PERIOD;
            reno /= 2.0;
        }
    }
    assert_close(cubic_sum / reno_sum, 1.0, 0.1, "average window, CUBIC to Reno");
}

#[test]
fn fast_convergence_lowers_the_plateau_of_a_flow_that_lost_ground() {
    let mut flow = Flow::after_loss_at(1_000.0, ms(100));
    assert_close(flow.cubic.state.w_max, 1_000_000.0, 1e-9, "first loss: where it was");
    flow.round();
    let window = flow.window();
    assert!(window < 1_000.0);
    flow.lose();
    assert_close(flow.cubic.state.w_max, window * 1_000.0 * 0.85, 1e-9, "second loss below it");
    assert_close(flow.cubic.state.cwnd_prior, window * 1_000.0, 1e-9, "cwnd_prior is not lowered");
    flow.set_window(2_000.0);
    flow.lose();
    assert_close(flow.cubic.state.w_max, 2_000_000.0, 1e-9, "third loss above it");
}

#[test]
fn loss_keeps_two_segments_and_marks_go_down_to_one() {
    for (ecn, percent, floor) in [(false, 70, 2_000), (true, 85, 1_000)] {
        let mut flow = Flow::new(ms(50));
        let first = flow.cubic.cwnd();
        flow.cubic.on_congestion_event(flow.now, &flow.event(ecn));
        assert_eq!(flow.cubic.cwnd(), first * percent / 100, "beta, ecn {ecn}");
        for _ in 0..40 {
            flow.cubic.on_congestion_event(flow.now, &flow.event(ecn));
        }
        assert_eq!((flow.cubic.cwnd(), flow.cubic.ssthresh()), (floor, 2_000));
    }
}

#[test]
fn a_loss_in_the_window_of_a_mark_is_one_reduction_of_a_losss_depth() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(100.0);
    let (mark, loss) = (flow.event(true), flow.event(false));
    flow.cubic.on_congestion_event(flow.now, &mark);
    assert_eq!(flow.cubic.cwnd(), 85_000);
    flow.cubic.on_congestion_event(flow.now, &loss);
    assert_eq!(flow.cubic.cwnd(), 70_000, "not 0.7 of 0.85");
    flow.cubic.on_spurious(flow.now);
    assert_eq!(flow.cubic.cwnd(), 85_000, "the loss was none, the mark was one");

    flow.cubic.on_congestion_event(flow.now, &mark);
    flow.cubic.snd_una = mark.snd_nxt;
    let window = flow.cubic.cwnd();
    flow.cubic.on_congestion_event(flow.now, &flow.event(false));
    assert_eq!(flow.cubic.cwnd(), window * 7 / 10, "a later loss is an event of its own");
}

#[test]
fn reduction_starts_from_the_flight_not_from_an_unused_window() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(100.0);
    let event = CongestionEvent { in_flight: 20_000, snd_nxt: 20_001, ecn: false };
    flow.cubic.on_congestion_event(flow.now, &event);
    assert_eq!(flow.cubic.cwnd(), 14_000);
}

#[test]
fn reduction_counts_bytes_that_the_revealing_ack_took_out_of_flight() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(100.0);
    flow.cubic.on_sent(flow.now, 1_000, 100_000);
    let event = CongestionEvent { in_flight: 36_000, snd_nxt: 100_001, ecn: false };
    flow.cubic.on_congestion_event(flow.now, &event);
    assert_eq!(flow.cubic.cwnd(), 70_000, "64 segments were SACKed in the batch that showed the loss");
}

#[test]
fn window_stands_during_fast_recovery() {
    let mut flow = Flow::after_loss_at(100.0, ms(50));
    flow.in_recovery = true;
    flow.rounds(3);
    assert_eq!(flow.cubic.cwnd(), 70_000);
    assert!(flow.cubic.state.epoch.is_none(), "the next stage has not begun");
}

#[test]
fn timeout_restarts_from_one_segment_and_the_next_stage_from_where_slow_start_ends() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(100.0);
    flow.time_out();
    assert_eq!((flow.cubic.cwnd(), flow.cubic.ssthresh()), (1_000, 70_000));
    flow.in_recovery = true; // slow start goes on in a timeout's recovery
    flow.rounds(3);
    assert_eq!(flow.cubic.cwnd(), 8_000);
    flow.in_recovery = false;
    flow.cubic.on_recovery_exit(flow.now);
    flow.rounds(4);
    let epoch = flow.cubic.state.epoch.expect("70 segments are reached in the seventh round");
    assert_eq!((epoch.k, epoch.w_max), (0.0, 70_000.0));
}

#[test]
fn repeated_timeout_of_one_segment_holds_ssthresh_and_a_later_one_does_not() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(100.0);
    (0..5).for_each(|_| flow.time_out());
    assert_eq!((flow.cubic.cwnd(), flow.cubic.ssthresh()), (1_000, 70_000));
    flow.rounds(2);
    flow.time_out();
    assert_eq!((flow.cubic.cwnd(), flow.cubic.ssthresh()), (1_000, 2_800), "0.7 of 4 segments");
}

#[test]
fn ack_of_the_flight_before_a_timeout_earns_one_segment_only() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(100.0);
    flow.time_out();
    flow.ack(60_000); // the originals arrived after all; one retransmission is in flight
    assert_eq!(flow.cubic.cwnd(), 2_000);
}

#[test]
fn undo_restores_every_variable_and_the_curve_goes_on() {
    let mut flow = Flow::after_loss_at(1_000.0, ms(100));
    flow.rounds(10);
    let before = flow.cubic.state.clone();
    type Strike = fn(&mut Flow);
    let strikes: [(&str, Strike); 3] = [
        ("loss", Flow::lose),
        ("timeout", Flow::time_out),
        ("three timeouts", |flow| (0..3).for_each(|_| flow.time_out())),
    ];
    for (name, strike) in strikes {
        strike(&mut flow);
        assert_ne!(flow.cubic.state, before);
        flow.now += Duration::from_secs(30);
        flow.cubic.on_spurious(flow.now);
        let mut expected = before.clone();
        expected.epoch.as_mut().expect("in congestion avoidance").updated_at = flow.now;
        assert_eq!(flow.cubic.state, expected, "{name}");
    }
    flow.ack(1_000);
    assert!(flow.cubic.state.cwnd - before.cwnd < 1_000.0, "30 s of standstill earn nothing");
    // A second report of the same event has nothing left to restore.
    flow.lose();
    flow.cubic.on_spurious(flow.now);
    let restored = flow.cubic.state.clone();
    flow.cubic.on_spurious(flow.now);
    assert_eq!(flow.cubic.state, restored);
}

#[test]
fn undo_brings_back_the_first_slow_start_with_hystart() {
    let mut flow = Flow::new(ms(50));
    flow.rounds(2);
    flow.lose();
    flow.cubic.on_spurious(flow.now);
    assert_eq!((flow.cubic.cwnd(), flow.cubic.ssthresh()), (40_000, u64::MAX));
    flow.round();
    assert_eq!(flow.cubic.cwnd(), 80_000);
}

#[test]
fn undo_comes_too_late_for_a_larger_window_a_mark_or_a_long_pause() {
    let mut outgrown = Flow::after_loss_at(100.0, ms(5));
    outgrown.rounds(100);
    let window = outgrown.cubic.cwnd();
    assert!(window > 100_000);
    outgrown.cubic.on_spurious(outgrown.now);
    assert_eq!(outgrown.cubic.cwnd(), window);

    let mut marked = Flow::after_loss_at(100.0, ms(5));
    marked.cubic.on_congestion_event(marked.now, &marked.event(true));
    marked.cubic.on_spurious(marked.now);
    assert_eq!(marked.cubic.cwnd(), 59_500);

    let mut paused = Flow::after_loss_at(100.0, ms(5));
    paused.cubic.on_idle_restart(paused.now, ms(900), ms(200));
    paused.cubic.on_spurious(paused.now);
    assert_eq!(paused.cubic.cwnd(), 10_000);
}

#[test]
fn idle_longer_than_the_timeout_restarts_from_the_initial_window() {
    let mut flow = Flow::after_loss_at(100.0, ms(50));
    flow.cubic.on_idle_restart(flow.now, ms(200), ms(200));
    assert_eq!(flow.cubic.cwnd(), 70_000, "not longer");
    flow.cubic.on_idle_restart(flow.now, ms(201), ms(200));
    assert_eq!((flow.cubic.cwnd(), flow.cubic.ssthresh()), (10_000, 70_000));
    flow.set_window(4.0);
    flow.cubic.on_idle_restart(flow.now, ms(201), ms(200));
    assert_eq!(flow.cubic.cwnd(), 4_000, "never raised");
}

#[test]
fn time_limited_by_the_application_or_idle_is_not_part_of_the_curve() {
    let mut straight = Flow::after_loss_at(1_000.0, ms(100));
    let mut paused = Flow::after_loss_at(1_000.0, ms(100));
    straight.rounds(60);

    paused.rounds(10);
    let window = paused.cubic.cwnd();
    paused.cwnd_limited = false;
    paused.rounds(100);
    assert_eq!(paused.cubic.cwnd(), window, "no growth while application-limited");
    paused.cwnd_limited = true;
    paused.rounds(20);
    paused.now += ms(150);
    paused.cubic.on_idle_restart(paused.now, ms(150), ms(200));
    paused.rounds(30);
    assert_close(paused.window(), straight.window(), 0.001, "after the same busy time");
}

#[test]
fn slow_start_does_not_grow_while_application_limited() {
    let mut flow = Flow::new(ms(50));
    flow.cwnd_limited = false;
    flow.rounds(5);
    assert_eq!(flow.cubic.cwnd(), 10_000);
}

#[test]
fn rising_delay_ends_slow_start_without_a_loss() {
    let mut flow = Flow::new(ms(50));
    flow.rounds(3);
    assert_eq!((flow.cubic.cwnd(), flow.cubic.phase()), (80_000, "slow-start"));
    flow.rtt = ms(60);
    flow.rounds(2);
    assert_eq!(flow.cubic.phase(), "css");
    flow.rounds(6);
    assert_eq!(flow.cubic.phase(), "avoidance");
    let exit = flow.cubic.ssthresh();
    assert_ne!(exit, u64::MAX);
    // Five rounds at a quarter of slow start's pace.
    assert!((150_000..500_000).contains(&exit), "{exit}");
    assert_eq!(flow.cubic.state.w_max, flow.cubic.state.ssthresh, "RFC 9438 section 4.10: K = 0 at the exit");
    assert!(flow.window() * 1_000.0 < exit as f64 * 1.2, "congestion avoidance is slow");
}

#[test]
fn delay_that_falls_back_resumes_doubling() {
    let mut flow = Flow::new(ms(50));
    flow.rounds(3);
    flow.rtt = ms(60);
    flow.rounds(2);
    let conservative = flow.window();
    flow.round();
    assert!(flow.window() < 1.3 * conservative, "a quarter per round trip");
    flow.rtt = ms(50);
    flow.round();
    let resumed = flow.window();
    flow.round();
    assert_close(flow.window(), 2.0 * resumed, 0.01, "doubling again");
    assert_eq!(flow.cubic.ssthresh(), u64::MAX);
}

#[test]
fn hystart_is_for_the_first_slow_start_only() {
    let mut flow = Flow::new(ms(50));
    flow.set_window(2_000.0);
    flow.time_out();
    flow.rounds(5);
    flow.rtt = ms(100);
    flow.rounds(4);
    assert_eq!(flow.cubic.cwnd(), 512_000, "ssthresh, not the delay, ends a later one");
}

#[test]
fn extreme_arguments_neither_panic_nor_leave_the_bounds() {
    let extremes = [0, 1, 999, u64::from(u32::MAX), u64::MAX];
    for mss in [0, 1, MSS, u32::MAX] {
        let mut cubic = Cubic::new(mss);
        for (i, &a) in extremes.iter().enumerate() {
            for &b in &extremes {
                let now = Time::from_nanos(b);
                let long = Duration::from_nanos(a);
                cubic.on_sent(now, a, b);
                for in_recovery in [true, false] {
                    let ack = AckSample {
                        newly_acked: a,
                        newly_lost: b,
                        newly_corrupt: a,
                        prior_in_flight: b,
                        in_flight: a,
                        rtt: Some(long),
                        srtt: if i == 4 { Duration::MAX } else { long },
                        min_rtt: long,
                        delivered: a,
                        rate: RateSample::default(),
                        in_recovery,
                        cwnd_limited: true,
                        snd_una: a,
                        snd_nxt: b,
                        newly_ce: b,
                        ..AckSample::default()
                    };
                    cubic.on_ack(now, &ack);
                }
                let event = CongestionEvent { in_flight: a, snd_nxt: b, ecn: i % 2 == 0 };
                match i {
                    0 => cubic.on_idle_restart(now, long, Duration::ZERO),
                    1 => cubic.on_retransmission_timeout(now, &event),
                    2 => cubic.on_spurious(now),
                    _ => cubic.on_congestion_event(now, &event),
                }
                let mss = u64::from(mss.clamp(1, 65_535));
                let bounds = mss..=MAX_CWND as u64;
                assert!(bounds.contains(&cubic.cwnd()), "{a} {b} {cubic:?}");
                assert!(cubic.ssthresh() >= 2 * mss);
            }
        }
    }
}
