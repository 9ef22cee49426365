//! What goes into a mux and comes out of it.

use std::net::{IpAddr, SocketAddr};

use crate::connection::{Config, Error, ReadError, WriteError};

/// What one endpoint is configured with, beside its connections.
#[derive(Clone, Debug)]
pub struct MuxConfig {
    /// For every connection that is accepted, and the default of those that are dialled.
    pub connection: Config,
    /// Most accepted connections at once; 0 accepts none.
    pub max_clients: usize,
    /// Replies of accepted connections go here instead of where their segments come from.
    pub ack_to: Option<SocketAddr>,
    /// Connections are told apart by inner ports alone: segments may come from any outer address.
    pub any_source: bool,
    /// Inner port of ours: 0 is the UDP port for what is dialled, and whatever the peer aims at otherwise.
    pub local_tcp_port: u16,
    /// Inner port of the peer's when dialling; 0 is its UDP port.
    pub remote_tcp_port: u16,
    /// The socket's port.
    pub udp_port: u16,
}

/// How to begin one connection.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Its configuration.
    pub config: Config,
    /// Comes back in its events.
    pub user_data: usize,
    /// Inner port of ours; 0: as [`MuxConfig::local_tcp_port`] says.
    pub local_tcp_port: u16,
    /// Inner port of the peer's; 0: as [`MuxConfig::remote_tcp_port`] says.
    pub remote_tcp_port: u16,
    /// ICMP errors do not end the attempt (hole punching).
    pub ignore_refused: bool,
    /// Other addresses of the peer, tried in turn while none has answered.
    pub alternatives: Vec<SocketAddr>,
}

/// Why [`Mux::connect`](super::Mux::connect) began nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Port 0, or no address of one host.
    BadAddress,
    /// An earlier connection between the same ports has not quite ended.
    Closing,
    /// Every inner port is taken by a connection with that peer.
    NoPort,
    /// There is no socket any more.
    CutOff,
}

/// Why a call on a connection did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpError {
    /// No such connection (any more).
    NotFound,
    /// No room, or no bytes, yet.
    WouldBlock,
    /// Writing after `finish`.
    Finished,
    /// It is over.
    Ended(Error),
}

impl From<WriteError> for OpError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::WouldBlock => Self::WouldBlock,
            WriteError::Finished => Self::Finished,
            WriteError::Ended(error) => Self::Ended(error),
        }
    }
}

impl From<ReadError> for OpError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::WouldBlock => Self::WouldBlock,
            ReadError::Ended(error) => Self::Ended(error),
        }
    }
}

/// One datagram, or a row of equal ones, to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Destination.
    pub to: SocketAddr,
    /// Source address, where the peer expects a certain one.
    pub from: Option<IpAddr>,
    /// Bytes that were appended to the buffer.
    pub size: usize,
    /// Size of each datagram but the last, if there are several.
    pub segment_size: Option<usize>,
    /// Mark as ECN-capable.
    pub ect: bool,
}
