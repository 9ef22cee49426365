//! What a connection at rest remembers of its path's MTU.

use super::super::nonce::Nonces;
use super::{Means, Pmtud};
use crate::time::Time;

/// What outlasts a rest: the size in use, and how far the search has come.
#[derive(Clone, Copy, Debug)]
pub(in crate::connection) struct Rested {
    size: u16,
    ceiling: u16,
    header: u16,
    too_large: u16,
    probes: u32,
    fallbacks: u8,
    means: Means,
    is_narrowed: bool,
    /// `Time::MAX`: none.
    timer: Time,
}

impl Pmtud {
    pub(in crate::connection) fn rest(&self) -> Rested {
        // Sizes of datagrams fit 16 bits; nonces of so long ago are not waited for.
        Rested {
            size: self.size as u16,
            ceiling: self.ceiling as u16,
            header: self.header as u16,
            too_large: self.too_large as u16,
            probes: self.probes as u32,
            fallbacks: self.fallbacks.min(255) as u8,
            means: self.means,
            is_narrowed: self.is_narrowed,
            // A size under test is tested again.
            timer: if self.candidate.is_some() { Time::ZERO } else { self.timer.unwrap_or(Time::MAX) },
        }
    }

    pub(in crate::connection) fn resume(rested: Rested, nonces: Nonces) -> Self {
        Self {
            means: rested.means,
            ceiling: usize::from(rested.ceiling),
            header: usize::from(rested.header),
            too_large: usize::from(rested.too_large),
            is_narrowed: rested.is_narrowed,
            timer: Some(rested.timer).filter(|at| *at < Time::MAX),
            fallbacks: u32::from(rested.fallbacks),
            probes: u64::from(rested.probes),
            ..Self::new(usize::from(rested.size), nonces)
        }
    }

    /// `size` is used as it is until [`Self::search`].
    pub(in crate::connection) const fn new(size: usize, nonces: Nonces) -> Self {
        Self {
            size,
            means: Means::Never,
            ceiling: 0,
            header: 0,
            too_large: 0,
            is_narrowed: false,
            candidate: None,
            timer: None,
            hole: None,
            fallbacks: 0,
            nonces,
            probes: 0,
        }
    }
}
