//! What the parts of the model make of each other.

use super::*;

/// A start-up whose rounds of 100 segments each lose so many, until it is over.
fn after_startup(lost: u64) -> Bbr {
    let mut bbr = Bbr::new(1000);
    bbr.round.is_start = true;
    for round in 1..20 {
        bbr.bandwidth.on_sample(100_000.0);
        let (acked, lost) = ((100 - lost) * 1000, lost * 1000);
        bbr.bounds.inflight_latest = acked as f64;
        let ack = AckSample { newly_acked: acked, newly_lost: lost, ..AckSample::default() };
        bbr.advance_startup(Time::from_nanos(round * 40_000_000), &ack);
        if bbr.is_full {
            return bbr;
        }
    }
    panic!("it found no end");
}

#[test]
fn what_a_start_up_loses_may_be_chance_unless_it_is_more_than_it_can_make_up_for() {
    assert!(after_startup(20).floor.in_trial());
    assert!(!after_startup(80).floor.in_trial());
    assert!(!after_startup(0).floor.in_trial());
}
