//! Bytes cross, whatever the link does.

use super::pair::{Pair, ms, pattern};
use crate::connection::Config;
use crate::emulator::Impairments;

fn link(loss: f64, reorder: f64) -> Impairments {
    Impairments { delay: ms(10), loss, reorder, ..Impairments::default() }
}

#[test]
fn a_clean_link_carries_both_directions_exactly() {
    let mut pair = Pair::new(&Config::default(), link(0.0, 0.0), link(0.0, 0.0), 1);
    pair.a.to_write = pattern(300_000, 1);
    pair.b.to_write = pattern(200_000, 2);
    pair.run_to_end(ms(10_000));
    pair.assert_exact();
    assert_eq!(pair.a.conn().stats().rto_count, 0);
    assert_eq!(pair.a.conn().stats().packets_retransmitted, 0);
}

#[test]
fn half_loss_and_half_reordering_both_ways_still_deliver_exactly() {
    for seed in 0..20 {
        let config = Config { connect_timeout: ms(300_000), ..Config::default() };
        let mut pair = Pair::new(&config, link(0.5, 0.5), link(0.5, 0.5), seed);
        pair.a.to_write = pattern(50_000, 1);
        pair.b.to_write = pattern(20_000, 2);
        let took = pair.run_to_end(ms(120_000));
        assert!(pair.is_over(), "seed {seed} after {took:?}");
        pair.assert_exact();
    }
}
