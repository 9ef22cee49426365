//! A file of lines that many processes may append to at the same time.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the environment variable `RTCP_TRACE` names. A program that runs with more rights than its user must
/// not let the user choose a file for it to write.
#[must_use]
pub fn trace_path() -> Option<PathBuf> {
    // SAFETY: reads a word that the kernel gave the process at its start.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return None;
    }
    std::env::var_os("RTCP_TRACE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// How often whoever waits for a pipe asks whether to go on with it, in milliseconds.
const ASK_EACH: i32 = 100;

/// Appends whole lines, many in one system call, so that those of several writers do not mix.
#[derive(Debug)]
pub struct LineFile {
    file: File,
    /// No regular file: a pipe, a terminal.
    is_stream: bool,
    /// Of a stream, until it is written.
    header: String,
}

impl LineFile {
    /// Opens the file for appending; a new one begins with the line `header`, as an existing one must.
    ///
    /// # Errors
    /// Those of opening and reading; `InvalidData` if it is not empty and begins with anything else.
    pub fn open(path: &Path, header: &str) -> io::Result<Self> {
        // A pipe without a reader must not make anybody wait.
        let mut options = OpenOptions::new();
        options.append(true).read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let (mut file, is_new) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (options.open(path)?, false),
            file => (file?, true),
        };
        let status = file.metadata()?;
        let (is_stream, header_line) = (!status.is_file(), format!("{header}\n"));
        if is_stream {
            // A pipe that is full must not make anybody wait here.
            return Ok(Self { file, is_stream, header: header_line });
        }
        if is_new || status.len() == 0 {
            file.write_all(header_line.as_bytes())?;
        } else {
            let mut begin = vec![0; header.len() + 1];
            let is_ours =
                file.read_exact(&mut begin).is_ok() && begin.strip_suffix(b"\n") == Some(header.as_bytes());
            if !is_ours {
                let problem = "it exists and does not begin with the columns of this version";
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        Ok(Self { file, is_stream, header: String::new() })
    }

    /// Adds whole lines. Waits as long as the disk wants to; for the reader of a pipe that is full as long as
    /// `may_wait` says so, ten times a second.
    ///
    /// # Errors
    /// Those of writing, `WouldBlock` if it may not wait; some of it may have been written.
    pub fn append(&mut self, lines: &str, may_wait: &dyn Fn() -> bool) -> io::Result<()> {
        if !self.header.is_empty() {
            self.write(self.header.as_bytes(), may_wait)?;
            self.header = String::new();
        }
        self.write(lines.as_bytes(), may_wait)
    }

    fn write(&self, mut lines: &[u8], may_wait: &dyn Fn() -> bool) -> io::Result<()> {
        while !lines.is_empty() {
            let piece = if self.is_stream { atom(lines) } else { lines };
            match (&self.file).write(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => lines = &lines[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && may_wait() => self.wait(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Until it takes more, or for [`ASK_EACH`].
    fn wait(&self) {
        let mut polled = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one valid entry, which the kernel writes to during the call only. Whatever it returns, the next write
        // says what is the matter.
        unsafe { libc::poll(&raw mut polled, 1, ASK_EACH) };
    }
}

/// As many whole lines as a pipe takes at once or not at all (PIPE_BUF), so that those of other writers stay whole too.
fn atom(lines: &[u8]) -> &[u8] {
    let most = &lines[..lines.len().min(libc::PIPE_BUF)];
    most.iter().rposition(|byte| *byte == b'\n').map_or(most, |end| &most[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, process};

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rtcp-lines-{}-{name}", process::id()));
        fs::remove_file(&path).ok();
        path
    }

    #[test]
    fn two_writers_share_one_header_and_keep_their_lines_whole() {
        let path = scratch("shared");
        let mut both = [LineFile::open(&path, "a,b").unwrap(), LineFile::open(&path, "a,b").unwrap()];
        let line = format!("{}\n", "x".repeat(99));
        let lines = line.repeat(500);
        std::thread::scope(|scope| {
            for file in &mut both {
                scope.spawn(|| (0..4).for_each(|_| file.append(&lines, &|| false).unwrap()));
            }
        });
        drop(both);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("a,b\nx"), "{:.20}", text);
        assert!(text.lines().skip(1).all(|line| line.len() == 99));
        assert_eq!(text.lines().count(), 4_001);
        fs::remove_file(&path).unwrap();
    }

    fn fifo(name: &str) -> PathBuf {
        let path = scratch(name);
        let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a string that ends with 0, alive during the call.
        assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
        path
    }

    #[test]
    fn a_slow_reader_of_a_pipe_gets_every_line_of_every_writer_whole() {
        let path = fifo("slow");
        let mut both = [LineFile::open(&path, "a,b").unwrap(), LineFile::open(&path, "a,b").unwrap()];
        let line = format!("{}\n", "x".repeat(99));
        let lines = line.repeat(5_000); // several times what a pipe holds
        let mut reader = File::open(&path).unwrap();
        let mut text = vec![0; 2 * (lines.len() + 4)];
        std::thread::scope(|scope| {
            for file in &mut both {
                scope.spawn(|| file.append(&lines, &|| true).unwrap());
            }
            reader.read_exact(&mut text).unwrap();
        });
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().all(|line| line.len() == 99 || line == "a,b"));
        assert_eq!(text.lines().filter(|line| *line == "a,b").count(), 2);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_waited_for_only_as_long_as_it_is_wanted() {
        let path = fifo("unread");
        let mut file = LineFile::open(&path, "a,b").unwrap();
        let asked = std::cell::Cell::new(0);
        let may_wait = || asked.replace(asked.get() + 1) < 2;
        let error = file.append(&"line\n".repeat(100_000), &may_wait).unwrap_err();
        assert_eq!((error.kind(), asked.get()), (io::ErrorKind::WouldBlock, 3));
        assert!(LineFile::open(&path, "a,b").is_ok(), "full, and opened without a wait");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_no_trace_is_left_alone() {
        let path = scratch("other");
        fs::write(&path, "somebody's letter\n").unwrap();
        assert_eq!(LineFile::open(&path, "a,b").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's letter\n");
        fs::remove_file(&path).unwrap();
    }
}
