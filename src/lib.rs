//! TCP you can link: RFC 9293 segments inside UDP datagrams, made by a pure state machine, moved by a
//! thin batched UDP layer, offered to C as one kind of opaque handle. (Not RTP's control protocol.)
//!
//! The modules in data-flow order; imports point left or down, never up (`tests/tidy.rs` enforces it):
//!
//! ```text
//!  bytes on the wire            one stream               many streams, one socket           C
//!    wire            <--     connection         <--        endpoint           <--        ffi
//!    (pure codec)            (sans-IO, now is an           mux (sans-IO) + driver        extern "C" only
//!                             argument)                          |
//!                                                              udp  (the only system calls)
//! ```
//!
//! [`emulator`] is the bad link of the simulations and of the `udpl` proxy. [`time`] is the one
//! vocabulary type that every room shares.

pub mod connection;
pub mod emulator;
pub mod endpoint;
#[cfg(feature = "capi")]
pub mod ffi;
pub mod time;
pub mod udp;
pub mod wire;
