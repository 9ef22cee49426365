//! White-box tests of one connection against another, in virtual time.

mod ack_share;
mod buffers;
mod closing;
mod farewell;
mod flow;
mod handshake;
mod hostile;
mod liveness;
mod pacing;
mod pair;
mod pmtud;
mod recovery;
mod resets;
mod scoreboard;
mod seed_link;
mod solo;
mod transfer;
