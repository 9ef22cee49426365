//! Connections by number: slots with generations, so that a stale [`ConnId`] names nothing.

/// Names a connection of one endpoint, or of those that share an address: generation, shard and slot. No
/// value comes twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnId(u64);

/// Slots of one slab: 2^26. The shard is in the six bits above.
const INDEX_BITS: u32 = 26;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

impl ConnId {
    fn new(index: u32, shard: u8, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(shard) << INDEX_BITS | u64::from(index))
    }

    /// The slot, a small number that later connections use again.
    pub(super) fn index(self) -> u32 {
        self.0 as u32 & INDEX_MASK
    }

    /// Whose slot: of the endpoints that share an address, the one in this place.
    pub(super) fn shard(self) -> usize {
        (self.0 as u32 >> INDEX_BITS) as usize
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
    /// In every id.
    shard: u8,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    /// `shard`: below 64.
    pub(super) const fn new(shard: u8) -> Self {
        Self { shard, entries: Vec::new(), free: Vec::new(), len: 0 }
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
            return ConnId::new(index, self.shard, entry.generation);
        }
        // 100 GB of connections; handles and RTCP_OPT_MAX_CLIENTS end earlier.
        assert!(self.entries.len() <= INDEX_MASK as usize, "fewer than 2^26 connections fit in memory");
        let index = self.entries.len() as u32;
        self.entries.push(Entry { generation: 1, value });
        ConnId::new(index, self.shard, 1)
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        let entry = self.entries.get(id.index() as usize)?;
        if self.is_here(id) && entry.generation == id.generation() { entry.value.as_deref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let is_here = self.is_here(id);
        let entry = self.entries.get_mut(id.index() as usize)?;
        if is_here && entry.generation == id.generation() { entry.value.as_deref_mut() } else { None }
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<T>> {
        let is_here = self.is_here(id);
        let entry = self.entries.get_mut(id.index() as usize)?;
        if !is_here || entry.generation != id.generation() {
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
        entry.value.as_ref().map(|_| ConnId::new(index, self.shard, entry.generation))
    }

    fn is_here(&self, id: ConnId) -> bool {
        id.shard() == usize::from(self.shard)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let id = ConnId::new(index as u32, self.shard, entry.generation);
            entry.value.as_deref().map(|value| (id, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_names_nothing_and_no_id_comes_twice() {
        let mut slab = Slab::new(0);
        let first = slab.insert('a');
        assert_eq!(slab.remove(first).as_deref(), Some(&'a'));
        let second = slab.insert('b');
        assert_eq!(first.index(), second.index(), "the slot is used again");
        assert_ne!(first, second);
        assert!(slab.get(first).is_none() && slab.remove(first).is_none());
        assert_eq!((slab.get(second), slab.len()), (Some(&'b'), 1));
    }

    #[test]
    fn an_id_of_another_shard_names_nothing_here() {
        let (mut here, mut there) = (Slab::new(0), Slab::new(63));
        let (ours, theirs) = (here.insert('a'), there.insert('b'));
        assert_eq!((ours.index(), ours.shard()), (0, 0));
        assert_eq!((theirs.index(), theirs.shard()), (0, 63));
        assert!(
            here.get(theirs).is_none() && here.get_mut(theirs).is_none() && here.remove(theirs).is_none()
        );
        assert_eq!(there.get(theirs), Some(&'b'));
        assert_eq!((there.id_at(0), there.iter().next()), (Some(theirs), Some((theirs, &'b'))));
    }

    #[test]
    fn a_slot_out_of_generations_is_retired() {
        let mut slab = Slab::new(0);
        let id = slab.insert(0);
        slab.entries[0].generation = u32::MAX;
        slab.remove(ConnId::new(id.index(), 0, u32::MAX));
        assert_ne!(slab.insert(1).index(), id.index());
    }
}
