//! Connections by number: slots with generations, so that a stale [`ConnId`] names nothing.

/// Names a connection of one endpoint: slot and generation. No value comes twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slot, a small number that later connections use again.
    pub(super) fn index(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// Boxed values in numbered slots; an unused slot costs 16 bytes.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) -> ConnId {
        self.len += 1;
        let value = Some(Box::new(value));
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = value;
            return ConnId::new(index, entry.generation);
        }
        let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 connections fit in memory");
        self.entries.push(Entry { generation: 1, value });
        ConnId::new(index, 1)
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        let entry = self.entries.get(id.index() as usize)?;
        if entry.generation == id.generation() { entry.value.as_deref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index() as usize)?;
        if entry.generation == id.generation() { entry.value.as_deref_mut() } else { None }
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<T>> {
        let entry = self.entries.get_mut(id.index() as usize)?;
        if entry.generation != id.generation() {
            return None;
        }
        let value = entry.value.take()?;
        self.len -= 1;
        // A slot whose generations are used up is retired: no id may come twice.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free.push(id.index());
        }
        Some(value)
    }

    /// The live id of a slot.
    pub(super) fn id_at(&self, index: u32) -> Option<ConnId> {
        let entry = self.entries.get(index as usize)?;
        entry.value.as_ref().map(|_| ConnId::new(index, entry.generation))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| {
            entry.value.as_deref().map(|value| (ConnId::new(index as u32, entry.generation), value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_names_nothing_and_no_id_comes_twice() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first).as_deref(), Some(&'a'));
        let second = slab.insert('b');
        assert_eq!(first.index(), second.index(), "the slot is used again");
        assert_ne!(first, second);
        assert!(slab.get(first).is_none() && slab.remove(first).is_none());
        assert_eq!((slab.get(second), slab.len()), (Some(&'b'), 1));
    }

    #[test]
    fn a_slot_out_of_generations_is_retired() {
        let mut slab = Slab::new();
        let id = slab.insert(0);
        slab.entries[0].generation = u32::MAX;
        slab.remove(ConnId::new(id.index(), u32::MAX));
        assert_ne!(slab.insert(1).index(), id.index());
    }
}
