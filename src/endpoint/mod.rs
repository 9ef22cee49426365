//! Many streams on one socket: the sans-IO [`Mux`].
//!
//! [`mux`] decides which connection a segment belongs to, answers what belongs to none, keeps the deadlines
//! and turns what happens into events. It makes no system call and reads no clock, so two of them run in a
//! simulation as well as on a socket.

mod cookies;
mod half_open;
mod key;
pub mod mux;
mod secrets;
mod slab;
mod stateless;
mod time_wait_table;
mod timers;

pub use mux::Mux;
pub use slab::ConnId;
