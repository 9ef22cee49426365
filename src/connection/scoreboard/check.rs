//! What holds of a scoreboard between any two calls.

use super::{Fate, Scoreboard};

impl Scoreboard {
    pub(in crate::connection) fn assert_invariants(&self, una: u64, nxt: u64) {
        let (mut flight, mut sacked, mut lost, mut count, mut at) = (0, 0, 0, 0, una);
        for s in &self.segments {
            assert!(s.start == at && s.end > s.start, "records are contiguous from SND.UNA");
            at = s.end;
            match s.fate {
                Fate::Outstanding => (flight, count) = (flight + s.len(), count + 1),
                Fate::Sacked => sacked += s.len(),
                Fate::Lost => lost += s.len(),
            }
        }
        assert!(self.segments.is_empty() || at == nxt, "records end at SND.NXT");
        assert_eq!(
            (flight, sacked, lost, count),
            (self.in_flight, self.sacked, self.lost_bytes, self.outstanding_segments)
        );
    }

    /// Entries of the list of what is lost, stale ones included.
    #[cfg(test)]
    pub(in crate::connection) fn lost_entries(&self) -> usize {
        self.lost.len()
    }
}
