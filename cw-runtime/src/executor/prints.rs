//! What tasks print. Standard output and error of an executor are one file, in memory on Linux: what a task writes there,
//! and what the processes write that it starts, is all there in order when the task ends, is taken, and the file is
//! emptied for the next one. Should the executor die, its worker reads what is left.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cw_core::wire::Printed;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fcntl_getfl, fcntl_setfl};

/// What is kept of the beginning and of the end of what a task prints.
const KEPT: u64 = 32 << 10;

/// At most so much at once is shown of what a running task prints.
const SHOWN: u64 = 64 << 10;

/// A file that has grown by so much gives back the memory of what is kept by nobody.
const LONG: u64 = 4 << 20;

/// No write to a file takes less time, in nanoseconds. The least of 100,000, with the 20 of the clock: a look at the place in
/// a file in memory 110, a write of one byte to it 410 (AMD EPYC, Linux 6.18, November 2026).
const WRITE_LEAST: u64 = 150;

/// So many looks are timed before the first task: a single one may have been interrupted.
const LOOKS: u32 = 64;

/// No look was timed.
const NEVER: u64 = u64::MAX;

/// The file that an executor's standard output and error are.
#[derive(Debug)]
pub(crate) struct Prints {
    file: File,
    /// The shortest time in which it was asked whether anything was printed, in nanoseconds.
    least_look: AtomicU64,
}

impl Prints {
    fn of(file: File) -> Self {
        Self { file, least_look: AtomicU64::new(NEVER) }
    }

    /// A new one, for an executor that is about to be started.
    ///
    /// # Errors
    /// The system gives no more files.
    pub(crate) fn new() -> io::Result<Self> {
        let file = new_file()?;
        // Whoever writes to it writes to its end, also after it was emptied.
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::APPEND)?;
        Ok(Self::of(file))
    }

    /// For the executor's standard output or error.
    ///
    /// # Errors
    /// The system gives no more files.
    pub(crate) fn stdio(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.file.try_clone()?))
    }

    /// This executor's own. A copy of the descriptor, as a job may close the one it has.
    ///
    /// # Errors
    /// There is no standard output.
    pub(crate) fn own() -> io::Result<Self> {
        let own: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), 3)?;
        let own = Self::of(File::from(own));
        (0..LOOKS).for_each(|_| own.time_a_look());
        Ok(own)
    }

    /// Takes what the task has printed that began then and has just ended, none if it has printed nothing. And gives the
    /// time when it ended, and the time.
    ///
    /// Asking the file costs a system call, and writing to it costs more than that: a task that took less time than the
    /// shortest of many looks, and less than [`WRITE_LEAST`], has not written.
    pub(crate) fn take(&self, began: Instant) -> (Option<Printed>, Instant, Instant) {
        // What is left in the buffer of this process's `print!` was printed too.
        let _ = io::stdout().flush();
        let ended = Instant::now();
        let least = self.least_look.load(Ordering::Relaxed);
        if least != NEVER && nanos(ended - began) < least.min(WRITE_LEAST) {
            return (None, ended, ended);
        }
        (self.take_all(), ended, Instant::now())
    }

    /// Notes how long it takes at least to ask whether anything was printed.
    pub(crate) fn time_a_look(&self) {
        let began = Instant::now();
        let _ = self.bytes();
        let _ = self.least_look.fetch_min(nanos(began.elapsed()), Ordering::Relaxed);
    }

    /// Takes what was printed since the last time.
    fn take_all(&self) -> Option<Printed> {
        let printed = self.read()?;
        // If it stays, it is taken for the next task's too, and that is all.
        let _ = self.file.set_len(0);
        Some(printed)
    }

    /// What was printed since it was last taken; none if nothing was, or it cannot be read.
    pub(crate) fn read(&self) -> Option<Printed> {
        let total = self.bytes();
        if total == 0 {
            return None;
        }
        let head = self.part(0, total.min(KEPT))?;
        let rest = total - head.len() as u64;
        let tail = self.part(total - rest.min(KEPT), rest.min(KEPT))?;
        Some(Printed { total, head: head.into(), tail: tail.into() })
    }

    /// The next of what the task that runs has printed, after so many bytes of it; where there is much, the end of it.
    pub(super) fn next(&self, shown: u64) -> Option<(u64, Bytes)> {
        let total = self.bytes();
        if total <= shown {
            return None;
        }
        // The beginning in any case.
        let from = if shown == 0 { 0 } else { shown.max(total.saturating_sub(SHOWN)) };
        let part = self.part(from, (total - from).min(SHOWN))?;
        if total > LONG {
            // What lies between is not wanted any more; where it cannot be given back it stays until the task ends.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.file, flags, KEPT, total - 2 * KEPT);
        }
        Some((from, part))
    }

    /// The last bytes of what was printed since it was last taken, as text.
    pub(crate) fn last_words(&self, at_most: u64) -> String {
        let total = self.bytes();
        let bytes = total.min(at_most);
        let words = self.part(total - bytes, bytes).unwrap_or_default();
        String::from_utf8_lossy(&words).into_owned()
    }

    fn bytes(&self) -> u64 {
        // Asked after each task. Nobody goes by the place in the file: it is written to at its end.
        rustix::fs::seek(&self.file, SeekFrom::End(0)).unwrap_or(0)
    }

    fn part(&self, from: u64, bytes: u64) -> Option<Bytes> {
        let mut part = vec![0; usize::try_from(bytes).ok()?];
        self.file.read_exact_at(&mut part, from).ok()?;
        Some(part.into())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
fn new_file() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("cw-prints", rustix::fs::MemfdFlags::CLOEXEC)?))
}

#[cfg(not(target_os = "linux"))]
fn new_file() -> io::Result<File> {
    tempfile::tempfile()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_task_printed_is_not_the_next_ones() {
        let prints = Prints::new().unwrap();
        assert_eq!(prints.take_all(), None);
        (&prints.file).write_all(b"one").unwrap();
        assert_eq!(prints.next(0).unwrap(), (0, Bytes::from_static(b"one")));
        assert_eq!(prints.next(3), None);
        let printed = prints.take_all().unwrap();
        assert_eq!((printed.total, &printed.head[..], &printed.tail[..]), (3, &b"one"[..], &b""[..]));
        (&prints.file).write_all(b"two").unwrap();
        assert_eq!(prints.last_words(2), "wo");
        assert_eq!(prints.take_all().unwrap().head, b"two"[..]);
    }

    #[test]
    fn of_much_the_beginning_and_the_end_are_kept_and_the_rest_is_given_back() {
        let prints = Prints::new().unwrap();
        let line = [b'x'; 1 << 10];
        for _ in 0..10 << 10 {
            (&prints.file).write_all(&line).unwrap();
        }
        let (from, shown) = prints.next(0).unwrap();
        assert_eq!((from, shown.len() as u64), (0, SHOWN));
        let (from, shown) = prints.next(SHOWN).unwrap();
        assert_eq!((from, shown.len() as u64), ((10 << 20) - SHOWN, SHOWN));
        let blocks = rustix::fs::fstat(&prints.file).unwrap().st_blocks;
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
        (&prints.file).write_all(b"end").unwrap();
        let printed = prints.take_all().unwrap();
        assert_eq!((printed.head.len() as u64, printed.tail.len() as u64), (KEPT, KEPT));
        assert_eq!(printed.total, (10 << 20) + 3);
        assert!(printed.head.iter().all(|byte| *byte == b'x') && printed.tail.ends_with(b"xend"));
    }
}
