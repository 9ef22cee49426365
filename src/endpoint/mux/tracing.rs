//! A trace of every connection: records to be fetched, as datagrams and events are.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::slot::{Origin, Slot};
use super::{ConnId, Mux};
use crate::connection::View;
use crate::connection::trace::{Event, Recorder, Snapshot};
use crate::time::Time;

/// Records that wait to be fetched. Who fetches them after each input never meets this limit.
const RECORDS_MAX: usize = 16_384;

/// One event of one connection.
#[derive(Clone, Copy, Debug)]
pub struct TraceRecord {
    /// When.
    pub time: Time,
    /// Connections of this mux are counted from 1, in the order in which they were traced.
    pub number: u64,
    /// Where its segments come from.
    pub peer: SocketAddr,
    /// We began it.
    pub is_dialled: bool,
    /// What happened.
    pub event: Event,
    /// What the connection was doing then.
    pub snapshot: Snapshot,
}

#[derive(Default)]
pub(super) struct Tracing {
    recorders: HashMap<ConnId, (u64, Recorder)>,
    /// Connections traced so far.
    count: u64,
    records: Vec<TraceRecord>,
}

impl Tracing {
    pub(super) fn observe(&mut self, now: Time, id: ConnId, slot: &Slot) {
        let View::Awake(connection) = slot.view() else { return }; // at rest nothing happens
        let Self { recorders, count, records } = self;
        let (number, recorder) = recorders.entry(id).or_insert_with(|| {
            *count += 1;
            (*count, Recorder::new())
        });
        let snapshot = connection.snapshot();
        let (peer, is_dialled) = (slot.peer, slot.origin == Origin::Dialled);
        recorder.observe(now, &snapshot, |event| {
            if records.len() < RECORDS_MAX {
                records.push(TraceRecord { time: now, number: *number, peer, is_dialled, event, snapshot });
            }
        });
    }

    pub(super) fn forget(&mut self, id: ConnId) {
        self.recorders.remove(&id);
    }
}

impl Mux {
    /// From now on every connection leaves records, to be fetched with [`poll_trace`](Self::poll_trace).
    pub fn begin_trace(&mut self) {
        self.tracing.get_or_insert_default();
    }

    /// Moves the records made since the last call to the end of `sink`, oldest first.
    pub fn poll_trace(&mut self, sink: &mut Vec<TraceRecord>) {
        if let Some(tracing) = &mut self.tracing {
            sink.append(&mut tracing.records);
        }
    }
}
