//! One stream, sans-IO: segments and time come in as arguments; segments, deadlines and events come out.

pub mod congestion;
pub mod pacer;
pub mod rtt;
