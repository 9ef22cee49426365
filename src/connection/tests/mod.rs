//! White-box tests of one connection against another, in virtual time.

mod pair;
mod transfer;
mod seed_link;
