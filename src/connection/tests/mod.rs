//! White-box tests of one connection against another, in virtual time.

mod handshake;
mod farewell;
mod pair;
mod seed_link;
mod solo;
mod transfer;
