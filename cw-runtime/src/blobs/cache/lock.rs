//! A file that one holder in all processes of this node may write, for as long as it lives. Knows no blobs.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// An open file with the lock on it. The kernel gives the lock back too, however the process ends.
///
/// `flock` belongs to the opened file, not to the process: it keeps apart two holders in one process as well.
#[derive(Debug)]
pub(super) struct LockedFile(File);

/// What came of an attempt to get the lock; no attempt waits.
#[derive(Debug)]
pub(super) enum Attempt {
    Locked(LockedFile),
    /// Somebody else has it now.
    Held,
    /// The former holder has renamed or removed the file since we opened it: another attempt will tell.
    Moved,
}

impl LockedFile {
    /// Opens the file, after creating it where it is missing and that is wanted, and tries to get its lock.
    pub(super) fn attempt(path: &Path, create: bool) -> io::Result<Attempt> {
        let create = if create { OFlags::CREATE } else { OFlags::empty() };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | create;
        let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        Self::attempt_opened(path, file)
    }

    pub(super) fn attempt_opened(path: &Path, file: File) -> io::Result<Attempt> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Attempt::Held),
            Err(error) => return Err(error.into()),
        }
        let locked = Self(file);
        Ok(if locked.is_at(path)? { Attempt::Locked(locked) } else { Attempt::Moved })
    }

    /// Whether the path still names this very file.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let ours = self.0.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // To close the file is not enough: a child process that was just forked has it open too, until its exec.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
