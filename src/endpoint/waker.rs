//! Ending waits from anywhere, a signal handler included.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::udp::{Poller, UdpSocket, WakeFd};

/// The descriptors of one endpoint that somebody may sleep on.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) poller: Poller,
    /// Readable while the application has something to do. Nobody of ours sleeps on it.
    pub(super) news: WakeFd,
    /// Without an I/O thread programs watch the poller's descriptor, which tells of `news` too.
    pub(super) has_thread: bool,
    /// Of the endpoint's own handle: a receiver's, or that of the one connection.
    pub(super) own: Arc<WakeFlag>,
    /// A waker has made `news` readable, without the lock and perhaps after its wake was taken.
    was_raised: AtomicBool,
}

impl Signals {
    pub(super) fn new(socket: Arc<UdpSocket>, io_thread: bool) -> io::Result<Self> {
        let (poller, news) = (Poller::new(socket)?, WakeFd::new()?);
        if !io_thread {
            poller.tell_of(&news)?;
        }
        Ok(Self {
            poller,
            news,
            has_thread: io_thread,
            own: Arc::default(),
            was_raised: AtomicBool::new(false),
        })
    }

    /// For another socket of the same handle, which therefore has the same wakes.
    pub(super) fn beside(&self, socket: Arc<UdpSocket>) -> io::Result<Self> {
        Ok(Self { own: Arc::clone(&self.own), ..Self::new(socket, self.has_thread)? })
    }

    /// A waker's last step. Who takes its wake before that finds nothing to clear, but the next who looks does.
    pub(super) fn raise_news(&self) {
        self.news.signal();
        self.was_raised.store(true, Ordering::Release);
    }

    /// Whether a waker has made `news` readable since this was last asked.
    pub(super) fn take_raised(&self) -> bool {
        self.was_raised.load(Ordering::Relaxed) && self.was_raised.swap(false, Ordering::AcqRel)
    }
}

/// Remembers a wake until a call has returned it.
#[derive(Debug, Default)]
pub(super) struct WakeFlag(AtomicBool);

impl WakeFlag {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> bool {
        self.is_set() && self.0.swap(false, Ordering::AcqRel)
    }
}

/// Ends the waits on one connection, or on a receiver, with [`CallError::Interrupted`](super::CallError).
#[derive(Clone, Debug)]
pub struct Waker {
    pub(super) flag: Arc<WakeFlag>,
    pub(super) signals: Arc<Signals>,
    /// Other sockets of the same handle: who waits may sleep on one of them.
    pub(super) beside: Arc<[Arc<Signals>]>,
}

impl Waker {
    /// Ends the current or the next wait. Remembered until a call has returned it. Takes no lock, allocates
    /// and frees nothing, is async-signal-safe.
    pub fn wake(&self) {
        // Before the signals: who is woken by them looks for it.
        self.flag.0.store(true, Ordering::Release);
        self.signals.poller.wake();
        self.beside.iter().for_each(|signals| signals.poller.wake());
        // The descriptor is for whoever polls the endpoint: no poll of it would take another's wake.
        if Arc::ptr_eq(&self.flag, &self.signals.own) {
            self.signals.raise_news();
        }
    }
}
