//! White-box tests of one connection against another, in virtual time.

mod handshake;
mod pair;
mod seed_link;
mod solo;
mod transfer;
