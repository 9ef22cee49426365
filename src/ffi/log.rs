//! Log records on their way to C.
//!
//! The library logs while it holds locks; a callback must run without. So a record is put on a queue, and
//! delivered by [`deliver`] at the end of every call from C, or by a thread that is started with the first
//! callback and sleeps otherwise: a call may wait for hours, and the I/O thread makes no calls.
#![allow(unsafe_code)] // exported symbols; the callback is C's

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::error::Failure;
use super::guard::guard;
use super::types::rtcp_error::*;
use super::types::{rtcp_log_fn, rtcp_log_level};
use crate::udp;

/// Records that wait for delivery; beyond it they are counted and dropped, so that a slow callback
/// cannot make the transport wait or the queue grow.
const QUEUE_MAX: usize = 8192;

struct Entry {
    level: Level,
    target: String,
    message: String,
}

struct Callback {
    function: unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char),
    user: *mut c_void,
    level: LevelFilter,
}

// SAFETY: rtcp_log_set_callback() demands that function and user may be used by any thread at any time.
unsafe impl Send for Callback {}
// SAFETY: as above, by several threads at the same time.
unsafe impl Sync for Callback {}

#[derive(Default)]
struct Sinks {
    callback: Option<Arc<Callback>>,
    #[cfg(feature = "env-logger")]
    stderr: Option<Arc<env_logger::Logger>>,
}

impl Sinks {
    fn level(&self) -> LevelFilter {
        let callback = self.callback.as_ref().map_or(LevelFilter::Off, |callback| callback.level);
        #[cfg(feature = "env-logger")]
        let callback = callback.max(self.stderr.as_ref().map_or(LevelFilter::Off, |logger| logger.filter()));
        callback
    }
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    lost: usize,
}

/// All there is to logging. Never freed; a fork leaves the parent's behind (its locks may be held by
/// threads that the child does not have) and the child begins anew.
struct State {
    fork: u32,
    sinks: Mutex<Sinks>,
    queue: Mutex<Queue>,
    filled: Condvar,
    waiting: AtomicUsize,
}

static STATE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread is inside a log callback.
pub(super) fn in_callback() -> bool {
    IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
}

/// Hands the records made so far to their sinks. To be called with no lock held.
pub(super) fn deliver() {
    if let Some(state) = State::current() {
        state.deliver_waiting();
    }
}

/// Panics do not poison what these locks protect: each change is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn current() -> Option<&'static Self> {
        // SAFETY: null, or from Box::leak in `begin`, and never freed.
        let state = unsafe { STATE.load(Ordering::Acquire).as_ref() }?;
        (state.fork == udp::fork_generation()).then_some(state)
    }

    /// The state of this process, made and given its thread if there is none.
    fn begin() -> Result<&'static Self, Failure> {
        if !is_own_logger() {
            return Err(Failure::new(
                RTCP_ESTATE,
                "this Rust program has a logger of its own, which gets the records",
            ));
        }
        if let Some(state) = Self::current() {
            return Ok(state);
        }
        let old = STATE.load(Ordering::Acquire);
        let new: &'static Self = Box::leak(Box::new(Self {
            fork: udp::fork_generation(),
            sinks: Mutex::default(),
            queue: Mutex::default(),
            filled: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }));
        let won =
            STATE.compare_exchange(old, ptr::from_ref(new).cast_mut(), Ordering::AcqRel, Ordering::Acquire);
        if won.is_ok() {
            // Without the thread records still arrive, at the end of each call: better than no log.
            let _ = udp::spawn("rtcp-log", move || new.deliver_for_ever());
        }
        Self::current().ok_or_else(|| Failure::new(RTCP_ESTATE, "the process forked during the call"))
    }

    fn put(&self, record: &Record<'_>) {
        let entry = Entry {
            level: record.level(),
            target: record.target().to_owned(),
            message: record.args().to_string(),
        };
        let mut queue = lock(&self.queue);
        if queue.entries.len() >= QUEUE_MAX {
            queue.lost += 1;
            return;
        }
        queue.entries.push_back(entry);
        self.waiting.store(queue.entries.len(), Ordering::Relaxed);
        drop(queue);
        self.filled.notify_one();
    }

    /// What waits now, and no more: while other threads log faster than the callback takes it, a call would never end.
    fn deliver_waiting(&self) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let _ = (0..waiting).all(|_| self.deliver_next());
    }

    /// False: nothing was waiting.
    fn deliver_next(&self) -> bool {
        let (entry, lost) = {
            let mut queue = lock(&self.queue);
            let entry = queue.entries.pop_front();
            self.waiting.store(queue.entries.len(), Ordering::Relaxed);
            (entry, std::mem::take(&mut queue.lost))
        };
        if lost > 0 {
            let message = format!("{lost} log records were lost: the callback is slower than the library");
            self.hand_out(&Entry { level: Level::Warn, target: "rtcp::log".to_owned(), message });
        }
        entry.as_ref().map(|entry| self.hand_out(entry)).is_some()
    }

    fn hand_out(&self, entry: &Entry) {
        let sinks = lock(&self.sinks);
        let callback = sinks.callback.clone();
        #[cfg(feature = "env-logger")]
        let stderr = sinks.stderr.clone();
        drop(sinks);
        if let Some(callback) = callback {
            callback.call(entry);
        }
        #[cfg(feature = "env-logger")]
        if let Some(stderr) = stderr {
            stderr.log(
                &Record::builder()
                    .level(entry.level)
                    .target(&entry.target)
                    .args(format_args!("{}", entry.message))
                    .build(),
            );
        }
    }

    fn deliver_for_ever(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while queue.entries.is_empty() {
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            drop(queue);
            while self.deliver_next() {}
        }
    }

    /// Puts in a callback and waits until no thread is inside the one before.
    fn replace_callback(&self, new: Option<Callback>) {
        deliver(); // what was logged before belongs to the callback of that time
        let mut sinks = lock(&self.sinks);
        let old = std::mem::replace(&mut sinks.callback, new.map(Arc::new));
        log::set_max_level(sinks.level());
        drop(sinks);
        while old.as_ref().is_some_and(|old| Arc::strong_count(old) > 1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Callback {
    fn call(&self, entry: &Entry) {
        if entry.level > self.level {
            return;
        }
        let text = |text: &str| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        let (target, message) = (text(&entry.target), text(&entry.message));
        let _ = IN_CALLBACK.try_with(|inside| inside.set(true));
        // SAFETY: rtcp_log_set_callback() demands a function that may be called so until it is replaced,
        // and replace_callback() waits for this call; both texts outlive it.
        unsafe { (self.function)(self.user, entry.level as c_int, target.as_ptr(), message.as_ptr()) };
        let _ = IN_CALLBACK.try_with(|inside| inside.set(false));
    }
}

/// What the `log` macros of this copy of the library reach.
struct Forwarder;

static FORWARDER: Forwarder = Forwarder;

impl Log for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !in_callback() && State::current().is_some() && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(state) = State::current().filter(|_| self.enabled(record.metadata())) {
            state.put(record);
        }
    }

    fn flush(&self) {}
}

/// The forwarder is the logger: put in when first asked for, and only then, so that a Rust program that
/// uses this crate keeps its own.
fn is_own_logger() -> bool {
    static OURS: OnceLock<bool> = OnceLock::new();
    *OURS.get_or_init(|| log::set_logger(&FORWARDER).is_ok())
}

fn filter_of(level: c_int) -> Result<LevelFilter, Failure> {
    const FILTERS: [(rtcp_log_level, LevelFilter); 6] = [
        (rtcp_log_level::RTCP_LOG_OFF, LevelFilter::Off),
        (rtcp_log_level::RTCP_LOG_ERROR, LevelFilter::Error),
        (rtcp_log_level::RTCP_LOG_WARN, LevelFilter::Warn),
        (rtcp_log_level::RTCP_LOG_INFO, LevelFilter::Info),
        (rtcp_log_level::RTCP_LOG_DEBUG, LevelFilter::Debug),
        (rtcp_log_level::RTCP_LOG_TRACE, LevelFilter::Trace),
    ];
    let found = FILTERS.into_iter().find(|(known, _)| *known as c_int == level);
    found.map(|(_, filter)| filter).ok_or_else(|| {
        Failure::invalid(format!("max_level is {level}, which is none of enum rtcp_log_level"))
    })
}

/// Sends log records to `cb` (NULL: none), up to `max_level`, one of enum rtcp_log_level. `cb` may run on any thread, at the
/// same time on several, with no rtcp lock held; it must not call rtcp functions other than rtcp_strerror() (they answer
/// RTCP_ESTATE there). Returns only after no thread is still inside the old callback. After a fork the child has no callback
/// until it sets one.
///
/// Errors: RTCP_EINVAL for an unknown level; RTCP_ESTATE from within a callback, or in a Rust program that has a logger of its
/// own.
/// Thread-safety: any thread.
/// Blocks: until the old callback has returned on every thread.
///
/// # Safety
/// `cb` may be called with `user` by any thread until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_log_set_callback(
    cb: rtcp_log_fn,
    user: *mut c_void,
    max_level: c_int,
) -> c_int {
    guard("rtcp_log_set_callback", || {
        let level = filter_of(max_level)?;
        State::begin()?.replace_callback(cb.map(|function| Callback { function, user, level }));
        Ok(RTCP_OK as c_int)
    })
}

/// Logs to stderr through env_logger as the RTCP_LOG environment variable says ("info", "rtcp=debug"; errors only if it is
/// not set). A second call changes nothing.
///
/// Errors: RTCP_ENOTSUP without the env-logger feature; RTCP_ESTATE from within a log callback, or in a Rust program that has
/// a logger of its own.
/// Thread-safety: any thread, but no other may change the environment at the same time.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_log_init_env() -> c_int {
    guard("rtcp_log_init_env", || {
        log_to_stderr()?;
        Ok(RTCP_OK as c_int)
    })
}

#[cfg(feature = "env-logger")]
fn log_to_stderr() -> Result<(), Failure> {
    let mut sinks = lock(&State::begin()?.sinks);
    if sinks.stderr.is_none() {
        let logger = env_logger::Builder::from_env(env_logger::Env::new().filter("RTCP_LOG")).build();
        sinks.stderr = Some(Arc::new(logger));
        log::set_max_level(sinks.level());
    }
    Ok(())
}

#[cfg(not(feature = "env-logger"))]
fn log_to_stderr() -> Result<(), Failure> {
    Err(Failure::new(RTCP_ENOTSUP, "this library was built without its env-logger feature"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    unsafe extern "C" fn into_channel(user: *mut c_void, _: c_int, _: *const c_char, message: *const c_char) {
        // SAFETY: the tests pass a Sender that outlives the callback.
        let sender = unsafe { &*user.cast::<mpsc::Sender<(String, c_int)>>() };
        // SAFETY: the library passes a C string.
        let message = unsafe { std::ffi::CStr::from_ptr(message) }.to_string_lossy().into_owned();
        let answer = super::super::config::rtcp_config_new();
        let _ = sender.send((message, c_int::from(answer.is_null())));
    }

    #[test]
    fn records_reach_the_callback_from_calls_and_from_other_threads_until_it_is_taken_out() {
        let (sender, receiver) = mpsc::channel::<(String, c_int)>();
        let user = (&raw const sender).cast_mut().cast();
        // SAFETY: the callback is taken out below, before `sender` dies.
        assert_eq!(unsafe { rtcp_log_set_callback(Some(into_channel), user, 4) }, 0);
        guard::<c_int>("rtcp_marked", || Err(Failure::invalid("from a call")));
        std::thread::spawn(|| log::info!("from a thread that makes no calls")).join().unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let (message, refused) = receiver.recv_timeout(Duration::from_secs(30)).expect("a record");
            assert_eq!(refused, 1, "a call from within the callback is refused");
            if message.contains("from a") {
                seen.push(message);
            }
        }
        seen.sort();
        assert_eq!(seen[0], "from a thread that makes no calls");
        assert_eq!(seen[1], "rtcp_marked: RTCP_EINVAL: from a call");
        // SAFETY: no callback.
        assert_eq!(unsafe { rtcp_log_set_callback(None, ptr::null_mut(), 4) }, 0);
        while receiver.try_recv().is_ok() {}
        log::info!("nobody listens");
        deliver();
        assert!(receiver.try_recv().is_err());
    }

    /// Stands for another thread that logs whenever the callback has taken a record.
    unsafe extern "C" fn logs_more(user: *mut c_void, _: c_int, _: *const c_char, _: *const c_char) {
        // SAFETY: the test passes a State and a count that outlive the callback.
        let (state, calls) = unsafe { &*user.cast::<(State, AtomicUsize)>() };
        assert!(calls.fetch_add(1, Ordering::Relaxed) < 1000, "the call does not end");
        state.put(&Record::builder().level(Level::Info).build());
    }

    #[test]
    fn a_call_ends_though_others_log_as_fast_as_the_callback_takes_it() {
        let state = State {
            fork: udp::fork_generation(),
            sinks: Mutex::default(),
            queue: Mutex::default(),
            filled: Condvar::new(),
            waiting: AtomicUsize::new(0),
        };
        let both = (state, AtomicUsize::new(0));
        let user = (&raw const both).cast_mut().cast();
        let (state, calls) = &both;
        lock(&state.sinks).callback =
            Some(Arc::new(Callback { function: logs_more, user, level: LevelFilter::Info }));
        for _ in 0..3 {
            state.put(&Record::builder().level(Level::Info).build());
        }
        state.deliver_waiting();
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        assert_eq!(
            state.waiting.load(Ordering::Relaxed),
            3,
            "those of the others, for their calls or the thread"
        );
    }

    #[test]
    fn an_unknown_level_is_refused() {
        // SAFETY: no callback.
        assert_eq!(unsafe { rtcp_log_set_callback(None, ptr::null_mut(), 6) }, RTCP_EINVAL as c_int);
    }
}
