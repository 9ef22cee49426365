//! The only room that makes system calls: sockets, waiting, clocks, names and chance.
//!
//! Everything above takes time, datagrams and randomness as arguments; this is where they come from.
//!
//! * [`UdpSocket`] moves batches of datagrams: one [`UdpIo::send`] may leave as 64 segments of one message
//!   (GSO) and as 64 messages of one system call, one [`UdpIo::receive`] may bring 32 such buffers (GRO).
//! * [`Poller`] waits for socket, timer and wake-up at once and is itself one descriptor to wait for.
//! * [`Steering`] shares one address among several sockets.
//! * [`WaitSet`] waits for many descriptors and [`Termination`] for Ctrl-C: what the `udpl` program needs.
//! * [`LineFile`] is where a trace is written to.
//! * [`now`], [`resolve()`], [`seed`], [`fork_generation`], [`spawn`], [`was_preempted`] and
//!   [`give_memory_back`] are one function each.

mod clock;
mod datagram;
mod fork;
mod icmp;
mod io;
mod line_file;
mod memory;
mod mmsg;
mod options;
mod poller;
mod random;
mod resolve;
mod signal;
mod socket;
mod steering;
mod sys;
mod thread;
mod wait_set;
mod wake;

pub use clock::now;
pub use datagram::{Ecn, ReceiveBatch, Received, Transmit};
pub use fork::fork_generation;
pub use icmp::{IcmpError, IcmpKind};
pub use io::{Backend, SendError, UdpIo};
pub use line_file::{LineFile, trace_path};
pub use memory::give_memory_back;
pub use options::{SocketOptions, UDP_BUFFER_DEFAULT};
pub use poller::{Interest, Poller, Ready};
pub use random::seed;
pub use resolve::resolve;
pub use signal::Termination;
pub use socket::UdpSocket;
pub use steering::Steering;
pub use thread::{spawn, was_preempted};
pub use wait_set::WaitSet;
pub use wake::WakeFd;
