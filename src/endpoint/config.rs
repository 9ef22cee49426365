//! What an endpoint is built with.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::mux::MuxConfig;
use crate::connection;
use crate::udp::{SocketOptions, UDP_BUFFER_DEFAULT};

/// Everything that can be chosen for an endpoint and its connections.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// For each connection.
    pub connection: connection::Config,
    /// Most accepted connections at once; 0 accepts none.
    pub max_clients: usize,
    /// Replies of accepted connections go here (one-way proxies).
    pub ack_to: Option<SocketAddr>,
    /// Segments may come from any outer address (one-way proxies).
    pub any_source: bool,
    /// Inner port of ours; 0: the UDP port, or whatever the peer aims at.
    pub local_tcp_port: u16,
    /// Inner port of the peer's; 0: its UDP port.
    pub remote_tcp_port: u16,
    /// A thread drives when nobody waits. Without, nothing moves but inside calls that wait or poll.
    pub io_thread: bool,
    /// Sockets and threads that a [`Shards`](super::Shards) divides its connections among: 1 to 64.
    pub shards: usize,
    /// Bytes to ask for each of the socket's buffers; 0 leaves the system's.
    pub udp_buffer: usize,
    /// Segmentation offload, where the kernel has it.
    pub offload: bool,
    /// Local address, `ip` or `ip:port`.
    pub bind: Option<String>,
    /// A bound UDP socket of the caller's to use instead; it is duplicated.
    pub socket: Option<RawFd>,
    /// File for a trace of every connection, `%p` standing for the process id. `None`: what the environment
    /// variable `RTCP_TRACE` names, if it is set; empty: no trace at all.
    pub trace: Option<String>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            connection: connection::Config::default(),
            max_clients: 100_000,
            ack_to: None,
            any_source: false,
            local_tcp_port: 0,
            remote_tcp_port: 0,
            io_thread: true,
            shards: 1,
            udp_buffer: UDP_BUFFER_DEFAULT,
            offload: true,
            bind: None,
            socket: None,
            trace: None,
        }
    }
}

impl EndpointConfig {
    pub(super) fn socket_options(&self) -> SocketOptions {
        SocketOptions { udp_buffer: self.udp_buffer, offload: self.offload }
    }

    pub(super) fn mux(&self, udp_port: u16, max_clients: usize) -> MuxConfig {
        MuxConfig {
            connection: self.connection.clone(),
            max_clients,
            ack_to: self.ack_to,
            any_source: self.any_source,
            local_tcp_port: self.local_tcp_port,
            remote_tcp_port: self.remote_tcp_port,
            udp_port,
        }
    }
}
