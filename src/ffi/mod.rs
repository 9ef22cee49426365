//! The C API: `extern "C"` only, no protocol and no loops of its own. The contract is the header that
//! `build.rs` makes of the doc comments here, `include/rtcp.h`; doc comments of exported items are
//! therefore written for C.
//!
//! A function is four steps: check, convert, call, convert. `guard` is the border that no panic crosses,
//! `raw` turns pointers into Rust values, `handle` finds what a number names, `live` is what it names.
#![allow(non_camel_case_types)] // C's names
#![allow(rustdoc::broken_intra_doc_links)] // C's words: "[2001:db8::1]:9000" is an address, not a link

mod config;
mod connection;
mod error;
mod guard;
mod handle;
mod inspect;
mod live;
mod loan;
mod log;
mod option;
mod raw;
mod receiver;
mod sender;
mod stats;
mod types;
mod version;
mod waiting;

pub use config::{
    rtcp_config_free, rtcp_config_get_int, rtcp_config_new, rtcp_config_set_bytes, rtcp_config_set_int,
    rtcp_config_set_str, rtcp_option_bounds,
};
pub use connection::{rtcp_abort, rtcp_close, rtcp_finish, rtcp_flush, rtcp_recv, rtcp_send};
pub use error::{rtcp_error_name, rtcp_last_error_message, rtcp_last_os_error, rtcp_strerror};
pub use inspect::{rtcp_get_addr, rtcp_get_state, rtcp_set_int, rtcp_set_user_data};
pub use loan::{rtcp_commit, rtcp_consume, rtcp_peek, rtcp_reserve};
pub use log::{rtcp_log_init_env, rtcp_log_set_callback};
pub use receiver::{rtcp_receiver_connect, rtcp_receiver_new, rtcp_receiver_poll};
pub use sender::rtcp_sender_new;
pub use stats::rtcp_get_stats;
pub use types::{
    rtcp_cc, rtcp_cc_phase, rtcp_config, rtcp_error, rtcp_event, rtcp_event_bits, rtcp_handle, rtcp_io,
    rtcp_log_fn, rtcp_log_level, rtcp_option, rtcp_ssize, rtcp_state, rtcp_stats,
};
pub use version::{rtcp_version_number, rtcp_version_string};
pub use waiting::{rtcp_fd, rtcp_poll, rtcp_timeout_ms, rtcp_wake, rtcp_watch};
