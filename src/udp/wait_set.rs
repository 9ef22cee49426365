//! Waiting for any of many descriptors, to the nanosecond.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::poller::epoll_wait;
use super::sys::{self, check};

/// How many descriptors one wait reports; those left over are reported by the next.
const BATCH: usize = 64;

/// An epoll set, level-triggered. A descriptor leaves it by being closed.
#[derive(Debug)]
pub struct WaitSet(OwnedFd);

impl WaitSet {
    /// An empty set.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        sys::epoll().map(Self)
    }

    /// Reports `token` from now on whenever `descriptor` is readable.
    ///
    /// # Errors
    /// When `descriptor` is in the set already, or the kernel is out of memory.
    pub fn add(&self, descriptor: &impl AsFd, token: u64) -> io::Result<()> {
        let fd = descriptor.as_fd().as_raw_fd();
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` is live and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
    }

    /// Waits until a descriptor is readable, at most `timeout` (`None`: for ever), and replaces `ready` by
    /// the tokens of those that are. None at all is possible: time is up, or a signal handler has run.
    ///
    /// # Errors
    /// Only what the kernel says of broken arguments; none is expected.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let count = match epoll_wait(self.fd(), &mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        ready.extend(events[..count].iter().map(|event| event.u64));
        Ok(())
    }

    /// The descriptor that is readable (POLLIN) whenever [`wait`](Self::wait) would report something. Only poll
    /// it: it stays this object's own.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Instant;

    #[test]
    fn the_readable_of_many_is_reported_until_it_is_read_or_closed() {
        let sockets: Vec<_> = (0..5).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let set = WaitSet::new().unwrap();
        for (token, socket) in sockets.iter().enumerate() {
            set.add(socket, token as u64).unwrap();
        }
        sockets[0].send_to(b"x", sockets[3].local_addr().unwrap()).unwrap();
        let mut ready = Vec::new();
        for _ in 0..2 {
            set.wait(None, &mut ready).unwrap();
            assert_eq!(ready, [3]);
        }
        drop(sockets);
        set.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
    }

    #[test]
    fn a_wait_of_less_than_a_millisecond_is_not_rounded_down() {
        let set = WaitSet::new().unwrap();
        let start = Instant::now();
        set.wait(Some(Duration::from_micros(700)), &mut Vec::new()).unwrap();
        assert!(start.elapsed() >= Duration::from_micros(700));
    }
}
