//! How a stream ends, and why a call on it was refused.

use std::fmt;

/// Why a connection ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The peer answered the SYN with RST, or its host said that nobody listens.
    Refused,
    /// The peer sent an acceptable RST.
    Reset,
    /// The handshake did not complete within `connect_timeout`.
    ConnectTimeout,
    /// Nothing we sent was acknowledged for `user_timeout` (RFC 9293 R2).
    UserTimeout,
    /// The peer answered none of the keep-alive probes.
    KeepAliveTimeout,
    /// No segment from the peer for `idle_timeout`.
    IdleTimeout,
    /// The peer does not take part in what we require (`IntegrityMode::Require`).
    IntegrityRefused,
    /// This side called `abort`.
    Aborted,
    /// The socket that carries it is of no more use.
    CutOff,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => {
                "the peer refused the connection: nobody listens there, or it takes no more clients"
            }
            Self::Reset => "the peer reset the connection",
            Self::ConnectTimeout => "the peer did not answer within the connect limit",
            Self::UserTimeout => "the peer acknowledged nothing within the user timeout",
            Self::KeepAliveTimeout => "the peer answered no keep-alive probe",
            Self::IdleTimeout => "nothing came from the peer within the idle limit",
            Self::IntegrityRefused => "the peer does not offer CRC-32C, which this side requires",
            Self::Aborted => "this side aborted the connection",
            Self::CutOff => "the program has shut down the UDP socket that it gave",
        })
    }
}

impl std::error::Error for Error {}

/// Why `Connection::write` took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The send buffer is full (or the handshake is not done and the buffer is full).
    WouldBlock,
    /// `finish` or `close` was called.
    Finished,
    /// The connection is over.
    Ended(Error),
}

/// Why `Connection::read` returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No bytes yet.
    WouldBlock,
    /// The connection failed and every byte that came before has been read.
    Ended(Error),
}
