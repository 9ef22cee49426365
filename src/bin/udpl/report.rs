//! What happened, in words and as JSON.

use crate::proxy::Direction;
use std::fmt::Write;

/// Every count of a direction by its name.
fn counts(direction: &Direction) -> [(&'static str, u64); 24] {
    let stats = direction.stats();
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    [
        ("in", stats.packets_in),
        ("bytes_in", stats.bytes_in),
        ("delivered", stats.delivered),
        ("bytes_delivered", stats.bytes_delivered),
        ("in_flight", direction.in_flight() as u64),
        ("lost", stats.lost),
        ("burst_lost", stats.burst_lost),
        ("blackout_dropped", stats.blackout_dropped),
        ("queue_dropped", stats.queue_dropped),
        ("aqm_dropped", stats.aqm_dropped),
        ("policed", stats.policed),
        ("mtu_dropped", stats.mtu_dropped),
        ("ce_marked", stats.ce_marked),
        ("ce_bleached", stats.ce_bleached),
        ("duplicated", stats.duplicated),
        ("corrupted", stats.corrupted),
        ("bits_flipped", stats.bits_flipped),
        ("late", stats.late),
        ("reordered", stats.reordered),
        ("overrun", direction.overrun),
        ("unsent", direction.unsent),
        ("served", stats.served),
        ("queue_delay_mean_us", micros(stats.queue_delay_mean())),
        ("queue_delay_max_us", micros(stats.queue_delay_max)),
    ]
}

/// One line without the faults that did not happen.
pub(crate) fn words(direction: &Direction) -> String {
    let mut text = String::new();
    for (name, count) in counts(direction) {
        if count > 0 || matches!(name, "in" | "delivered") {
            let separator = if text.is_empty() { "" } else { ", " };
            let (name, unit) = name.strip_suffix("_us").map_or((name, ""), |name| (name, " us"));
            _ = write!(text, "{separator}{count}{unit} {}", name.replace('_', " "));
        }
    }
    _ = write!(text, "; sent {:?} late on average, {:?} at most", direction.lag_mean(), direction.lag_max);
    text
}

/// One object with every count.
pub(crate) fn json(direction: &Direction) -> String {
    let mut text = String::from("{");
    for (name, count) in counts(direction) {
        _ = write!(text, "\"{name}\":{count},");
    }
    let (mean, max) = (direction.lag_mean().as_micros(), direction.lag_max.as_micros());
    _ = write!(text, "\"lag_mean_us\":{mean},\"lag_max_us\":{max}}}");
    text
}
