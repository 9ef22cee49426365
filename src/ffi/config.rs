//! Configurations: an opaque box of options, set by number.
#![allow(unsafe_code)] // exported symbols; the box is a pointer in C's hands

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::Failure;
use super::guard::guard;
use super::option::{self, Kind, OPTIONS};
use super::raw::{self, Out};
use super::types::rtcp_cc::*;
use super::types::rtcp_config;
use super::types::rtcp_error::*;
use super::types::rtcp_option::{self, *};
use crate::connection::{self, Algorithm, IntegrityMode, PathMtu};
use crate::endpoint::EndpointConfig;

/// Longest text option: an address with a scope is far shorter.
const TEXT_MAX: usize = 256;

/// Values of all options.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// By position in the table; None: not set, the default holds.
    ints: [Option<i64>; OPTIONS.len()],
    texts: BTreeMap<c_int, String>,
    /// The first setter that failed.
    failure: Option<Failure>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ints: [None; OPTIONS.len()], texts: BTreeMap::new(), failure: None }
    }
}

impl Settings {
    /// What the program set, if it did.
    fn chosen(&self, option: rtcp_option) -> Option<i64> {
        self.ints[option::position(option)]
    }

    fn int(&self, option: rtcp_option) -> i64 {
        let row = &OPTIONS[option::position(option)];
        match (self.chosen(option), row.kind) {
            (Some(value), _) => value,
            (None, Kind::Int { default, .. }) => default,
            (None, Kind::Str | Kind::Bytes) => {
                unreachable!("{option:?} is asked for as a number only where it is one")
            }
        }
    }

    /// Options that are within their bounds fit a usize on every target of 32 bits or more.
    fn size(&self, option: rtcp_option) -> usize {
        usize::try_from(self.int(option)).unwrap_or(usize::MAX)
    }

    fn port(&self, option: rtcp_option) -> u16 {
        u16::try_from(self.int(option)).unwrap_or(0)
    }

    fn is_on(&self, option: rtcp_option) -> bool {
        self.int(option) != 0
    }

    /// RTCP_OPT_IO_TIMEOUT_MS of a connection whose default is `default`.
    pub(super) fn io_timeout_ms(&self, default: i64) -> i64 {
        self.chosen(RTCP_OPT_IO_TIMEOUT_MS).unwrap_or(default)
    }

    /// A socket of the program's own is to be used.
    pub(super) fn has_socket(&self) -> bool {
        self.int(RTCP_OPT_SOCKET) >= 0
    }

    fn set_int(&mut self, option: c_int, value: i64) -> Result<(), Failure> {
        let row = option::find(option)?;
        row.check_int(value)?;
        self.ints[option::position(row.option)] = Some(value);
        Ok(())
    }

    fn set_text(&mut self, option: c_int, value: &str) -> Result<(), Failure> {
        let row = option::find(option)?;
        if !matches!(row.kind, Kind::Str) {
            return Err(Failure::invalid(format!("{:?} takes no text", row.option)));
        }
        let option = row.option;
        let is_address = value.parse::<SocketAddr>().is_ok();
        match option {
            RTCP_OPT_BIND if !is_address && value.parse::<IpAddr>().is_err() => Err(Failure::invalid(
                format!("{option:?} is \"{value}\", which is neither \"ip\" nor \"ip:port\""),
            )),
            RTCP_OPT_ACK_TO if !is_address => {
                Err(Failure::invalid(format!("{option:?} is \"{value}\", which is not \"ip:port\"")))
            }
            _ => {
                self.texts.insert(option as c_int, value.to_owned());
                Ok(())
            }
        }
    }

    /// What the endpoint is to be built with; the code of the first setter that failed.
    pub(super) fn endpoint_config(&self) -> Result<EndpointConfig, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let ack_to = self.texts.get(&(RTCP_OPT_ACK_TO as c_int));
        Ok(EndpointConfig {
            connection: self.connection_config(),
            max_clients: self.size(RTCP_OPT_MAX_CLIENTS),
            ack_to: ack_to.and_then(|text| text.parse().ok()),
            any_source: self.is_on(RTCP_OPT_ANY_SOURCE),
            local_tcp_port: self.port(RTCP_OPT_LOCAL_TCP_PORT),
            remote_tcp_port: self.port(RTCP_OPT_REMOTE_TCP_PORT),
            io_thread: self.is_on(RTCP_OPT_IO_THREAD),
            shards: self.size(RTCP_OPT_SHARDS),
            udp_buffer: self.size(RTCP_OPT_UDP_BUFFER),
            offload: self.is_on(RTCP_OPT_OFFLOAD),
            bind: self.texts.get(&(RTCP_OPT_BIND as c_int)).cloned(),
            socket: RawFd::try_from(self.int(RTCP_OPT_SOCKET)).ok().filter(|&fd| fd >= 0),
            trace: self.texts.get(&(RTCP_OPT_TRACE as c_int)).cloned(),
        })
    }

    fn algorithm(&self) -> Algorithm {
        match self.int(RTCP_OPT_CONGESTION) {
            n if n == RTCP_CC_CUBIC as i64 => Algorithm::Cubic,
            n if n == RTCP_CC_FIXED as i64 => Algorithm::Fixed { window: self.size(RTCP_OPT_WINDOW) as u64 },
            _ => Algorithm::Bbr,
        }
    }

    fn connection_config(&self) -> connection::Config {
        let base = connection::Config::default();
        let mtu = self.size(RTCP_OPT_MTU);
        connection::Config {
            mtu: if mtu == 0 { PathMtu::Discover } else { PathMtu::Fixed(mtu) },
            // Who sends larger datagrams takes them too: both ends of a jumbo path say the same.
            max_receive_datagram: base.max_receive_datagram.max(mtu),
            send_buffer: self.size(RTCP_OPT_SEND_BUFFER),
            recv_buffer: self.size(RTCP_OPT_RECV_BUFFER),
            connect_timeout: millis(self.int(RTCP_OPT_CONNECT_TIMEOUT_MS)),
            idle_timeout: limit(self.int(RTCP_OPT_IDLE_TIMEOUT_MS)),
            keepalive: limit(self.int(RTCP_OPT_KEEPALIVE_MS)),
            user_timeout: millis(self.int(RTCP_OPT_USER_TIMEOUT_MS)),
            nodelay: self.is_on(RTCP_OPT_NODELAY),
            algorithm: self.algorithm(),
            integrity: match self.int(RTCP_OPT_INTEGRITY) {
                0 => IntegrityMode::Off,
                1 => IntegrityMode::Offer,
                _ => IntegrityMode::Require,
            },
            ecn: self.is_on(RTCP_OPT_ECN),
        }
    }
}

/// Milliseconds that were checked not to be negative.
pub(super) fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// 0: no limit.
pub(super) fn limit(ms: i64) -> Option<Duration> {
    (ms != 0).then(|| millis(ms))
}

/// What an `rtcp_config` pointer points to: locked, because C may share it between threads.
type Shared = Mutex<Settings>;

fn lock(shared: &Shared) -> MutexGuard<'_, Settings> {
    // Setters leave whole values behind even if they panic.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// `cfg` is null or live.
unsafe fn shared<'a>(cfg: *const rtcp_config) -> Result<&'a Shared, Failure> {
    // SAFETY: null, or made by rtcp_config_new() from a Box<Shared>.
    unsafe { cfg.cast::<Shared>().as_ref() }.ok_or_else(|| Failure::invalid("cfg is NULL"))
}

/// A copy of the settings in `cfg`; None for NULL.
///
/// # Safety
/// `cfg` is null or live.
pub(super) unsafe fn settings(cfg: *const rtcp_config) -> Option<Settings> {
    // SAFETY: this function's contract is shared's contract.
    unsafe { shared(cfg) }.ok().map(|shared| lock(shared).clone())
}

/// # Safety
/// `cfg` is null or live.
unsafe fn change(
    call: &'static str,
    cfg: *const rtcp_config,
    set: impl FnOnce(&mut Settings) -> Result<(), Failure>,
) -> c_int {
    guard(call, || {
        // SAFETY: this function's contract is shared's contract.
        let mut settings = lock(unsafe { shared(cfg) }?);
        set(&mut settings).inspect_err(|failure| {
            settings.failure.get_or_insert_with(|| failure.clone());
        })?;
        Ok(RTCP_OK as c_int)
    })
}

/// New configuration with defaults. NULL only when out of memory, or from within a log callback. Free with
/// rtcp_config_free(). The first setter that fails is remembered, and rtcp_*_new() with this configuration returns its code:
/// setters need no checks of their own.
///
/// Errors: NULL.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_config_new() -> *mut rtcp_config {
    guard("rtcp_config_new", || Ok(Box::into_raw(Box::<Shared>::default()).cast()))
}

/// Frees a configuration; NULL is allowed. Handles made from it keep their own copy.
///
/// Errors: none.
/// Thread-safety: any thread, when no other thread uses `cfg` any more. Allowed after a fork.
/// Blocks: never.
///
/// # Safety
/// `cfg` is NULL, or live; it is not live afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_config_free(cfg: *mut rtcp_config) {
    if !cfg.is_null() {
        // SAFETY: live, so made by rtcp_config_new() from a Box<Shared> and not freed before.
        drop(unsafe { Box::from_raw(cfg.cast::<Shared>()) });
    }
}

/// Sets an integer option. enum rtcp_option says for each what it means, in which unit, and its range.
///
/// Errors: RTCP_EINVAL for NULL, an unknown option, one that is no integer, or a value outside rtcp_option_bounds().
/// Thread-safety: any thread, several at the same time.
/// Blocks: never.
///
/// # Safety
/// `cfg` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_config_set_int(cfg: *mut rtcp_config, option: c_int, value: i64) -> c_int {
    // SAFETY: this function's contract is change's contract.
    unsafe { change("rtcp_config_set_int", cfg, |settings| settings.set_int(option, value)) }
}

/// Sets a text option; the text, at most 256 bytes, is copied. RTCP_OPT_BIND takes "ip" or "ip:port", RTCP_OPT_ACK_TO
/// "ip:port", with IPv6 in brackets where a port follows. Names are not looked up. RTCP_OPT_TRACE takes a file name.
///
/// Errors: RTCP_EINVAL for NULL, an unknown option, one that takes no text, or a text that is not such an address.
/// Thread-safety: any thread, several at the same time.
/// Blocks: never.
///
/// # Safety
/// `cfg` is NULL or live; `value` is NULL or a NUL-terminated text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_config_set_str(
    cfg: *mut rtcp_config,
    option: c_int,
    value: *const c_char,
) -> c_int {
    let set = |settings: &mut Settings| {
        // SAFETY: this function's contract is required_text's contract.
        let value = unsafe { raw::required_text(value, "value", TEXT_MAX) }?;
        settings.set_text(option, value)
    };
    // SAFETY: this function's contract is change's contract.
    unsafe { change("rtcp_config_set_str", cfg, set) }
}

/// Sets a binary option; the bytes are copied, and wiped when the configuration is freed. The one there is, RTCP_OPT_PSK, is
/// reserved: its bytes are not kept.
///
/// Errors: RTCP_EINVAL for NULL, an unknown option, or one that takes no bytes; RTCP_ENOTSUP for RTCP_OPT_PSK until it is
/// built.
/// Thread-safety: any thread, several at the same time.
/// Blocks: never.
///
/// # Safety
/// `cfg` is NULL or live; `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_config_set_bytes(
    cfg: *mut rtcp_config,
    option: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    let set = |_: &mut Settings| {
        let row = option::find(option)?;
        if !matches!(row.kind, Kind::Bytes) {
            return Err(Failure::invalid(format!("{:?} takes no bytes", row.option)));
        }
        if value.is_null() || len == 0 {
            return Err(Failure::invalid("value is NULL or len is 0"));
        }
        Err(Failure::new(RTCP_ENOTSUP, format!("{:?}: encryption is not built yet", row.option)))
    };
    // SAFETY: this function's contract is change's contract.
    unsafe { change("rtcp_config_set_bytes", cfg, set) }
}

/// Reads an integer option back: what was set, or the default.
///
/// Errors: RTCP_EINVAL for NULL, an unknown option or one that is no integer.
/// Thread-safety: any thread, several at the same time.
/// Blocks: never.
///
/// # Safety
/// `cfg` is NULL or live; `value` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_config_get_int(
    cfg: *const rtcp_config,
    option: c_int,
    value: *mut i64,
) -> c_int {
    // SAFETY: this function's contract is holding's contract.
    let value = unsafe { Out::holding(value, 0) };
    guard("rtcp_config_get_int", || {
        // SAFETY: this function's contract is shared's contract.
        let settings = lock(unsafe { shared(cfg) }?);
        value.require("value")?;
        let row = option::find(option)?;
        row.int_bounds()?;
        value.set(settings.int(row.option));
        Ok(RTCP_OK as c_int)
    })
}

/// Smallest, largest and default value of an integer option; each out pointer may be NULL. RTCP_OPT_MTU allows only 0 and 548
/// to 65507 within its bounds.
///
/// Errors: RTCP_EINVAL for an unknown option or one that is no integer.
/// Thread-safety: any thread.
/// Blocks: never.
///
/// # Safety
/// Each out pointer is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_option_bounds(
    option: c_int,
    min: *mut i64,
    max: *mut i64,
    def: *mut i64,
) -> c_int {
    // SAFETY: this function's contract is holding's contract.
    let places = [min, max, def].map(|place| unsafe { Out::holding(place, 0) });
    guard("rtcp_option_bounds", || {
        let (min, max, default) = option::find(option)?.int_bounds()?;
        for (place, value) in places.iter().zip([min, max, default]) {
            place.set(value);
        }
        Ok(RTCP_OK as c_int)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_one_that_is_told() {
        let mut settings = Settings::default();
        assert!(settings.endpoint_config().is_ok());
        assert_eq!(settings.set_int(99, 0).unwrap_err().code, RTCP_EINVAL);
        settings.failure = Some(Failure::new(RTCP_ENOTSUP, "first"));
        assert_eq!(settings.endpoint_config().unwrap_err().code, RTCP_ENOTSUP);
    }

    #[test]
    fn defaults_become_the_documented_connection() {
        let config = Settings::default().endpoint_config().unwrap();
        assert_eq!(config.connection, connection::Config::default());
        assert_eq!(config.connection.mtu, PathMtu::Discover);
        assert_eq!(config.connection.send_buffer, 128 << 20);
        assert_eq!(config.connection.recv_buffer, 128 << 20);
        assert_eq!(config.connection.connect_timeout, Duration::from_secs(30));
        assert_eq!(config.connection.user_timeout, Duration::from_secs(100));
        assert_eq!((config.connection.idle_timeout, config.connection.keepalive), (None, None));
        assert_eq!(config.connection.algorithm, Algorithm::Bbr);
        assert_eq!(config.connection.integrity, IntegrityMode::Offer);
        assert!(config.io_thread && config.offload && config.connection.nodelay);
        assert_eq!((config.socket, config.bind, config.ack_to), (None, None, None));
        assert_eq!(config.shards, 1);
    }

    #[test]
    fn what_is_set_arrives() {
        let mut settings = Settings::default();
        let ints = [
            (RTCP_OPT_CONGESTION, RTCP_CC_FIXED as i64),
            (RTCP_OPT_WINDOW, 4096),
            (RTCP_OPT_KEEPALIVE_MS, 1500),
            (RTCP_OPT_INTEGRITY, 2),
            (RTCP_OPT_MTU, 548),
            (RTCP_OPT_SOCKET, 7),
            (RTCP_OPT_ECN, 0),
            (RTCP_OPT_SHARDS, 5),
        ];
        for (option, value) in ints {
            settings.set_int(option as c_int, value).unwrap();
        }
        settings.set_text(RTCP_OPT_ACK_TO as c_int, "[2001:db8::1]:9").unwrap();
        settings.set_text(RTCP_OPT_BIND as c_int, "192.0.2.1").unwrap();
        let config = settings.endpoint_config().unwrap();
        assert_eq!(config.connection.algorithm, Algorithm::Fixed { window: 4096 });
        assert_eq!(config.connection.keepalive, Some(Duration::from_millis(1500)));
        assert_eq!(config.connection.integrity, IntegrityMode::Require);
        assert_eq!(
            (config.connection.mtu, config.connection.max_receive_datagram),
            (PathMtu::Fixed(548), 1472)
        );
        assert_eq!((config.socket, config.connection.ecn), (Some(7), false));
        assert_eq!(config.shards, 5);
        assert_eq!(config.ack_to, Some("[2001:db8::1]:9".parse().unwrap()));
        assert_eq!(config.bind.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn an_address_that_is_none_is_refused_when_it_is_set() {
        let mut settings = Settings::default();
        for (option, text) in [
            (RTCP_OPT_BIND, "localhost"),
            (RTCP_OPT_BIND, ""),
            (RTCP_OPT_ACK_TO, "192.0.2.1"),
            (RTCP_OPT_MTU, "1"),
        ] {
            assert_eq!(settings.set_text(option as c_int, text).unwrap_err().code, RTCP_EINVAL, "{text}");
        }
    }
}
