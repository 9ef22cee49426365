//! Waiting for a socket, a deadline and a wake-up with one descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::CLOCK;
use super::{UdpSocket, WakeFd, sys};
use crate::time::Time;

/// What [`Poller::wait`] found. Nothing at all is possible: the timeout passed or a signal came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Datagrams wait to be received.
    pub readable: bool,
    /// The socket takes datagrams again; only reported under [`Interest::ReadWrite`].
    pub writable: bool,
    /// ICMP errors wait. Until [`UdpSocket::poll_error`] has answered `None` each wait returns at once.
    pub error: bool,
    /// The socket was shut down for receiving, by whoever has it too, and is ready for ever: stop watching it.
    pub shut_down: bool,
    /// The deadline of [`Poller::arm`] has come, or an earlier one that it left in place.
    pub timer: bool,
    /// Somebody woke us; stays until [`Poller::clear_wake`].
    pub wake: bool,
}

/// What of the socket makes the poller ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: another thread has the socket.
    Nothing,
    /// Datagrams and errors that have arrived.
    Read,
    /// That, and room to send: only after a send would have blocked, or each wait returns at once.
    ReadWrite,
}

impl Interest {
    const fn events(self) -> libc::c_short {
        match self {
            Self::Nothing => 0,
            Self::Read => libc::POLLIN | libc::POLLRDHUP,
            Self::ReadWrite => libc::POLLIN | libc::POLLRDHUP | libc::POLLOUT,
        }
    }
}

/// One UDP socket, one timer and one wake-up to wait for, with a descriptor that others can poll.
///
/// Level-triggered throughout. All methods may be called from any thread.
///
/// The socket is in an epoll set only for those who asked for the descriptor. To be in one costs a walk over the wait
/// queue, with its lock, for each datagram that arrives and for each that the interface has sent, whether anybody
/// sleeps or not; ppoll(2) costs a little more per sleep and nothing in between.
#[derive(Debug)]
pub struct Poller {
    /// For others; `wait` does without it.
    epoll: OwnedFd,
    timer: OwnedFd,
    wake: WakeFd,
    socket: Arc<UdpSocket>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the timer will fire; `Time::MAX` when it is not set.
    armed: Time,
    interest: Interest,
    /// Others poll the descriptor, so the socket is in the epoll set.
    is_shared: bool,
    /// Threads in `wait`, which look for what was of interest when they went there.
    waiting: u32,
}

const SOCKET: u64 = 0;
const TIMER: u64 = 1;
const WAKE: u64 = 2;
const OTHER: u64 = 3;

impl Poller {
    /// A poller that watches `socket` for arrivals ([`Interest::Read`]), with no deadline.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new(socket: Arc<UdpSocket>) -> io::Result<Self> {
        let (epoll, timer) = (sys::epoll()?, sys::timerfd(CLOCK)?);
        let wake = WakeFd::new()?;
        let state = State { armed: Time::MAX, interest: Interest::Read, is_shared: false, waiting: 0 };
        let state = Mutex::new(state);
        let poller = Self { epoll, timer, wake, socket, state };
        poller.control(libc::EPOLL_CTL_ADD, poller.timer.as_raw_fd(), libc::EPOLLIN, TIMER)?;
        poller.control(libc::EPOLL_CTL_ADD, poller.wake.fd(), libc::EPOLLIN, WAKE)?;
        Ok(poller)
    }

    /// Waits until something is ready, at most `timeout` (`None`: for ever), to the nanosecond.
    ///
    /// Returns early with nothing ready when a signal handler has run. After a `timer` the caller is to
    /// [`arm`](Self::arm) its next deadline: this one is used up.
    ///
    /// # Errors
    /// Only what the kernel says of broken arguments; none is expected.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let interest = {
            let mut state = self.state();
            state.waiting += 1;
            state.interest
        };
        let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let mut polled = [
            // A negative descriptor is passed over.
            entry(
                if interest == Interest::Nothing { -1 } else { self.socket.as_raw_fd() },
                interest.events(),
            ),
            entry(self.timer.as_raw_fd(), libc::POLLIN),
            entry(self.wake.fd(), libc::POLLIN),
        ];
        let result = ppoll(&mut polled, timeout);
        self.state().waiting -= 1;
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Ready::default()),
            result => result?,
        }
        let [socket, timer, wake] = polled.map(|entry| entry.revents);
        if timer != 0 {
            self.disarm_fired();
        }
        Ok(Ready {
            readable: socket & libc::POLLIN != 0,
            writable: socket & libc::POLLOUT != 0,
            error: socket & libc::POLLERR != 0,
            shut_down: socket & (libc::POLLHUP | libc::POLLRDHUP) != 0,
            timer: timer != 0,
            wake: wake != 0,
        })
    }

    /// Sleeps for `length` whatever arrives, then says what is ready; only a wake ends the sleep sooner.
    ///
    /// # Errors
    /// Only what the kernel says of broken arguments; none is expected.
    pub fn nap(&self, length: Duration) -> io::Result<Ready> {
        match ppoll(
            &mut [libc::pollfd { fd: self.wake.fd(), events: libc::POLLIN, revents: 0 }],
            Some(length),
        ) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => self.wait(Some(Duration::ZERO)),
        }
    }

    /// Makes the current or the next wait return. Async-signal-safe; takes no lock; never blocks.
    pub fn wake(&self) {
        self.wake.signal();
    }

    /// Undoes every [`wake`](Self::wake) so far. Look for what the wakers left behind after this, not before.
    pub fn clear_wake(&self) {
        self.wake.clear();
    }

    /// Sees to it that the poller is ready at `deadline` at the latest, by the clock of [`now`](super::now).
    ///
    /// A timer that would fire sooner stays: one early wake-up is cheaper than a system call for each
    /// deadline that moves away, as nearly all do. For the same reason `None` leaves it alone.
    ///
    /// # Errors
    /// Only what the kernel says of broken arguments; none is expected.
    pub fn arm(&self, deadline: Option<Time>) -> io::Result<()> {
        let mut state = self.state();
        let Some(deadline) = deadline.filter(|deadline| *deadline < state.armed) else { return Ok(()) };
        let nanos = deadline.as_nanos().max(1); // zero would mean "never"
        let value = libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
        };
        let once =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let timer = self.timer.as_raw_fd();
        // SAFETY: `once` is live; the old setting is not asked for.
        sys::check(unsafe {
            libc::timerfd_settime(timer, libc::TFD_TIMER_ABSTIME, &raw const once, ptr::null_mut())
        })?;
        state.armed = deadline;
        Ok(())
    }

    /// Changes what of the socket makes the poller ready; no system call when it is so already. Who waits with the old
    /// interest is woken.
    ///
    /// # Errors
    /// When the kernel is out of memory for the epoll set.
    pub fn watch_socket(&self, interest: Interest) -> io::Result<()> {
        let mut state = self.state();
        if state.interest == interest {
            return Ok(());
        }
        if state.is_shared {
            self.watch_in_epoll(state.interest, interest)?;
        }
        state.interest = interest;
        if state.waiting > 0 {
            self.wake.signal();
        }
        Ok(())
    }

    /// The descriptor that is readable (POLLIN) whenever [`wait`](Self::wait) would return at once.
    /// Only poll it: it stays this object's own.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        let mut state = self.state();
        if !state.is_shared {
            match self.watch_in_epoll(Interest::Nothing, state.interest) {
                Ok(()) => state.is_shared = true,
                Err(error) => log::warn!(
                    "the descriptor does not tell of datagrams: epoll_ctl: {error}; free kernel memory and ask for it again"
                ),
            }
        }
        self.epoll.as_raw_fd()
    }

    /// The descriptor is readable while `other` is, too; [`wait`](Self::wait) takes no notice of it.
    ///
    /// # Errors
    /// When the kernel is out of memory for the epoll set.
    pub fn tell_of(&self, other: &WakeFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, other.fd(), libc::EPOLLIN, OTHER)
    }

    fn watch_in_epoll(&self, old: Interest, new: Interest) -> io::Result<()> {
        let operation = match (old, new) {
            (Interest::Nothing, Interest::Nothing) => return Ok(()),
            (Interest::Nothing, _) => libc::EPOLL_CTL_ADD,
            // Not an empty mask: epoll reports errors even so.
            (_, Interest::Nothing) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        // The bits of poll and of epoll are the same.
        self.control(operation, self.socket.as_raw_fd(), new.events().into(), SOCKET)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` is live and the kernel copies it.
        sys::check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })
            .map(drop)
    }

    /// Takes the firing out of the timer, so that it is not reported again.
    fn disarm_fired(&self) {
        let mut state = self.state();
        let mut expirations = [0u8; 8];
        let timer = self.timer.as_raw_fd();
        // SAFETY: reads into 8 live bytes.
        let length = unsafe { libc::read(timer, expirations.as_mut_ptr().cast(), expirations.len()) };
        if length > 0 {
            state.armed = Time::MAX; // else another thread was faster, and may have armed it since
        }
    }

    /// No code that can panic runs under this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let _ = self.fd(); // from now on it tells
        self.epoll.as_fd()
    }
}

/// The kernel's own timespec, 64 bits wide on every machine.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanos: i64,
}

static HAS_EPOLL_PWAIT2: AtomicBool = AtomicBool::new(true);

/// `epoll_wait` with a timeout in nanoseconds: `epoll_pwait2` of Linux 5.11, else `ppoll` in front.
pub(super) fn epoll_wait(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    if HAS_EPOLL_PWAIT2.load(Ordering::Relaxed) {
        match epoll_pwait2(epoll, events, timeout) {
            // Absent, or barred by an old container's filter.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                HAS_EPOLL_PWAIT2.store(false, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    ppoll_then_epoll_wait(epoll, events, timeout)
}

fn epoll_pwait2(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let timeout = timeout.map(|timeout| KernelTimespec {
        seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        nanos: i64::from(timeout.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let no_mask = ptr::null::<libc::sigset_t>();
    let capacity = events.len();
    // SAFETY: the kernel writes at most `capacity` events; the timeout is null or lives above; no mask.
    let count = unsafe {
        libc::syscall(libc::SYS_epoll_pwait2, epoll, events.as_mut_ptr(), capacity, timeout, no_mask, 0usize)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn ppoll_then_epoll_wait(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    ppoll(&mut [libc::pollfd { fd: epoll, events: libc::POLLIN, revents: 0 }], timeout)?;
    let capacity = events.len() as libc::c_int;
    // SAFETY: the kernel writes at most `capacity` events.
    let count = sys::check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, 0) })?;
    Ok(count as usize)
}

/// `poll` with a timeout in nanoseconds.
fn ppoll(polled: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = polled.len() as libc::nfds_t;
    // SAFETY: `count` live entries; the timeout is null or lives above; no mask.
    sys::check(unsafe { libc::ppoll(polled.as_mut_ptr(), count, timeout, ptr::null()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::{ReceiveBatch, SocketOptions, Transmit, UdpIo, now};
    use std::thread;

    const SECOND: Duration = Duration::from_secs(1);
    /// What something certain may take where everything is slow.
    const PATIENCE: Duration = Duration::from_secs(30);
    const NOTHING: Ready =
        Ready { readable: false, writable: false, error: false, shut_down: false, timer: false, wake: false };

    fn poller() -> Poller {
        let local = "127.0.0.1:0".parse().unwrap();
        Poller::new(Arc::new(UdpSocket::bind(local, SocketOptions::default()).unwrap())).unwrap()
    }

    fn send_to(poller: &Poller, to: std::net::SocketAddr) {
        let datagram = Transmit { to, from: None, ecn: None, segment_size: None, bytes: b"x" };
        poller.socket.send(&mut [datagram]).unwrap();
    }

    /// What a program sees that waits for our descriptor with poll(2).
    fn is_readable(poller: &Poller, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: poller.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
    }

    /// A busy machine wakes threads late, but not each time.
    fn is_on_time_once(limit: Duration, mut lateness: impl FnMut() -> Duration) {
        let end = now() + PATIENCE;
        loop {
            let late = lateness();
            if late < limit {
                return;
            }
            assert!(now() < end, "late each time, the last one by {late:?}");
        }
    }

    #[test]
    fn a_timeout_is_kept_to_the_fraction_of_a_millisecond() {
        let poller = poller();
        for wait in [epoll_wait, ppoll_then_epoll_wait] {
            is_on_time_once(Duration::from_millis(50), || {
                let mut events = [libc::epoll_event { events: 0, u64: 0 }; 3];
                let (start, timeout) = (now(), Duration::from_micros(300));
                assert_eq!(wait(poller.fd(), &mut events, Some(timeout)).unwrap(), 0);
                let waited = now() - start;
                assert!(waited >= timeout, "{waited:?}");
                waited - timeout
            });
        }
    }

    #[test]
    fn the_timer_fires_on_time_and_once() {
        let poller = poller();
        is_on_time_once(Duration::from_millis(5), || {
            let deadline = now() + Duration::from_millis(20);
            poller.arm(Some(deadline)).unwrap();
            assert!(!is_readable(&poller, 0) || now() >= deadline, "too early");
            assert!(is_readable(&poller, PATIENCE.as_millis() as i32));
            let at = now();
            assert!(at >= deadline, "too early");
            assert_eq!(poller.wait(None).unwrap(), Ready { timer: true, ..NOTHING });
            assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), NOTHING);
            assert!(!is_readable(&poller, 0));
            at - deadline
        });
    }

    #[test]
    fn only_an_earlier_deadline_moves_the_timer() {
        let poller = poller();
        let start = now();
        poller.arm(Some(start + SECOND * 60)).unwrap();
        poller.arm(Some(start + Duration::from_millis(10))).unwrap();
        poller.arm(Some(start + SECOND * 30)).unwrap();
        poller.arm(None).unwrap();
        assert!(poller.wait(Some(SECOND * 20)).unwrap().timer, "ten milliseconds, and not thirty seconds");
        poller.arm(Some(Time::ZERO)).unwrap();
        assert!(poller.wait(Some(PATIENCE)).unwrap().timer, "a deadline that has passed fires at once");
    }

    #[test]
    fn a_wake_up_from_another_thread_ends_the_wait_and_stays_until_cleared() {
        let poller = poller();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| poller.wait(Some(PATIENCE)).unwrap());
            poller.wake();
            assert_eq!(waiter.join().unwrap(), Ready { wake: true, ..NOTHING });
        });
        assert!(is_readable(&poller, 0));
        poller.clear_wake();
        assert!(!is_readable(&poller, 0));
    }

    #[test]
    fn a_datagram_makes_the_nested_descriptor_readable_unless_the_socket_is_another_s() {
        let poller = poller();
        send_to(&poller, poller.socket.local_addr());
        assert!(is_readable(&poller, PATIENCE.as_millis() as i32));
        assert_eq!(poller.wait(None).unwrap(), Ready { readable: true, ..NOTHING });

        poller.watch_socket(Interest::Nothing).unwrap();
        assert!(!is_readable(&poller, 0));
        poller.watch_socket(Interest::ReadWrite).unwrap();
        assert_eq!(poller.wait(None).unwrap(), Ready { readable: true, writable: true, ..NOTHING });

        poller.watch_socket(Interest::Read).unwrap();
        poller.socket.receive(&mut ReceiveBatch::new()).unwrap();
        assert!(!is_readable(&poller, 0));
    }

    #[test]
    fn a_nap_is_not_ended_by_what_arrives_but_by_a_wake_and_misses_neither() {
        let poller = poller();
        send_to(&poller, poller.socket.local_addr());
        let (start, length) = (now(), Duration::from_millis(5));
        assert_eq!(poller.nap(length).unwrap(), Ready { readable: true, ..NOTHING });
        assert!(now() - start >= length);
        poller.wake();
        let start = now();
        assert_eq!(poller.nap(PATIENCE).unwrap(), Ready { readable: true, wake: true, ..NOTHING });
        assert!(now() - start < PATIENCE);
    }

    #[test]
    fn a_new_interest_reaches_who_waits_with_the_old_one() {
        let poller = poller();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| poller.wait(Some(PATIENCE)).unwrap());
            while poller.state().waiting == 0 {
                thread::yield_now();
            }
            poller.watch_socket(Interest::ReadWrite).unwrap();
            assert!(waiter.join().unwrap().wake);
        });
    }

    #[test]
    fn an_icmp_error_is_ready_until_it_is_read() {
        let poller = poller();
        let closed = self::poller().socket.local_addr();
        send_to(&poller, closed);
        assert_eq!(poller.wait(Some(PATIENCE)).unwrap(), Ready { error: true, ..NOTHING });
        assert_eq!(poller.socket.poll_error().unwrap().unwrap().to, closed);
        assert_eq!(poller.socket.poll_error().unwrap(), None);
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), NOTHING);
    }
}
