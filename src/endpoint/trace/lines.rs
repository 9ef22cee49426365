//! Lines on their way to the file. A thread of its own writes them: a disk that stands still stalls no connection.

use std::io;
use std::mem;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::udp;

/// Bytes that may wait: some six seconds of a busy connection.
const WAITING_MAX: usize = 4 << 20;
/// So many are worth a system call.
const WORTH_WRITING: usize = 1 << 16;

/// What is to be written, between those who make it and the one who writes.
pub(super) struct Lines {
    state: Mutex<State>,
    /// Something in `state` that somebody waits for has changed.
    changed: Condvar,
    /// The process that has the thread: a fork does not.
    owner: u32,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    text: String,
    /// Lines that found no room since the last were written.
    dropped: usize,
    /// What there is, is to be written now.
    is_wanted: bool,
    is_writing: bool,
    /// Nobody makes lines any more, or nobody can write them.
    is_over: bool,
}

impl Lines {
    /// Starts the thread. `name`: of the file, for messages. `write` takes whole lines, and asks whether it may wait for
    /// somebody to take them: while more may come. After an error it gets none, nor does anybody gather any.
    pub(super) fn begin(
        name: String,
        write: impl FnMut(&str, &dyn Fn() -> bool) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), owner: process::id() });
        let writer = Arc::clone(&lines);
        // Detached: it ends by itself when the trace does.
        drop(udp::spawn("rtcp-trace", move || writer.run(&name, write))?);
        Ok(lines)
    }

    /// Adds `count` lines, or drops them if too many wait. `now`: they are not to wait for more of them.
    /// False: they are of no use any more.
    pub(super) fn push(&self, text: &str, count: usize, now: bool) -> bool {
        let mut state = self.lock();
        if state.is_over {
            return false;
        }
        if state.text.len() + text.len() <= WAITING_MAX {
            state.text.push_str(text);
        } else {
            state.dropped += count;
        }
        if (now || state.text.len() >= WORTH_WRITING) && !state.is_wanted {
            state.is_wanted = true;
            self.changed.notify_all();
        }
        true
    }

    /// Waits until all that was pushed is with the system, but for `limit` at most.
    pub(super) fn settle(&self, limit: Duration) {
        if self.owner != process::id() {
            return;
        }
        self.push("", 0, true);
        let is_busy = |state: &mut State| state.is_writing || !state.text.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), limit, is_busy));
    }

    /// No more will come.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    fn run(&self, name: &str, mut write: impl FnMut(&str, &dyn Fn() -> bool) -> io::Result<()>) {
        let mut text = String::new();
        while let Some(dropped) = self.take(&mut text) {
            if dropped > 0 {
                log::warn!(
                    "{dropped} lines of the trace in {name} are missing: they come faster than they are taken"
                );
            }
            if let Err(error) = write(&text, &|| !self.lock().is_over) {
                log::warn!("the trace in {name} ends: {error}");
                let mut state = self.lock();
                *state = State { is_over: true, ..State::default() };
                self.changed.notify_all();
                return;
            }
        }
    }

    /// Sleeps until there is something to write, moves it to `text` (whose old content is written) and says how
    /// many lines are missing before it. None: that was all.
    fn take(&self, text: &mut String) -> Option<usize> {
        text.clear();
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        let rests = |state: &mut State| !state.is_wanted && !state.is_over;
        let mut state = self.changed.wait_while(state, rests).unwrap_or_else(PoisonError::into_inner);
        state.is_wanted = false;
        if state.text.is_empty() && state.is_over {
            return None;
        }
        mem::swap(&mut state.text, text);
        state.is_writing = true;
        Some(mem::take(&mut state.dropped))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    /// A disk that takes nothing until the sender is dropped, says when it is asked to, and what it got.
    fn disk() -> (mpsc::Sender<()>, mpsc::Receiver<()>, Arc<Mutex<String>>, Arc<Lines>) {
        let (stuck, until) = mpsc::channel();
        let (asks, asked) = mpsc::channel();
        let text = Arc::new(Mutex::new(String::new()));
        let disk = Arc::clone(&text);
        let lines = Lines::begin(String::new(), move |lines, _| {
            asks.send(()).ok();
            until.recv().ok();
            disk.lock().unwrap().push_str(lines);
            Ok(())
        });
        (stuck, asked, text, lines.unwrap())
    }

    #[test]
    fn all_lines_arrive_in_order_and_settling_waits_for_the_last() {
        let (stuck, _asked, text, lines) = disk();
        drop(stuck);
        let all: Vec<String> = (0..100_000).map(|n| format!("line {n}\n")).collect();
        all.iter().for_each(|line| assert!(lines.push(line, 1, false)));
        lines.settle(LONG);
        assert!(*text.lock().unwrap() == all.concat());
        lines.end();
        assert!(!lines.push("late\n", 1, true));
    }

    #[test]
    fn while_the_disk_stands_still_lines_wait_up_to_the_limit_and_the_others_are_counted() {
        let (stuck, asked, text, lines) = disk();
        let line = format!("{}\n", "x".repeat(99));
        lines.push(&line, 1, true);
        asked.recv_timeout(LONG).expect("the first line is written alone");
        (1..60_000).for_each(|_| assert!(lines.push(&line, 1, true), "and nobody waits"));
        let waiting = lines.lock().text.len();
        assert!(waiting <= WAITING_MAX && waiting > WAITING_MAX - 100, "{waiting}");
        let dropped = lines.lock().dropped;
        drop(stuck);
        lines.settle(LONG);
        let written = text.lock().unwrap().clone();
        assert!(written.lines().all(|written| written.len() == 99), "whole lines only");
        assert_eq!(written.lines().count() + dropped, 60_000);
    }

    #[test]
    fn after_an_error_nothing_is_gathered_for_nobody() {
        let lines = Lines::begin(String::new(), |_, _| Err(io::ErrorKind::StorageFull.into())).unwrap();
        lines.push("1,2\n", 1, true);
        lines.settle(LONG);
        assert!(!lines.push("3,4\n", 1, true) && lines.lock().text.is_empty());
    }

    #[test]
    fn whoever_waits_for_a_reader_is_told_when_no_more_lines_will_come() {
        let (waits, waited) = mpsc::channel();
        let lines = Lines::begin(String::new(), move |_, may_wait| {
            while may_wait() {
                waits.send(()).ok();
                std::thread::yield_now();
            }
            waits.send(()).ok();
            Err(io::ErrorKind::WouldBlock.into())
        });
        let lines = lines.unwrap();
        lines.push("1,2\n", 1, true);
        waited.recv_timeout(LONG).expect("it waits");
        assert!(lines.push("3,4\n", 1, true), "and lines gather");
        lines.end();
        let mut last = waited.recv_timeout(LONG);
        while last.is_ok() {
            last = waited.recv_timeout(LONG);
        }
        assert_eq!(last, Err(mpsc::RecvTimeoutError::Disconnected), "the thread is gone");
    }
}
