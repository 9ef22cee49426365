//! The handle table: numbers that are never used twice, looked up without a lock.
//!
//! A handle is a slot's index and the slot's generation. A slot's state is one atomic word, so that a
//! lookup is one compare-and-swap and may be done in a signal handler:
//!
//! ```text
//! [ generation: 40 | CLOSING: 1 | DEAD: 1 | users: 22 ]
//! ```
//!
//! Whoever uses a slot's value counts as a user; the value is dropped by the last one to leave once the
//! slot is dead. A signal handler must not free memory: if it is the last, it puts the slot on a list
//! that the next insertion or closing empties.
#![allow(unsafe_code)] // a slot's value is reached through a pointer that the user count keeps alive

use std::ops::Deref;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MAX: u64 = u64::MAX >> INDEX_BITS;
/// Being closed: refuses all new users but those who come to wake the closer.
const CLOSING: u64 = 1 << 23;
/// Refuses all new users.
const DEAD: u64 = 1 << 22;
const USERS_MASK: u64 = DEAD - 1;

/// Chunk `n` holds `FIRST_CHUNK << n` slots; together they cover all but the last few indices of 24 bits.
const CHUNKS: usize = 14;
const FIRST_CHUNK: u32 = 1 << 10;
const CAPACITY: u32 = FIRST_CHUNK * ((1 << CHUNKS) - 1);

struct Slot<T> {
    state: AtomicU64,
    value: AtomicPtr<T>,
    /// Next slot of the list this one is on, plus 1; 0 ends the list.
    next: AtomicU32,
}

/// Values by handle. Grows, never shrinks: slots are used again, handles are not.
pub(super) struct Table<T> {
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    /// Slots ever used.
    used: AtomicU32,
    /// Free slots: `[ tag: 32 | index + 1: 32 ]`, the tag against ABA.
    free: AtomicU64,
    /// Slots whose last user was a signal handler: index + 1.
    left_by_signal: AtomicU32,
}

/// Use of a value; it stays alive as long as this lives.
pub(super) struct User<'t, T> {
    table: &'t Table<T>,
    index: u32,
    frees: Frees,
}

/// What a user who leaves last may do.
#[derive(Clone, Copy, PartialEq)]
enum Frees {
    AtOnce,
    Later,
}

/// Use of a value whose handle is being closed by the holder, and dies when this is dropped.
pub(super) struct Closing<'t, T>(User<'t, T>);

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            used: AtomicU32::new(0),
            free: AtomicU64::new(0),
            left_by_signal: AtomicU32::new(0),
        }
    }

    /// A new handle for `value`; gives it back if all 2^24 slots are taken.
    pub(super) fn insert(&self, value: T) -> Result<u64, T> {
        self.sweep();
        let Some(index) = self.take_index() else { return Err(value) };
        let slot = self.slot(index).expect("take_index gives indices of existing slots");
        let generation = (slot.state.load(Relaxed) >> INDEX_BITS) + 1;
        slot.value.store(Box::into_raw(Box::new(value)), Release);
        slot.state.store(generation << INDEX_BITS, Release);
        Ok(generation << INDEX_BITS | u64::from(index))
    }

    /// The value of a live handle.
    pub(super) fn get(&self, handle: u64) -> Option<User<'_, T>> {
        self.enter(handle, CLOSING | DEAD, 0, Frees::AtOnce)
    }

    /// As [`Table::get`], for signal handlers: also while the handle is being closed, takes no lock and
    /// never frees.
    pub(super) fn get_in_signal(&self, handle: u64) -> Option<User<'_, T>> {
        self.enter(handle, DEAD, 0, Frees::Later)
    }

    /// Begins to close a handle: to everybody else it is not live any more. None if it was not live.
    pub(super) fn close(&self, handle: u64) -> Option<Closing<'_, T>> {
        self.sweep();
        self.enter(handle, CLOSING | DEAD, CLOSING, Frees::AtOnce).map(Closing)
    }

    fn enter(&self, handle: u64, refused: u64, mark: u64, frees: Frees) -> Option<User<'_, T>> {
        let index = u32::try_from(handle & INDEX_MASK).expect("24 bits fit");
        let slot = self.slot(index)?;
        let mut state = slot.state.load(Acquire);
        loop {
            let fits = state & USERS_MASK < USERS_MASK;
            if state >> INDEX_BITS != handle >> INDEX_BITS || state & refused != 0 || !fits {
                return None;
            }
            match slot.state.compare_exchange_weak(state, (state + 1) | mark, AcqRel, Acquire) {
                Ok(_) => return Some(User { table: self, index, frees }),
                Err(now) => state = now,
            }
        }
    }

    fn leave(&self, index: u32, frees: Frees) {
        let slot = self.slot(index).expect("a user's slot exists");
        let before = slot.state.fetch_sub(1, AcqRel);
        if before & DEAD == 0 || before & USERS_MASK != 1 {
            return;
        }
        match frees {
            Frees::AtOnce => self.release(index, slot),
            Frees::Later => {
                let mut head = self.left_by_signal.load(Relaxed);
                loop {
                    slot.next.store(head, Relaxed);
                    match self.left_by_signal.compare_exchange_weak(head, index + 1, Release, Relaxed) {
                        Ok(_) => return,
                        Err(now) => head = now,
                    }
                }
            }
        }
    }

    /// Releases what signal handlers left behind.
    fn sweep(&self) {
        if self.left_by_signal.load(Relaxed) == 0 {
            return;
        }
        let mut head = self.left_by_signal.swap(0, Acquire);
        while let Some(slot) = head.checked_sub(1).and_then(|index| self.slot(index)) {
            let next = slot.next.load(Relaxed);
            self.release(head - 1, slot);
            head = next;
        }
    }

    /// Drops the value of a dead slot that nobody uses and makes the slot free.
    fn release(&self, index: u32, slot: &Slot<T>) {
        let value = slot.value.swap(ptr::null_mut(), AcqRel);
        // SAFETY: insert() made the pointer with Box::into_raw; the slot is dead and without users, so
        // this is the one call that takes it, and no reference to it is left.
        drop(unsafe { Box::from_raw(value) });
        if slot.state.load(Relaxed) >> INDEX_BITS == GENERATION_MAX {
            return; // used 2^40 times: retired, so that no handle comes twice
        }
        let mut head = self.free.load(Relaxed);
        loop {
            slot.next.store(head as u32, Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(index + 1);
            match self.free.compare_exchange_weak(head, new, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn take_index(&self) -> Option<u32> {
        let mut head = self.free.load(Acquire);
        while let Some(index) = (head as u32).checked_sub(1) {
            let next = self.slot(index)?.next.load(Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Acquire, Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
        let index =
            self.used.fetch_update(Relaxed, Relaxed, |used| (used < CAPACITY).then_some(used + 1)).ok()?;
        let (chunk, _) = place(index);
        self.chunks[chunk].get_or_init(|| {
            let fresh = || Slot {
                state: AtomicU64::new(DEAD),
                value: AtomicPtr::new(ptr::null_mut()),
                next: AtomicU32::new(0),
            };
            (0..FIRST_CHUNK << chunk).map(|_| fresh()).collect()
        });
        Some(index)
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let (chunk, offset) = place(index);
        self.chunks.get(chunk)?.get()?.get(offset)
    }
}

/// Chunk and offset of a slot: chunk `n` begins at index `FIRST_CHUNK * (2^n - 1)`.
fn place(index: u32) -> (usize, usize) {
    let shifted = index + FIRST_CHUNK;
    let chunk = shifted.ilog2() - FIRST_CHUNK.ilog2();
    (chunk as usize, (shifted - (FIRST_CHUNK << chunk)) as usize)
}

impl<T> Deref for User<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let slot = self.table.slot(self.index).expect("a user's slot exists");
        // SAFETY: insert() stored a pointer from Box::into_raw before the state let anybody in, and
        // release() waits until this user, counted in the state, has left.
        unsafe { &*slot.value.load(Acquire) }
    }
}

impl<T> Drop for User<'_, T> {
    fn drop(&mut self) {
        self.table.leave(self.index, self.frees);
    }
}

impl<T> Deref for Closing<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        let slot = self.0.table.slot(self.0.index).expect("a user's slot exists");
        slot.state.fetch_or(DEAD, AcqRel); // then self.0 leaves
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn no_handle_comes_twice_though_slots_do() {
        let table = Table::new();
        let mut seen = HashSet::new();
        for n in 0..5_000 {
            let handle = table.insert(n).unwrap();
            assert!(handle != 0 && seen.insert(handle));
            assert_eq!(table.get(handle).as_deref(), Some(&n));
            drop(table.close(handle).unwrap());
            assert!(table.get(handle).is_none() && table.close(handle).is_none());
        }
        assert_eq!(table.used.load(Relaxed), 1, "one slot served them all");
    }

    #[test]
    fn foreign_numbers_are_not_handles() {
        let table = Table::new();
        let handle = table.insert(()).unwrap();
        for foreign in [0, 1, 3, INDEX_MASK, u64::MAX, handle + 1, handle + (1 << INDEX_BITS), !handle] {
            assert!(table.get(foreign).is_none(), "{foreign:#x}");
        }
    }

    #[test]
    fn many_handles_live_at_once_in_several_chunks() {
        let table = Table::new();
        let handles: Vec<_> = (0..10_000).map(|n| table.insert(n).unwrap()).collect();
        for (n, &handle) in handles.iter().enumerate() {
            assert_eq!(*table.get(handle).unwrap(), n);
        }
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(CAPACITY - 1), (CHUNKS - 1, (FIRST_CHUNK << (CHUNKS - 1)) as usize - 1));
    }

    #[test]
    fn a_value_lives_until_its_last_user_leaves() {
        let table = Table::new();
        let watched = Arc::new(());
        let handle = table.insert(Arc::clone(&watched)).unwrap();
        let user = table.get(handle).unwrap();
        drop(table.close(handle));
        assert!(table.get(handle).is_none());
        assert_eq!(Arc::strong_count(&watched), 2);
        drop(user);
        assert_eq!(Arc::strong_count(&watched), 1);
    }

    #[test]
    fn a_signal_handler_reaches_a_closing_handle_and_never_frees() {
        let table = Table::new();
        let watched = Arc::new(());
        let handle = table.insert(Arc::clone(&watched)).unwrap();
        let closing = table.close(handle).unwrap();
        assert!(table.get(handle).is_none(), "closed for calls");
        let signal = table.get_in_signal(handle).expect("open for a wake");
        drop(closing);
        drop(signal);
        assert_eq!(Arc::strong_count(&watched), 2, "left for others to free");
        assert!(table.get_in_signal(handle).is_none());
        let _ = table.insert(Arc::new(())).unwrap();
        assert_eq!(Arc::strong_count(&watched), 1, "swept");
    }

    #[test]
    fn threads_that_race_for_a_close_have_one_winner_and_see_whole_values() {
        let table = Table::new();
        for round in 0..200u64 {
            let handle = table.insert(vec![round; 16]).unwrap();
            let race = || {
                let seen = table.get(handle).map(|value| value.iter().all(|&item| item == round));
                assert_ne!(seen, Some(false));
                let signal = table.get_in_signal(handle);
                let won = table.close(handle).is_some();
                drop(signal);
                won
            };
            let won: Vec<bool> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(won.iter().filter(|&&won| won).count(), 1);
        }
    }
}
