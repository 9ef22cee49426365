//! Every option in one table: its number, its kind, its bounds, its default.

use std::ffi::c_int;

use super::error::Failure;
use super::types::rtcp_cc::*;
use super::types::rtcp_option::{self, *};

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Int { min: i64, max: i64, default: i64 },
    Str,
    Bytes,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) option: rtcp_option,
    pub(super) kind: Kind,
}

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const MS_MAX: i64 = i32::MAX as i64; // 24.8 days: fits an int in every language
const DAY_MS: i64 = 86_400_000;

const fn int(option: rtcp_option, min: i64, max: i64, default: i64) -> Definition {
    Definition { option, kind: Kind::Int { min, max, default } }
}

/// In the order of their numbers.
pub(super) const OPTIONS: &[Definition] = &[
    int(RTCP_OPT_MTU, 0, 65_507, 0),
    int(RTCP_OPT_SEND_BUFFER, 64 << 10, GIB, 128 * MIB),
    int(RTCP_OPT_RECV_BUFFER, 64 << 10, GIB, 128 * MIB),
    int(RTCP_OPT_CONNECT_TIMEOUT_MS, 1, DAY_MS, 30_000),
    int(RTCP_OPT_IDLE_TIMEOUT_MS, 0, MS_MAX, 0),
    int(RTCP_OPT_KEEPALIVE_MS, 0, MS_MAX, 0),
    int(RTCP_OPT_IO_TIMEOUT_MS, -1, MS_MAX, -1),
    int(RTCP_OPT_IO_THREAD, 0, 1, 1),
    int(RTCP_OPT_CONGESTION, RTCP_CC_BBR as i64, RTCP_CC_FIXED as i64, RTCP_CC_BBR as i64),
    int(RTCP_OPT_MAX_CLIENTS, 0, 1_000_000, 100_000),
    int(RTCP_OPT_UDP_BUFFER, 0, GIB, 4 * MIB),
    int(RTCP_OPT_OFFLOAD, 0, 1, 1),
    Definition { option: RTCP_OPT_BIND, kind: Kind::Str },
    Definition { option: RTCP_OPT_PSK, kind: Kind::Bytes },
    int(RTCP_OPT_WINDOW, 1, GIB, 65_536),
    Definition { option: RTCP_OPT_ACK_TO, kind: Kind::Str },
    int(RTCP_OPT_ANY_SOURCE, 0, 1, 0),
    int(RTCP_OPT_LOCAL_TCP_PORT, 0, 65_535, 0),
    int(RTCP_OPT_REMOTE_TCP_PORT, 0, 65_535, 0),
    int(RTCP_OPT_INTEGRITY, 0, 2, 1),
    int(RTCP_OPT_USER_TIMEOUT_MS, 1, MS_MAX, 100_000), // RFC 9293 3.8.3: R2 >= 100 s
    int(RTCP_OPT_SOCKET, -1, MS_MAX, -1),
    int(RTCP_OPT_NODELAY, 0, 1, 1),
    int(RTCP_OPT_ECN, 0, 1, 1),
    Definition { option: RTCP_OPT_TRACE, kind: Kind::Str },
    int(RTCP_OPT_SHARDS, 1, 64, 1),
];

/// Smallest MTU but 0: 576-byte IP packets (RFC 791) minus the IP and UDP headers.
const MTU_MIN: i64 = 548;

/// The row of `option`, as C numbers it.
pub(super) fn find(option: c_int) -> Result<&'static Definition, Failure> {
    let found = OPTIONS.iter().find(|row| row.option as c_int == option);
    found.ok_or_else(|| Failure::invalid(format!("option {option} is none of enum rtcp_option")))
}

impl Definition {
    /// Bounds and default; RTCP_EINVAL for the options that take no number.
    pub(super) fn int_bounds(&self) -> Result<(i64, i64, i64), Failure> {
        let setter = match self.kind {
            Kind::Int { min, max, default } => return Ok((min, max, default)),
            Kind::Str => "a text: use rtcp_config_set_str()",
            Kind::Bytes => "bytes: use rtcp_config_set_bytes()",
        };
        Err(Failure::invalid(format!("{:?} takes {setter}", self.option)))
    }

    /// Whether `value` may be set.
    pub(super) fn check_int(&self, value: i64) -> Result<(), Failure> {
        let (min, max, _) = self.int_bounds()?;
        let option = self.option;
        if !(min..=max).contains(&value) {
            return Err(Failure::invalid(format!("{option:?} is {value}, allowed are {min} to {max}")));
        }
        match option {
            RTCP_OPT_MTU if value != 0 && value < MTU_MIN => Err(Failure::invalid(format!(
                "{option:?} is {value}, allowed are 0 (discover) and {MTU_MIN} to {max}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Place of `option` in the table.
pub(super) fn position(option: rtcp_option) -> usize {
    OPTIONS.iter().position(|row| row.option == option).expect("every option has a row: tested")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::types::rtcp_error::RTCP_EINVAL;

    #[test]
    fn every_default_is_allowed_and_every_bound_is_exact() {
        for row in OPTIONS {
            assert_eq!(find(row.option as c_int).unwrap().option, row.option);
            let Ok((min, max, default)) = row.int_bounds() else { continue };
            row.check_int(default).unwrap();
            row.check_int(max).unwrap();
            assert_eq!(row.check_int(min - 1).unwrap_err().code, RTCP_EINVAL);
            assert_eq!(row.check_int(max + 1).unwrap_err().code, RTCP_EINVAL);
        }
    }

    #[test]
    fn the_table_has_each_option_once_in_order() {
        assert!(OPTIONS.windows(2).all(|rows| (rows[0].option as c_int) < rows[1].option as c_int));
        assert_eq!(OPTIONS.len(), 26, "a new option needs a row");
    }

    #[test]
    fn an_mtu_is_zero_or_at_least_that_of_the_smallest_ip_packet() {
        let mtu = find(RTCP_OPT_MTU as c_int).unwrap();
        assert!(mtu.check_int(0).is_ok() && mtu.check_int(548).is_ok());
        assert!(mtu.check_int(1).is_err() && mtu.check_int(547).is_err());
    }
}
