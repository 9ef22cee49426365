//! What was sent more than once, and so what a reported duplicate (D-SACK, RFC 2883) means: a verdict that was
//! wrong, a copy sent on purpose, or, if it is not here, a datagram that the network doubled.

use std::collections::VecDeque;

/// Why a piece of the stream left again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// RACK found it overtaken: if it was not lost, the path reorders.
    Overtaken,
    /// A timer ran out, or it was too long for the path: if it was not lost, its answer was late.
    Unanswered,
    /// As a precaution, nobody thought it lost: a tail loss probe, a copy of a last segment.
    Copied,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    end: u64,
    why: Why,
    /// Of the latest episode.
    is_recent: bool,
}

impl Piece {
    const fn meets(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }
}

/// Pieces remembered. One is a row of neighbours that left in order for the same reason.
const PIECES: usize = 64;

/// Retransmissions that the peer has not reported as duplicates, oldest first.
#[derive(Debug, Default)]
pub(super) struct Resent {
    pieces: VecDeque<Piece>,
    /// Too many pieces of the latest episode, or one twice: what it sent again is not all known.
    is_vague: bool,
}

impl Resent {
    pub(super) fn begin_episode(&mut self) {
        self.is_vague = false;
        self.pieces.iter_mut().for_each(|piece| piece.is_recent = false);
    }

    /// `start..end` leaves again.
    pub(super) fn on_sent(&mut self, start: u64, end: u64, why: Why) {
        let is_recent = why != Why::Copied;
        if why == Why::Copied && self.pieces.iter().any(|p| p.why == why && p.start <= start && end <= p.end)
        {
            return; // a copy of a copy
        }
        // Which of two retransmissions a duplicate was nobody can tell.
        self.is_vague |=
            is_recent && !self.is_vague && self.pieces.iter().any(|p| p.is_recent && p.meets(start, end));
        match self.pieces.back_mut() {
            Some(last) if (last.end, last.why, last.is_recent) == (start, why, is_recent) => last.end = end,
            _ => self.push(Piece { start, end, why, is_recent }),
        }
    }

    fn push(&mut self, piece: Piece) {
        if self.pieces.len() == PIECES {
            self.is_vague |= self.pieces.pop_front().is_some_and(|forgotten| forgotten.is_recent);
        }
        self.pieces.push_back(piece);
    }

    /// The peer got `start..end` once more. Why we sent it again; None: we did not, or too long ago.
    pub(super) fn on_duplicate(&mut self, start: u64, end: u64) -> Option<Why> {
        let is_hit = |piece: &Piece| piece.meets(start, end);
        // All copies but the first come back as duplicates, in whatever order: the piece stays.
        if self.pieces.iter().any(|piece| piece.why == Why::Copied && is_hit(piece)) {
            return Some(Why::Copied);
        }
        let index = self.pieces.iter().position(is_hit)?;
        let piece = self.pieces.remove(index)?;
        for (from, to) in [(end, piece.end), (piece.start, start)] {
            if from < to {
                self.pieces.insert(index, Piece { start: from, end: to, ..piece });
            }
        }
        if self.pieces.len() > PIECES {
            self.is_vague |= self.pieces.pop_front().is_some_and(|forgotten| forgotten.is_recent);
        }
        Some(piece.why)
    }

    /// Everything that the latest episode sent again turned out to be a duplicate (RFC 3708).
    pub(super) fn is_all_reported(&self) -> bool {
        !self.is_vague && !self.pieces.iter().any(|piece| piece.is_recent)
    }

    /// Gives the memory back.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_all_reported_only_by_duplicates_of_what_it_sent_again() {
        let mut resent = Resent::default();
        resent.begin_episode();
        resent.on_sent(100, 200, Why::Overtaken);
        resent.on_sent(200, 300, Why::Overtaken);
        resent.on_sent(500, 600, Why::Unanswered);
        assert_eq!(resent.on_duplicate(300, 400), None, "the network's own");
        assert_eq!(resent.on_duplicate(200, 300), Some(Why::Overtaken));
        assert_eq!(resent.on_duplicate(200, 300), None, "its second duplicate is the network's");
        assert_eq!(resent.on_duplicate(500, 600), Some(Why::Unanswered));
        assert!(!resent.is_all_reported());
        assert_eq!(resent.on_duplicate(100, 200), Some(Why::Overtaken));
        assert!(resent.is_all_reported());
    }

    #[test]
    fn duplicates_of_an_earlier_episode_still_tell_why_and_do_not_count_for_this_one() {
        let mut resent = Resent::default();
        resent.begin_episode();
        resent.on_sent(100, 200, Why::Overtaken);
        resent.begin_episode();
        resent.on_sent(300, 400, Why::Overtaken);
        assert_eq!(resent.on_duplicate(100, 200), Some(Why::Overtaken));
        assert!(!resent.is_all_reported());
    }

    #[test]
    fn what_was_copied_on_purpose_is_never_a_mistake_however_often_it_comes_back() {
        let mut resent = Resent::default();
        resent.begin_episode();
        resent.on_sent(100, 200, Why::Overtaken);
        for _ in 0..1000 {
            resent.on_sent(100, 200, Why::Copied);
        }
        for _ in 0..10 {
            assert_eq!(resent.on_duplicate(100, 200), Some(Why::Copied));
        }
        assert!(!resent.is_all_reported());
        assert_eq!(resent.pieces.len(), 2);
    }

    #[test]
    fn what_is_not_all_known_is_never_all_reported() {
        let mut twice = Resent::default();
        twice.begin_episode();
        twice.on_sent(100, 200, Why::Overtaken);
        twice.on_sent(100, 200, Why::Overtaken);
        twice.on_duplicate(100, 200);
        twice.on_duplicate(100, 200);
        assert!(!twice.is_all_reported(), "the first may have been lost like the original");

        let mut many = Resent::default();
        many.begin_episode();
        (0..1000).for_each(|i| many.on_sent(1000 * i, 1000 * i + 100, Why::Overtaken));
        assert_eq!(many.pieces.len(), PIECES);
        (0..1000).for_each(|i| _ = many.on_duplicate(1000 * i, 1000 * i + 100));
        assert!(many.pieces.is_empty() && !many.is_all_reported());
    }
}
