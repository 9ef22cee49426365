//! Counters, copied out.
#![allow(unsafe_code)] // exported symbols; a place to write to

use std::ffi::c_int;
use std::time::Duration;

use super::error::Failure;
use super::live::on_handle;
use super::raw;
use super::types::rtcp_cc::*;
use super::types::rtcp_cc_phase::{self, *};
use super::types::rtcp_error::*;
use super::types::rtcp_io::*;
use super::types::{rtcp_handle, rtcp_stats};
use crate::connection::{EcnMode, Stats};
use crate::udp::Backend;

/// More than any version of rtcp_stats will have: a larger size is no sizeof.
const SIZE_MAX: usize = 4096;

/// Copies the counters: at most `size` bytes, zero-filled where this library is older than the header. For a receiver the sum
/// over all its connections, past ones included; what belongs to one path (times, windows, mtu) is 0 there.
///
/// Errors: RTCP_EINVAL: `out` NULL, `size` 0 or above 4096. RTCP_ENOCONN: not a live handle. RTCP_ESTATE: from within a log
/// callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
///
/// # Safety
/// `out` is NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_get_stats(h: rtcp_handle, out: *mut rtcp_stats, size: usize) -> c_int {
    let code = on_handle("rtcp_get_stats", h, |live| {
        if out.is_null() {
            return Err(Failure::invalid("out is NULL"));
        }
        if !(1..=SIZE_MAX).contains(&size) {
            return Err(Failure::invalid(format!("size is {size}; pass sizeof(rtcp_stats)")));
        }
        let (stats, connections) = match live.connection() {
            Ok(id) => live.endpoint().stats(Some(id))?,
            Err(_) => live.shards().stats()?,
        };
        let io = match live.endpoint().backend() {
            Backend::Offload => RTCP_IO_OFFLOAD,
            Backend::Batch => RTCP_IO_BATCH,
            Backend::Single => RTCP_IO_SINGLE,
        };
        let stats = rtcp_stats { connections: connections as u64, io: io as u64, ..(&stats).into() };
        // SAFETY: not null; this function's contract is copy_sized's contract; u64 fields alone have no padding.
        unsafe { raw::copy_sized(out, size, &stats) };
        Ok(RTCP_OK as c_int)
    });
    if code < 0 && !out.is_null() && size <= SIZE_MAX {
        // SAFETY: not null; this function's contract is copy_sized's contract; u64 fields alone have no padding.
        unsafe { raw::copy_sized(out, size, &rtcp_stats::default()) };
    }
    code
}

impl From<&Stats> for rtcp_stats {
    fn from(stats: &Stats) -> Self {
        Self {
            bytes_sent: stats.bytes_sent,
            bytes_acked: stats.bytes_acked,
            bytes_received: stats.bytes_received,
            packets_sent: stats.packets_sent,
            packets_received: stats.packets_received,
            packets_retransmitted: stats.packets_retransmitted,
            packets_lost: stats.packets_lost,
            packets_corrupt: stats.packets_corrupt,
            packets_dropped: stats.packets_dropped,
            srtt_us: micros(stats.srtt),
            min_rtt_us: micros(stats.min_rtt),
            rttvar_us: micros(stats.rttvar),
            cwnd: stats.cwnd,
            ssthresh: stats.ssthresh,
            bytes_in_flight: stats.bytes_in_flight,
            peer_window: stats.peer_window,
            mtu: stats.max_datagram,
            rto_count: stats.rto_count,
            connections: 0,
            probe_count: stats.probe_count,
            undo_count: stats.undo_count,
            bytes_delivered: stats.bytes_delivered,
            latest_rtt_us: micros(stats.latest_rtt),
            pacing_rate: stats.pacing_rate,
            bandwidth: stats.bandwidth,
            loss_permille: stats.loss_permille,
            loss_floor_permille: stats.loss_floor_permille,
            cc: match stats.controller {
                "bbr" => RTCP_CC_BBR as u64,
                "cubic" => RTCP_CC_CUBIC as u64,
                "fixed" => RTCP_CC_FIXED as u64,
                _ => 0,
            },
            cc_phase: phase(stats.phase) as u64,
            ecn: match stats.ecn {
                EcnMode::Off => 0,
                EcnMode::Classic => 1,
                EcnMode::Accurate => 2,
            },
            packets_ce: stats.packets_ce,
            bytes_ce: stats.bytes_ce,
            rto_spurious: stats.rto_spurious,
            bytes_retransmitted: stats.bytes_retransmitted,
            io: 0,
        }
    }
}

/// The number of a phase that a controller names.
fn phase(name: &str) -> rtcp_cc_phase {
    match name {
        "slow-start" => RTCP_PHASE_SLOW_START,
        "css" => RTCP_PHASE_CSS,
        "avoidance" => RTCP_PHASE_AVOIDANCE,
        "startup" => RTCP_PHASE_STARTUP,
        "drain" => RTCP_PHASE_DRAIN,
        "probe-bw-down" => RTCP_PHASE_PROBE_BW_DOWN,
        "probe-bw-cruise" => RTCP_PHASE_PROBE_BW_CRUISE,
        "probe-bw-refill" => RTCP_PHASE_PROBE_BW_REFILL,
        "probe-bw-up" => RTCP_PHASE_PROBE_BW_UP,
        "probe-rtt" => RTCP_PHASE_PROBE_RTT,
        _ => RTCP_PHASE_NONE,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Algorithm;

    #[test]
    fn every_controller_and_its_first_phase_have_a_number() {
        for (algorithm, cc) in
            [(Algorithm::Cubic, RTCP_CC_CUBIC), (Algorithm::Fixed { window: 1 }, RTCP_CC_FIXED)]
        {
            let controller = algorithm.build(1000);
            let (controller, name) = (controller.name(), controller.phase());
            let stats = rtcp_stats::from(&Stats { controller, phase: name, ..Stats::default() });
            assert_eq!(stats.cc, cc as u64);
            assert_eq!(stats.cc_phase == RTCP_PHASE_NONE as u64, name.is_empty(), "{controller}: {name}");
        }
        assert_eq!(rtcp_stats::from(&Stats::default()).cc, 0, "a receiver has none");
    }
}
