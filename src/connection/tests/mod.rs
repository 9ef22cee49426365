//! White-box tests of one connection against another, in virtual time.

mod pair;
mod seed_link;
mod transfer;
