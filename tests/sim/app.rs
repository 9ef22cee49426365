//! The application at one end of a connection: what it means to do, what it has done, what it saw.
//!
//! It acts on events and on its own timers only, so an event that the mux forgets shows as a hang.

use std::time::Duration;

use rtcp::connection::End;
use rtcp::emulator::Rng;
use rtcp::endpoint::mux::event;
use rtcp::endpoint::mux::{Event, OpError};
use rtcp::endpoint::{ConnId, Mux};
use rtcp::time::Time;
use rtcp::wire::SeqNum;

use super::pattern;

/// When the sending direction is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Right behind the last byte.
    WhenWritten,
    /// This long after the last byte was taken.
    Later(Duration),
    /// Only once the peer has finished.
    AfterPeer,
    /// Never.
    Never,
}

/// How the application gives up the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It waits for CLOSED.
    Wait,
    /// `release` once all is written and read: the mux delivers the rest by itself.
    Release,
    /// `close` in place of `finish`: only for a peer that sends nothing.
    Close,
}

/// What the application means to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) send: u64,
    pub(crate) expect: u64,
    /// Of the bytes sent; the peer's are `!salt`.
    pub(crate) salt: u64,
    /// Each write and each read has a size from 1 to this.
    pub(crate) write_max: usize,
    pub(crate) read_max: usize,
    /// A slow reader: waits this long after each read.
    pub(crate) read_pause: Option<Duration>,
    /// Writes nothing for this long.
    pub(crate) start_after: Duration,
    pub(crate) finish: Finish,
    pub(crate) leave: Leave,
    /// Of the sizes.
    pub(crate) seed: u64,
}

impl Plan {
    /// Sends and expects so much, as fast as it can.
    pub(crate) fn eager(send: u64, expect: u64, salt: u64) -> Self {
        Self {
            send,
            expect,
            salt,
            write_max: 0,
            read_max: 0,
            read_pause: None,
            start_after: Duration::ZERO,
            finish: Finish::WhenWritten,
            leave: Leave::Wait,
            seed: 0,
        }
    }

    /// The plan of the other end, just as eager.
    pub(crate) fn mirrored(&self) -> Self {
        Self::eager(self.expect, self.send, !self.salt)
    }
}

/// The largest single read or write of an eager application.
const CHUNK: usize = 256 << 10;

/// The application at one end.
pub(crate) struct App {
    pub(crate) id: ConnId,
    pub(crate) plan: Plan,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) eof: bool,
    pub(crate) finished: bool,
    /// Our initial sequence number, from the moment the connection is up.
    pub(crate) iss: Option<SeqNum>,
    /// CONNECTED or ACCEPTED was reported.
    pub(crate) began: bool,
    /// CLOSED was reported.
    pub(crate) end: Option<End>,
    pub(crate) closed_at: Option<Time>,
    /// The position of the first wrong byte.
    pub(crate) wrong: Option<u64>,
    released: bool,
    write_from: Time,
    read_from: Time,
    finish_from: Option<Time>,
    watched: u32,
    rng: Rng,
    got: Vec<u8>,
    expected: Vec<u8>,
}

impl App {
    pub(crate) fn new(now: Time, id: ConnId, plan: Plan) -> Self {
        Self {
            id,
            written: 0,
            read: 0,
            eof: false,
            finished: false,
            iss: None,
            began: false,
            end: None,
            closed_at: None,
            wrong: None,
            released: false,
            write_from: now + plan.start_after,
            read_from: now,
            finish_from: None,
            watched: event::READABLE,
            rng: Rng::stream(plan.seed, 77),
            got: Vec::new(),
            expected: Vec::new(),
            plan,
        }
    }

    /// Over in good order, with every byte of both directions in place.
    pub(crate) fn is_exact(&self) -> bool {
        let all_read = self.read == self.plan.expect && (self.eof || self.plan.leave == Leave::Close);
        self.end == Some(End::Orderly) && self.written == self.plan.send && all_read && self.wrong.is_none()
    }

    /// One record about this connection. True if something was done.
    pub(crate) fn on_event(&mut self, mux: &mut Mux, now: Time, record: &Event) -> bool {
        assert!(self.end.is_none(), "a record after CLOSED: {record:?}");
        if record.events & (event::CONNECTED | event::ACCEPTED) != 0 {
            self.began = true;
            self.iss = mux.connection(self.id).map(|connection| connection.identity().iss);
        }
        if record.events & event::CLOSED != 0 {
            assert!(record.end.is_some(), "CLOSED says how it ended");
            self.end = record.end;
            self.closed_at = Some(now);
            return true;
        }
        self.act(mux, now, record.events)
    }

    /// Does what is due. True if something was done.
    pub(crate) fn act(&mut self, mux: &mut Mux, now: Time, conditions: u32) -> bool {
        if self.released || self.end.is_some() {
            return false;
        }
        let mut busy = false;
        if conditions & event::READABLE != 0 && self.read_from <= now {
            busy |= self.read(mux, now);
        }
        if conditions & event::WRITABLE != 0 && self.write_from <= now {
            busy |= self.write(mux, now);
        }
        busy |= self.finish_if_due(mux, now);
        if self.finished && self.eof && self.plan.leave == Leave::Release {
            self.released = true;
            mux.release(now, self.id, None).expect("the id lives until CLOSED");
            return true;
        }
        self.watch(mux, now);
        busy
    }

    /// When it wants to act again by itself.
    pub(crate) fn next_timer(&self, now: Time) -> Option<Time> {
        if self.released || self.end.is_some() {
            return None;
        }
        let write = (self.written < self.plan.send).then_some(self.write_from);
        let finish = self.finish_from.filter(|_| !self.finished);
        [Some(self.read_from), write, finish].into_iter().flatten().filter(|at| *at > now).min()
    }

    fn watch(&mut self, mux: &mut Mux, now: Time) {
        let mut mask = 0;
        if self.read_from <= now && !self.eof && self.plan.leave != Leave::Close {
            mask |= event::READABLE;
        }
        if self.written < self.plan.send && self.write_from <= now {
            mask |= event::WRITABLE;
        }
        if mask != self.watched {
            self.watched = mask;
            mux.watch(self.id, mask).expect("the id lives until CLOSED");
        }
    }

    fn size(&mut self, max: usize) -> usize {
        if max == 0 { CHUNK } else { 1 + self.rng.below(max as u64) as usize }
    }

    fn write(&mut self, mux: &mut Mux, now: Time) -> bool {
        let mut busy = false;
        while self.written < self.plan.send {
            let left = usize::try_from(self.plan.send - self.written).unwrap_or(usize::MAX);
            let size = self.size(self.plan.write_max).min(left);
            self.got.resize(size, 0);
            pattern::fill(self.plan.salt, self.written, &mut self.got);
            match mux.write(now, self.id, &self.got) {
                Ok(taken) => {
                    assert!(0 < taken && taken <= size);
                    self.written += taken as u64;
                    busy = true;
                }
                Err(OpError::WouldBlock | OpError::Ended(_)) => break,
                Err(error) => panic!("write: {error:?}"),
            }
        }
        busy
    }

    fn read(&mut self, mux: &mut Mux, now: Time) -> bool {
        let mut busy = false;
        loop {
            let size = self.size(self.plan.read_max);
            self.got.resize(size, 0);
            match mux.read(now, self.id, &mut self.got) {
                Ok(0) => {
                    busy |= !self.eof;
                    self.eof = true;
                    return busy;
                }
                Ok(len) => {
                    self.check(len);
                    busy = true;
                }
                Err(OpError::WouldBlock | OpError::Ended(_)) => return busy,
                Err(error) => panic!("read: {error:?}"),
            }
            if let Some(pause) = self.plan.read_pause {
                self.read_from = now + pause;
                return busy;
            }
        }
    }

    fn check(&mut self, len: usize) {
        self.expected.resize(len, 0);
        pattern::fill(!self.plan.salt, self.read, &mut self.expected);
        let got = &self.got[..len];
        if self.wrong.is_none() && got != self.expected {
            let at = got.iter().zip(&self.expected).position(|(a, b)| a != b).unwrap_or(0);
            self.wrong = Some(self.read + at as u64);
        }
        self.read += len as u64;
        if self.read > self.plan.expect {
            self.wrong.get_or_insert(self.plan.expect);
        }
    }

    fn finish_if_due(&mut self, mux: &mut Mux, now: Time) -> bool {
        if self.finished || self.written < self.plan.send {
            return false;
        }
        let from = *self.finish_from.get_or_insert(match self.plan.finish {
            Finish::Later(wait) => now + wait,
            Finish::WhenWritten | Finish::AfterPeer | Finish::Never => now,
        });
        let may = match self.plan.finish {
            Finish::AfterPeer => self.eof,
            Finish::Never => false,
            Finish::WhenWritten | Finish::Later(_) => from <= now,
        };
        if may {
            self.finished = true;
            let call = if self.plan.leave == Leave::Close { Mux::close } else { Mux::finish };
            call(mux, now, self.id).expect("the id lives until CLOSED");
        }
        may
    }
}
