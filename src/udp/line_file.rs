//! A file of lines that many processes may append to at the same time.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
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

/// Appends whole lines, many in one system call, so that those of several writers do not mix.
#[derive(Debug)]
pub struct LineFile(File);

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
        if is_new || !status.is_file() || status.len() == 0 {
            file.write_all(format!("{header}\n").as_bytes())?;
        } else {
            let mut begin = vec![0; header.len() + 1];
            let is_ours =
                file.read_exact(&mut begin).is_ok() && begin.strip_suffix(b"\n") == Some(header.as_bytes());
            if !is_ours {
                let problem = "it exists and does not begin with the columns of this version";
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        Ok(Self(file))
    }

    /// Adds whole lines. Waits as long as the system wants to.
    ///
    /// # Errors
    /// Those of writing; some of it may have been written.
    pub fn append(&mut self, lines: &str) -> io::Result<()> {
        self.0.write_all(lines.as_bytes())
    }
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
                scope.spawn(|| (0..4).for_each(|_| file.append(&lines).unwrap()));
            }
        });
        drop(both);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("a,b\nx"), "{:.20}", text);
        assert!(text.lines().skip(1).all(|line| line.len() == 99));
        assert_eq!(text.lines().count(), 4_001);
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
