//! The trace file: one line of CSV per event. `docs/tracing.md` says what the columns mean.

use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::mux::{Mux, TraceRecord};
use crate::connection::End;
use crate::connection::trace::Event;
use crate::time::Time;
use crate::udp::{self, LineFile};
use lines::Lines;

mod lines;

/// Who looks at the file while it grows does not wait longer than this for a connection that is busy.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a close waits for a disk that stands still.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// Endpoints of this process that were traced: one file may hold the connections of all.
static ENDPOINTS: AtomicU32 = AtomicU32::new(0);

/// One line to be.
struct Row<'a> {
    /// Process and endpoint.
    prefix: &'a str,
    record: &'a TraceRecord,
}

type Column = (&'static str, fn(&Row<'_>, &mut String));

/// In the order of the file. A value that does not exist (yet) is empty.
const COLUMNS: &[Column] = &[
    ("time_us", |row, out| put(out, row.record.time.as_nanos() / 1000)),
    ("conn", |row, out| put(out, format_args!("{}.{}", row.prefix, row.record.number))),
    ("event", |row, out| put(out, row.record.event.name())),
    ("detail", |row, out| put_detail(out, row.record)),
    ("state", |row, out| put(out, format_args!("{:?}", row.record.snapshot.state))),
    ("recovery", |row, out| put(out, row.record.snapshot.recovery)),
    ("snd_una", |row, out| put(out, row.record.snapshot.snd_una)),
    ("snd_nxt", |row, out| put(out, row.record.snapshot.snd_nxt)),
    ("unsent_bytes", |row, out| put(out, row.record.snapshot.unsent)),
    ("rcv_nxt", |row, out| put(out, row.record.snapshot.rcv_nxt)),
    ("cwnd_bytes", |row, out| put(out, row.record.snapshot.cwnd)),
    ("ssthresh_bytes", |row, out| put_some(out, row.record.snapshot.ssthresh)),
    ("inflight_bytes", |row, out| put(out, row.record.snapshot.in_flight)),
    ("peer_window_bytes", |row, out| put(out, row.record.snapshot.peer_window)),
    ("pacing_bytes_per_s", |row, out| put_some(out, row.record.snapshot.pacing_rate)),
    ("bandwidth_bytes_per_s", |row, out| put_some(out, row.record.snapshot.bandwidth)),
    ("loss_floor", |row, out| put_some(out, row.record.snapshot.loss_floor)),
    ("srtt_us", |row, out| put_time(out, row.record.snapshot.srtt)),
    ("rttvar_us", |row, out| put_time(out, row.record.snapshot.rttvar)),
    ("min_rtt_us", |row, out| put_time(out, row.record.snapshot.min_rtt)),
    ("latest_rtt_us", |row, out| put_time(out, row.record.snapshot.latest_rtt)),
    ("rto_us", |row, out| put_time(out, row.record.snapshot.rto)),
    ("delivered_bytes", |row, out| put(out, row.record.snapshot.delivered)),
    ("lost_segments", |row, out| put(out, row.record.snapshot.lost)),
    ("retransmitted_segments", |row, out| put(out, row.record.snapshot.retransmitted)),
    ("rtos", |row, out| put(out, row.record.snapshot.rto_count)),
    ("probes", |row, out| put(out, row.record.snapshot.probe_count)),
    ("undos", |row, out| put(out, row.record.snapshot.undo_count)),
    ("corrupt_segments", |row, out| put(out, row.record.snapshot.corrupt)),
    ("mtu_bytes", |row, out| put(out, row.record.snapshot.datagram_size)),
    ("controller", |row, out| put(out, row.record.snapshot.controller)),
    ("phase", |row, out| put(out, row.record.snapshot.phase)),
];

fn put(out: &mut String, value: impl Display) {
    write!(out, "{value}").expect("a String takes everything");
}

fn put_some(out: &mut String, value: Option<impl Display>) {
    if let Some(value) = value {
        put(out, value);
    }
}

/// Zero: not measured yet.
fn put_time(out: &mut String, value: Duration) {
    put_some(out, (!value.is_zero()).then_some(value.as_micros()));
}

fn put_detail(out: &mut String, record: &TraceRecord) {
    match record.event {
        Event::Open if record.is_dialled => put(out, format_args!("to {}", record.peer)),
        Event::Open => put(out, format_args!("from {}", record.peer)),
        Event::Lost(count) | Event::Corrupt(count) => put(out, count),
        Event::Recovery(kind) => put(out, kind),
        Event::Mtu => put(out, record.snapshot.datagram_size),
        Event::Phase => put(out, record.snapshot.phase),
        Event::State(before) => put(out, format_args!("after {before:?}")),
        Event::Closed(End::Orderly) => put(out, "orderly"),
        Event::Closed(End::Failed(error)) => put(out, format_args!("{error:?}")),
        Event::Ack
        | Event::Sent
        | Event::Received
        | Event::Timeout
        | Event::Probe
        | Event::Recovered
        | Event::Undo => {}
    }
}

fn header() -> String {
    COLUMNS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

/// `%p` stands for the process id.
fn expand(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) => text.replace("%p", &process::id().to_string()).into(),
        None => path.to_owned(),
    }
}

/// The trace of one endpoint's connections.
pub(super) struct Trace {
    lines: Arc<Lines>,
    prefix: String,
    /// Lines that are being made.
    text: String,
    records: Vec<TraceRecord>,
    flushed_at: Time,
}

impl Trace {
    /// `path` as in [`EndpointConfig::trace`](super::EndpointConfig::trace). None: nothing is to be traced,
    /// or it cannot be.
    pub(super) fn open(path: Option<&str>) -> Option<Self> {
        let path = match path {
            Some("") => None,
            Some(path) => Some(PathBuf::from(path)),
            None => udp::trace_path(),
        };
        let path = expand(&path?);
        let begun = LineFile::open(&path, &header()).and_then(|mut file| {
            let name = path.display().to_string();
            Lines::begin(name, move |lines, may_wait| file.append(lines, may_wait))
        });
        match begun {
            Ok(lines) => Some(Self::to(lines)),
            Err(error) => {
                log::warn!("no trace in {}: {error}", path.display());
                None
            }
        }
    }

    fn to(lines: Arc<Lines>) -> Self {
        let number = ENDPOINTS.fetch_add(1, Ordering::Relaxed) + 1;
        let prefix = format!("{}.{number}", process::id());
        Self { lines, prefix, text: String::new(), records: Vec::new(), flushed_at: Time::ZERO }
    }

    /// Fetches what has happened, and hands it on to be written.
    pub(super) fn write(&mut self, mux: &mut Mux) {
        mux.poll_trace(&mut self.records);
        let Some(last) = self.records.last() else { return };
        let now = last.time;
        let mut is_over = false;
        for record in &self.records {
            for (_, column) in COLUMNS {
                column(&Row { prefix: &self.prefix, record }, &mut self.text);
                self.text.push(',');
            }
            self.text.pop();
            self.text.push('\n');
            is_over |= matches!(record.event, Event::Closed(_));
        }
        let is_due = is_over || now >= self.flushed_at + FLUSH_INTERVAL;
        self.lines.push(&self.text, self.records.len(), is_due);
        self.text.clear();
        self.records.clear();
        if is_due {
            self.flushed_at = now;
        }
    }

    /// What was handed on is not to wait for more.
    pub(super) fn hurry(&self) {
        self.lines.push("", 0, true);
    }

    /// Waits, a second at most, until what was handed on is written; not to be called under the lock.
    pub(super) fn settler(&self) -> impl FnOnce() + use<> {
        let lines = Arc::clone(&self.lines);
        move || lines.settle(SETTLE_LIMIT)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.lines.end();
    }
}

#[cfg(test)]
mod tests;
