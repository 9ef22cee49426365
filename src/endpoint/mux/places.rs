//! The places that an application has for accepted connections, which several muxes may share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are taken: clones count together.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Places(Arc<AtomicUsize>);

/// What one mux has taken of them.
#[derive(Debug)]
pub(super) struct Accepted {
    all: Places,
    own: usize,
}

impl Accepted {
    pub(super) const fn new(all: Places) -> Self {
        Self { all, own: 0 }
    }

    /// Those of this mux.
    pub(super) const fn own(&self) -> usize {
        self.own
    }

    /// Is none free? A moment later that may be different, if others share them.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.all.0.load(Ordering::Relaxed) >= limit
    }

    /// Takes one, if there is one. Nothing but the number itself is told to others: no ordering is needed.
    pub(super) fn take(&mut self, limit: usize) -> bool {
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        let taken = self.all.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        self.own += usize::from(taken);
        taken
    }

    pub(super) fn give_back(&mut self) {
        self.own -= 1;
        self.all.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_for_all_who_share_it() {
        let all = Places::default();
        let (mut one, mut other) = (Accepted::new(all.clone()), Accepted::new(all));
        assert!(one.take(2) && other.take(2));
        assert!(!one.take(2) && !other.take(2) && one.is_full(2));
        assert!(other.take(3), "the limit may grow");
        one.give_back();
        assert!(one.is_full(2) && !one.is_full(3));
        other.give_back();
        assert!(one.take(2));
        assert_eq!((one.own(), other.own()), (1, 1));
    }
}
