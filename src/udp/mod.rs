//! Placeholder.
pub mod signal;
pub mod wait_set;
