//! Counters, copied out.
#![allow(unsafe_code)] // exported symbols; a place to write to

use std::ffi::c_int;
use std::time::Duration;

use super::error::Failure;
use super::live::on_handle;
use super::raw;
use super::types::rtcp_error::*;
use super::types::{rtcp_handle, rtcp_stats};
use crate::connection::Stats;

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
    on_handle("rtcp_get_stats", h, |live| {
        if out.is_null() {
            return Err(Failure::invalid("out is NULL"));
        }
        if !(1..=SIZE_MAX).contains(&size) {
            return Err(Failure::invalid(format!("size is {size}; pass sizeof(rtcp_stats)")));
        }
        let (stats, connections) = live.endpoint().stats(live.connection().ok())?;
        let stats = rtcp_stats { connections: connections as u64, ..(&stats).into() };
        // SAFETY: not null; this function's contract is copy_sized's contract; u64 fields alone have no padding.
        unsafe { raw::copy_sized(out, size, &stats) };
        Ok(RTCP_OK as c_int)
    })
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
            rto_spurious: stats.rto_spurious,
            bytes_retransmitted: stats.bytes_retransmitted,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
