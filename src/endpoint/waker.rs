//! Ending waits from anywhere, a signal handler included.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::udp::{Poller, UdpSocket, WakeFd};

/// The descriptors of one endpoint that somebody may sleep on.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) poller: Poller,
    /// With an I/O thread: readable while the application has something to do.
    pub(super) news: Option<WakeFd>,
    /// Of the endpoint's own handle: a receiver's, or that of the one connection.
    pub(super) own: Arc<WakeFlag>,
    /// Wakes that no call has returned yet, of all connections.
    pending: Arc<AtomicUsize>,
}

impl Signals {
    pub(super) fn new(socket: Arc<UdpSocket>, io_thread: bool) -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new(socket)?,
            news: io_thread.then(WakeFd::new).transpose()?,
            own: Arc::default(),
            pending: Arc::default(),
        })
    }

    /// For another socket of the same handle, which therefore has the same wakes.
    pub(super) fn beside(&self, socket: Arc<UdpSocket>) -> io::Result<Self> {
        let (own, pending) = (Arc::clone(&self.own), Arc::clone(&self.pending));
        Ok(Self { own, pending, ..Self::new(socket, self.news.is_some())? })
    }

    pub(super) fn any_wake(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }
}

/// Remembers a wake until a call has returned it.
#[derive(Debug, Default)]
pub(super) struct WakeFlag(AtomicBool);

impl WakeFlag {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn take(&self, signals: &Signals) -> bool {
        let taken = self.0.swap(false, Ordering::AcqRel);
        if taken {
            signals.pending.fetch_sub(1, Ordering::AcqRel);
        }
        taken
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
        if !self.flag.0.swap(true, Ordering::AcqRel) {
            self.signals.pending.fetch_add(1, Ordering::AcqRel);
        }
        self.signals.poller.wake();
        self.beside.iter().for_each(|signals| signals.poller.wake());
        // The descriptor is for whoever polls the endpoint: no poll of it would take another's wake.
        if let Some(news) = self.signals.news.as_ref().filter(|_| Arc::ptr_eq(&self.flag, &self.signals.own))
        {
            news.signal();
        }
    }
}
