//! A connection while something happens to it, or what is kept of it while nothing does.

use std::mem;

use crate::connection::{Connection, Dormant, View};
use crate::time::Time;
use crate::wire::Segment;

/// Awake or at rest. The small variant is the one in line: those at rest are many.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(super) enum Life {
    Awake(Box<Connection>),
    Dormant(Dormant),
    /// On its way from one to the other, within one call.
    Moving,
}

impl Life {
    pub(super) fn view(&self) -> View<'_> {
        match self {
            Self::Awake(connection) => View::Awake(connection),
            Self::Dormant(dormant) => View::Dormant(dormant),
            Self::Moving => unreachable!("nobody looks during the move"),
        }
    }

    /// True: it rests, and `datagram` is not the peer's, or nothing would come of it.
    pub(super) fn absorbs(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8]) -> bool {
        match self {
            Self::Dormant(dormant) => dormant.absorbs(now, segment, datagram),
            Self::Awake(_) | Self::Moving => false,
        }
    }

    /// The connection, to act on: it rests no more.
    pub(super) fn wake(&mut self) -> &mut Connection {
        if !matches!(self, Self::Awake(_)) {
            *self = match mem::replace(self, Self::Moving) {
                Self::Dormant(dormant) => Self::Awake(Box::new(dormant.unfold())),
                awake => awake,
            };
        }
        match self {
            Self::Awake(connection) => connection,
            Self::Dormant(_) | Self::Moving => unreachable!("it was woken"),
        }
    }

    /// Keeps only what must be kept, if there is nothing to do.
    /// True: it gave up memory that data had been moved with.
    pub(super) fn rest(&mut self, now: Time) -> bool {
        let Self::Awake(connection) = self else { return false };
        let is_used = connection.is_used();
        let is_at_rest = connection.is_at_rest(now);
        if is_at_rest {
            *self = match mem::replace(self, Self::Moving) {
                Self::Awake(connection) => Self::Dormant(connection.fold()),
                dormant => dormant,
            };
        }
        is_at_rest && is_used
    }
}
