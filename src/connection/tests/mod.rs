//! White-box tests of one connection against another, in virtual time.

mod ack_share;
mod blackout;
mod buffers;
mod closing;
mod corruption;
mod cubic;
mod dormant;
mod ecn;
mod farewell;
mod flow;
mod handshake;
mod hostile;
mod liveness;
mod loss;
mod pacing;
mod pair;
mod pingpong;
mod pmtud;
mod pmtud_plain;
mod recovery;
mod resets;
mod scoreboard;
mod seed_link;
mod solo;
mod trace;
mod transfer;
