//! What a connection is doing, to be written down: a snapshot of its gauges, and the events between two.
//!
//! The connection itself records nothing: whoever wants a trace takes a [`Snapshot`] after each input and
//! gives it to a [`Recorder`], which says what happened since the one before. Without a recorder it costs
//! nothing.

use std::fmt;
use std::time::Duration;

use super::sender::Cause;
use super::{Connection, End, State};
use crate::time::Time;

/// Acknowledgements, sends and arrivals are told of at most this often, each; what they count is cumulative.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(1);

/// Loss recovery in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// None.
    Off,
    /// RACK found losses.
    Fast,
    /// The retransmission timer fired.
    Timeout,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Fast => "fast",
            Self::Timeout => "timeout",
        })
    }
}

/// Gauges and counters of a connection at one moment. Sequence numbers count from the SYN, which is 0, and do
/// not wrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// RFC 9293 3.3.2.
    pub state: State,
    /// How it ended, once it has.
    pub end: Option<End>,
    /// Loss recovery.
    pub recovery: Recovery,
    /// Oldest unacknowledged sequence number.
    pub snd_una: u64,
    /// Next sequence number to send.
    pub snd_nxt: u64,
    /// Bytes that the application has written and that were never sent.
    pub unsent: u64,
    /// Next sequence number expected from the peer.
    pub rcv_nxt: u64,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// Slow-start threshold, bytes; None while unknown.
    pub ssthresh: Option<u64>,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Peer's receive window, bytes.
    pub peer_window: u64,
    /// Bytes per second; None: not paced.
    pub pacing_rate: Option<u64>,
    /// Bytes per second that the path is thought to deliver; None: not estimated.
    pub bandwidth: Option<u64>,
    /// Share of transmissions, 0 to 1, whose loss is not taken for congestion; None: not estimated.
    pub loss_floor: Option<f32>,
    /// Smoothed round-trip time; zero before the first sample, as the next three.
    pub srtt: Duration,
    /// Its variation.
    pub rttvar: Duration,
    /// Smallest round-trip time.
    pub min_rtt: Duration,
    /// Most recent round-trip time.
    pub latest_rtt: Duration,
    /// Retransmission timeout, back-off included.
    pub rto: Duration,
    /// Payload bytes that the peer is known to hold.
    pub delivered: u64,
    /// Segments marked lost.
    pub lost: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Retransmission timeouts fired.
    pub rto_count: u64,
    /// Tail loss probes that fell due.
    pub probe_count: u64,
    /// Recoveries undone.
    pub undo_count: u64,
    /// Segments that came damaged.
    pub corrupt: u64,
    /// Largest UDP payload now in use, bytes.
    pub datagram_size: u64,
    /// The congestion controller's name.
    pub controller: &'static str,
    /// Its phase; "" if it has none.
    pub phase: &'static str,
}

impl Connection {
    /// What the connection is doing now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (snd, cc) = (&self.snd, &self.snd.cc);
        Snapshot {
            state: self.state,
            end: self.end,
            recovery: match snd.episode.map(|episode| episode.cause) {
                None => Recovery::Off,
                Some(Cause::Fast) => Recovery::Fast,
                Some(Cause::Timeout) => Recovery::Timeout,
            },
            snd_una: snd.una,
            snd_nxt: snd.nxt,
            unsent: snd.buffer.end().saturating_sub(snd.nxt.max(1)),
            rcv_nxt: self.rcv.nxt(),
            cwnd: cc.cwnd(),
            ssthresh: Some(cc.ssthresh()).filter(|bytes| *bytes != u64::MAX),
            in_flight: snd.board.in_flight(),
            peer_window: snd.wnd,
            pacing_rate: snd.pacer.rate(),
            bandwidth: cc.bandwidth(),
            loss_floor: cc.loss_floor(),
            srtt: snd.rtt.srtt(),
            rttvar: snd.rtt.rttvar(),
            min_rtt: snd.rtt.min_rtt(),
            latest_rtt: snd.rtt.latest(),
            rto: snd.rto(),
            delivered: snd.delivered_data(),
            lost: snd.lost,
            retransmitted: snd.retransmitted,
            rto_count: snd.rto_count,
            probe_count: snd.probe_count,
            undo_count: snd.undo_count,
            corrupt: self.rcv.corrupt,
            datagram_size: self.datagram_size() as u64,
            controller: cc.name(),
            phase: cc.phase(),
        }
    }
}

/// What happened between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first snapshot.
    Open,
    /// The peer acknowledged something.
    Ack,
    /// Something was sent, for the first time or again.
    Sent,
    /// Bytes arrived in order.
    Received,
    /// So many segments were marked lost.
    Lost(u64),
    /// The retransmission timer fired.
    Timeout,
    /// A tail loss probe fell due.
    Probe,
    /// Recovery began.
    Recovery(Recovery),
    /// Recovery ended.
    Recovered,
    /// The latest recovery was a mistake and was undone.
    Undo,
    /// The congestion controller entered another phase.
    Phase,
    /// The largest datagram changed.
    Mtu,
    /// So many damaged segments came.
    Corrupt(u64),
    /// The state changed, from the one that is named.
    State(State),
    /// It is over.
    Closed(End),
}

impl Event {
    /// As it stands in a trace.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ack => "ack",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Lost(_) => "lost",
            Self::Timeout => "rto",
            Self::Probe => "probe",
            Self::Recovery(_) => "recovery",
            Self::Recovered => "recovered",
            Self::Undo => "undo",
            Self::Phase => "phase",
            Self::Mtu => "mtu",
            Self::Corrupt(_) => "corrupt",
            Self::State(_) => "state",
            Self::Closed(_) => "closed",
        }
    }
}

/// Tells the events of one connection from its snapshots.
#[derive(Clone, Debug)]
pub struct Recorder {
    last: Option<Snapshot>,
    acked: Sampler,
    sent: Sampler,
    received: Sampler,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None, acked: Sampler::NEW, sent: Sampler::NEW, received: Sampler::NEW }
    }

    /// Reports every event since the last call, causes before effects.
    pub fn observe(&mut self, now: Time, next: &Snapshot, mut report: impl FnMut(Event)) {
        let Some(last) = self.last.replace(*next) else {
            self.received.told = (next.rcv_nxt, 0);
            self.acked.told = (next.snd_una, next.delivered);
            self.sent.told = (next.snd_nxt, next.retransmitted);
            return report(Event::Open);
        };
        if self.received.is_due(now, (next.rcv_nxt, 0)) {
            report(Event::Received);
        }
        if self.acked.is_due(now, (next.snd_una, next.delivered)) {
            report(Event::Ack);
        }
        let rose = |counter: fn(&Snapshot) -> u64| counter(next).saturating_sub(counter(&last));
        for (count, event) in [
            (rose(|s| s.corrupt), Event::Corrupt as fn(u64) -> Event),
            (rose(|s| s.rto_count), |_| Event::Timeout),
            (rose(|s| s.probe_count), |_| Event::Probe),
            (rose(|s| s.lost), Event::Lost),
            (rose(|s| s.undo_count), |_| Event::Undo),
        ] {
            if count > 0 {
                report(event(count));
            }
        }
        for (changed, event) in [
            (next.recovery == Recovery::Off && last.recovery != Recovery::Off, Event::Recovered),
            (
                next.recovery != Recovery::Off && next.recovery != last.recovery,
                Event::Recovery(next.recovery),
            ),
            (next.phase != last.phase, Event::Phase),
            (next.datagram_size != last.datagram_size, Event::Mtu),
            (next.state != last.state, Event::State(last.state)),
        ] {
            if changed {
                report(event);
            }
        }
        if self.sent.is_due(now, (next.snd_nxt, next.retransmitted)) {
            report(Event::Sent);
        }
        if let (Some(end), None) = (next.end, last.end) {
            report(Event::Closed(end));
        }
    }
}

/// Progress that is worth a line at most every [`SAMPLE_INTERVAL`].
#[derive(Clone, Debug)]
struct Sampler {
    told: (u64, u64),
    at: Option<Time>,
}

impl Sampler {
    const NEW: Self = Self { told: (0, 0), at: None };

    fn is_due(&mut self, now: Time, progress: (u64, u64)) -> bool {
        if progress == self.told || self.at.is_some_and(|at| now < at + SAMPLE_INTERVAL) {
            return false;
        }
        self.told = progress;
        self.at = Some(now);
        true
    }
}
