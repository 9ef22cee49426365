//! Why a call on an endpoint failed.

use std::fmt;
use std::io;

use super::mux::{ConnectError, OpError};
use crate::connection::Error;

/// Why a call on an [`Endpoint`](super::Endpoint) failed. The first five leave everything as it was.
#[derive(Debug)]
pub enum CallError {
    /// It would have to wait and was told not to.
    WouldBlock,
    /// The limit passed.
    TimedOut,
    /// A [`Waker`](super::Waker) ended the wait.
    Interrupted,
    /// A bad argument, and which.
    Invalid(String),
    /// Out of memory.
    NoMemory,
    /// A system call failed: its error, and what was attempted.
    Os(io::Error, String),
    /// A host name or address could not be resolved: why, and errno if there is one.
    Address(String, Option<i32>),
    /// Not in a state that allows the call.
    State(&'static str),
    /// A bug in this crate: a thread panicked in the middle of a change, and the endpoint is of no more use.
    Dead,
    /// Sending after `finish`.
    Finished,
    /// No such connection (any more).
    NotFound,
    /// Not on this platform.
    NotSupported(String),
    /// The connection is over.
    Ended(Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("the call would have to wait"),
            Self::TimedOut => f.write_str("the time limit passed"),
            Self::Interrupted => f.write_str("the wait was interrupted"),
            Self::NoMemory => f.write_str("out of memory"),
            Self::Os(error, what) => write!(f, "{what}: {error}"),
            Self::Invalid(why) | Self::Address(why, _) | Self::NotSupported(why) => f.write_str(why),
            Self::State(why) => f.write_str(why),
            Self::Dead => f.write_str("a bug in rtcp: the endpoint is dead after a panic"),
            Self::Finished => f.write_str("sending after finish"),
            Self::NotFound => f.write_str("no such connection"),
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl CallError {
    /// The endpoint's socket is of no more use.
    pub(super) fn cut_off() -> Self {
        Self::Os(io::ErrorKind::BrokenPipe.into(), Error::CutOff.to_string())
    }
}

impl std::error::Error for CallError {}

impl From<OpError> for CallError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::NotFound => Self::NotFound,
            OpError::WouldBlock => Self::WouldBlock,
            OpError::Finished => Self::Finished,
            OpError::Ended(error) => Self::Ended(error),
        }
    }
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::BadAddress => Self::Invalid("the address names no single host and port".to_owned()),
            ConnectError::Closing => Self::State("an earlier connection with that peer has not quite ended"),
            ConnectError::NoPort => Self::State("all inner ports are taken by connections with that peer"),
            ConnectError::CutOff => Self::cut_off(),
        }
    }
}
