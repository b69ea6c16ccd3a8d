//! Folders for single attempts, under `$TMPDIR/cw-UID/`.
//!
//! An executor removes an attempt's folder when the attempt has ended. If it dies its worker removes what it left;
//! and what a worker left that was killed itself, the next executor on that node that makes a folder.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, Once},
    thread,
    time::Duration,
};

use cw_core::ids::{Attempt, TaskId};
use rustix::process::{Pid, test_kill_process};

/// Where an executor makes its attempts' folders.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    /// Made when first wanted.
    parent: PathBuf,
    /// What the names in it begin with.
    prefix: String,
}

impl Scratch {
    /// Folders in `parent` whose names begin so.
    pub(crate) fn under(parent: PathBuf, prefix: impl Into<String>) -> Self {
        Self { parent, prefix: prefix.into() }
    }

    /// Those of a thread of this process, which has no folder of its own: nobody would remove it at the end.
    pub(crate) fn of_thread(thread: impl std::fmt::Display) -> Self {
        Self::under(root(), format!("{}-{thread}-", owner()))
    }

    /// Makes an attempt's folder, unless it is there.
    pub(super) fn make(&self, task: TaskId, attempt: Attempt) -> Result<PathBuf, (PathBuf, io::Error)> {
        let path = self.path(task, attempt);
        match self.try_make(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err((path, error)),
        }
    }

    fn try_make(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if self.parent.starts_with(root()) {
            make_private(&root())?;
            sweep();
        }
        private().recursive(true).create(path)
    }

    pub(super) fn remove(&self, task: TaskId, attempt: Attempt) {
        // Whatever cannot be removed now is tried again when its worker is gone.
        let _ = fs::remove_dir_all(self.path(task, attempt));
    }

    fn path(&self, task: TaskId, attempt: Attempt) -> PathBuf {
        self.parent.join(format!("{}{}-{}", self.prefix, task.0, attempt.0))
    }
}

/// The folder of one executor process of this worker, for the worker to name and to remove.
pub(crate) fn of_executor(executor: impl std::fmt::Display) -> PathBuf {
    root().join(format!("{}-{executor}", owner()))
}

/// Folders that are being removed.
static REMOVALS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Removes the folder of an executor that is no more, on a thread of its own: nobody waits for a million files.
pub(crate) fn remove_soon(folder: PathBuf) {
    if !folder.exists() {
        return;
    }
    let count = |by: isize| {
        let mut removals = REMOVALS.0.lock().expect("no holder panics");
        *removals = removals.saturating_add_signed(by);
        REMOVALS.1.notify_all();
    };
    count(1);
    let body = move || {
        // What cannot be removed now is tried again by the next process of this user here.
        let _ = fs::remove_dir_all(folder);
        count(-1);
    };
    if thread::Builder::new().name("cw-scratch".to_owned()).spawn(body).is_err() {
        count(-1);
    }
}

/// Waits until all of that is done, but not for long: what is left is removed by the next process of this user here.
pub(crate) fn finish_removals() {
    let removals = REMOVALS.0.lock().expect("no holder panics");
    drop(REMOVALS.1.wait_timeout_while(removals, Duration::from_secs(1), |removals| *removals > 0));
}

/// Every user has one, as nobody may write into another's.
pub(crate) fn root() -> PathBuf {
    std::env::temp_dir().join(format!("cw-{}", rustix::process::getuid().as_raw()))
}

/// Makes a folder of this process's.
///
/// # Errors
/// The folder cannot be made, or the one it lies in is another user's.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    make_private(&root())?;
    private().recursive(true).create(folder)
}

/// A name for a file of this process's that no other user may open; swept with what it leaves behind.
///
/// # Errors
/// The folder cannot be made, or is another user's.
pub(crate) fn private_file(name: &str) -> io::Result<PathBuf> {
    make_private(&root())?;
    sweep();
    let path = private_path(name);
    // Of a process that had this one's number, as in a container.
    let _ = fs::remove_file(&path);
    Ok(path)
}

/// Such a name, for what is put there by a rename.
pub(crate) fn private_path(name: &str) -> PathBuf {
    root().join(format!("{}-{name}", owner()))
}

/// What this process's names begin with: `host-pid`.
fn owner() -> String {
    format!("{}-{}", crate::program::host_name(), std::process::id())
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Makes the root if it is not there; if it is, it must be ours and nobody else's to write.
fn make_private(root: &Path) -> io::Result<()> {
    match private().create(root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let metadata = fs::symlink_metadata(root)?;
    let is_ours = metadata.is_dir() && metadata.uid() == rustix::process::getuid().as_raw();
    if !is_ours || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("the folder for it is another user's, or others may write to it"));
    }
    Ok(())
}

/// Removes what workers of this node left that are no more. Once is enough for a process.
fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(sweep_now);
}

fn sweep_now() {
    let host = format!("{}-", crate::program::host_name());
    let Ok(entries) = fs::read_dir(root()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(&host)?.split('-').next()?.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}
