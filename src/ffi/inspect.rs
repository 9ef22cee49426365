//! What a handle says about itself, and what can be changed while it lives.
#![allow(unsafe_code)] // exported symbols; places to write to

use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use super::config::{limit, millis};
use super::error::Failure;
use super::live::{self, Live, Role, on_handle};
use super::option;
use super::raw;
use super::types::rtcp_error::*;
use super::types::rtcp_handle;
use super::types::rtcp_option::*;
use super::types::rtcp_state::{self, *};
use crate::endpoint::{ConnOption, Phase};

/// One of enum rtcp_state, or the reason the connection failed.
///
/// Errors: the connection's end: RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_ENOCONN: not
/// a live handle. RTCP_ESTATE: from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_get_state(h: rtcp_handle) -> c_int {
    on_handle("rtcp_get_state", h, |live| {
        let state = match live.role {
            Role::Receiver => RTCP_STATE_LISTENING,
            Role::Sender(id) | Role::Member(id) => state_of(live.endpoint().state(id)?),
        };
        Ok(state as c_int)
    })
}

fn state_of(phase: Phase) -> rtcp_state {
    match phase {
        Phase::Connecting => RTCP_STATE_CONNECTING,
        Phase::Established => RTCP_STATE_ESTABLISHED,
        Phase::Finishing => RTCP_STATE_FINISHING,
        Phase::Closed => RTCP_STATE_CLOSED,
    }
}

/// Local (peer = 0) or peer's (peer = 1) address as text: "192.0.2.1:9000", "[2001:db8::1]:9000". Returns its length (snprintf
/// rules; 80 bytes are always enough) or a code. An IPv4 peer of a socket for both is told as IPv4.
///
/// Errors: RTCP_EINVAL: `peer` neither 0 nor 1, or `buf` NULL with `len` > 0. RTCP_ENOCONN: not a live handle. RTCP_ESTATE: the
/// peer of a receiver, or from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
///
/// # Safety
/// `buf` is NULL or writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_get_addr(h: rtcp_handle, peer: c_int, buf: *mut c_char, len: usize) -> c_int {
    // SAFETY: this function's contract is copy_text's contract.
    unsafe { raw::copy_text(buf, len, "") };
    on_handle("rtcp_get_addr", h, |live| {
        let address = match peer {
            0 => live.shards().local_addr(),
            1 => live.endpoint().peer_addr(live.connection()?)?,
            _ => {
                return Err(Failure::invalid(format!(
                    "peer is {peer}; 0 is the local address, 1 the peer's"
                )));
            }
        };
        if buf.is_null() && len > 0 {
            return Err(Failure::invalid("buf is NULL"));
        }
        let text = unmapped(address).to_string();
        // SAFETY: this function's contract is copy_text's contract.
        unsafe { raw::copy_text(buf, len, &text) };
        Ok(c_int::try_from(text.len()).expect("an address is short"))
    })
}

/// "::ffff:192.0.2.1" is what an IPv6 socket calls an IPv4 address.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Changes an option of a live handle. Connection: IO_TIMEOUT_MS, NODELAY, KEEPALIVE_MS, IDLE_TIMEOUT_MS, USER_TIMEOUT_MS.
/// Receiver: MAX_CLIENTS (those there are stay), and IO_TIMEOUT_MS as its coming connections start with it. A call that is
/// already waiting keeps its limit.
///
/// Errors: RTCP_EINVAL: an unknown option, one that is no integer, or a value outside rtcp_option_bounds(). RTCP_ENOTSUP: any
/// other option. RTCP_ENOCONN: not a live handle. RTCP_ESTATE: from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_set_int(h: rtcp_handle, option: c_int, value: i64) -> c_int {
    on_handle("rtcp_set_int", h, |live| {
        let row = option::find(option)?;
        row.check_int(value)?;
        if row.option == RTCP_OPT_IO_TIMEOUT_MS {
            live.io_timeout_ms.store(value, Ordering::Relaxed);
            return Ok(RTCP_OK as c_int);
        }
        let change = match row.option {
            RTCP_OPT_MAX_CLIENTS => return set_max_clients(live, value),
            RTCP_OPT_NODELAY => ConnOption::NoDelay(value != 0),
            RTCP_OPT_KEEPALIVE_MS => ConnOption::KeepAlive(limit(value)),
            RTCP_OPT_IDLE_TIMEOUT_MS => ConnOption::IdleTimeout(limit(value)),
            RTCP_OPT_USER_TIMEOUT_MS => ConnOption::UserTimeout(millis(value)),
            option => return Err(fixed(&format!("{option:?} cannot be changed on a live handle"))),
        };
        let Ok(id) = live.connection() else {
            return Err(fixed(&format!(
                "{:?} of a receiver cannot be changed; set it on its connections",
                row.option
            )));
        };
        live.endpoint().set_option(id, change)?;
        Ok(RTCP_OK as c_int)
    })
}

fn fixed(what: &str) -> Failure {
    Failure::new(RTCP_ENOTSUP, what.to_owned())
}

fn set_max_clients(live: &Live, value: i64) -> Result<c_int, Failure> {
    if live.role != Role::Receiver {
        return Err(fixed("RTCP_OPT_MAX_CLIENTS is a receiver's, not a connection's"));
    }
    live.shards().set_max_clients(usize::try_from(value).unwrap_or(usize::MAX));
    Ok(RTCP_OK as c_int)
}

/// Attaches a pointer that comes back in the connection's records. The library never follows or frees it.
///
/// Errors: RTCP_ENOCONN: not a live handle. RTCP_ESTATE: a receiver, or from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread; records already fetched keep the old pointer.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_set_user_data(h: rtcp_handle, user_data: *mut c_void) -> c_int {
    on_handle("rtcp_set_user_data", h, |live| {
        live.endpoint().set_user_data(live.connection()?, live::number_of(user_data))?;
        Ok(RTCP_OK as c_int)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_told_as_ipv4() {
        let told = |text: &str| unmapped(text.parse().unwrap()).to_string();
        assert_eq!(told("[::ffff:192.0.2.1]:9000"), "192.0.2.1:9000");
        assert_eq!(told("[2001:db8::1]:9000"), "[2001:db8::1]:9000");
        assert_eq!(told("192.0.2.1:1"), "192.0.2.1:1");
    }
}
