//! Many streams on one socket: the sans-IO [`Mux`] and the [`Endpoint`] that moves its datagrams.
//!
//! [`mux`] decides which connection a segment belongs to, answers what belongs to none, keeps the deadlines
//! and turns what happens into events. It makes no system call and reads no clock, so two of them run in a
//! simulation as well as on a socket.
//!
//! [`Endpoint`] is the mux with a socket: calls that wait, from any thread, with or without an I/O thread.
//! One lock protects it and is never held across anything that blocks; `seat` says who drives.
//!
//! [`Shards`] is what a receiver's handle names: one endpoint, or several that share an address.

mod budget;
mod call_error;
mod close;
mod config;
mod cookies;
mod core;
mod driver;
mod expectation;
mod half_open;
mod io_thread;
mod key;
mod loans;
mod moderation;
pub mod mux;
mod open;
mod passing;
mod presence;
mod seat;
mod secrets;
mod shards;
mod slab;
mod stateless;
#[cfg(test)]
mod tests;
mod time_wait_table;
mod timers;
mod trace;
mod waker;

pub use crate::connection::{Loan, SendLoan};
pub use call_error::CallError;
pub use config::EndpointConfig;
pub use driver::{ConnOption, Endpoint, Phase};
pub use mux::{Event, Mux};
pub use shards::Shards;
pub use slab::ConnId;
pub use waker::Waker;
