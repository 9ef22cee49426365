//! White-box tests of one connection against another, in virtual time.

mod closing;
mod corruption;
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
