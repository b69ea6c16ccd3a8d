//! What is removed, and when: blobs over the limit, and what killed downloads left.
//!
//! Several processes may do this at once. Each may find a file gone already, which is as good as removing it; one
//! that somebody still reads stays readable until it is closed.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Cache;
use super::lock::{Attempt, LockedFile};
use crate::blobs::tree::BlobId;

/// A day: longer than any job's pause, and the next try the morning after still finds last evening's chunks.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

struct Kept {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

/// Removes what was not used for the longest time until the limit holds, but never the one just finished, and old
/// leftovers besides. What cannot be removed now is tried again when the next blob is finished.
pub(super) fn make_room(cache: &Cache, finished: BlobId) {
    let Ok(entries) = fs::read_dir(&cache.folder) else { return };
    let mut kept = Vec::new();
    for entry in entries.flatten() {
        // Others remove files here while we look: one that is gone needs no care.
        let (Ok(found), Some(name)) = (entry.metadata(), entry.file_name().to_str().map(str::to_owned))
        else {
            continue;
        };
        match name.strip_suffix(super::PART_SUFFIX) {
            Some(id) if is_id(id) => remove_leftover(&entry.path(), &found),
            None if is_id(&name) => kept.extend(Kept::new(entry.path(), &found)),
            _ => {}
        }
    }
    evict(kept, &cache.blob_path(finished), cache.limit_bytes);
}

impl Kept {
    fn new(path: PathBuf, found: &Metadata) -> Option<Self> {
        Some(Self { used: found.modified().ok()?, bytes: found.len(), path })
    }
}

fn evict(mut kept: Vec<Kept>, finished: &Path, limit_bytes: u64) {
    let mut total = kept.iter().map(|kept| kept.bytes).sum::<u64>();
    kept.retain(|kept| kept.path != finished);
    kept.sort_unstable_by_key(|kept| kept.used);
    for oldest in kept {
        if total <= limit_bytes {
            break;
        }
        if is_gone(fs::remove_file(&oldest.path)) {
            total -= oldest.bytes;
        }
    }
}

fn is_gone(removed: io::Result<()>) -> bool {
    removed.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
}

/// The lock is what tells a leftover from a download that waits for a slow peer; who removes must hold it, so that
/// nobody begins to write in between.
fn remove_leftover(path: &Path, found: &Metadata) {
    if !is_old(found) {
        return;
    }
    let Ok(Attempt::Locked(file)) = LockedFile::attempt(path, false) else { return };
    // Looked at again under the lock: somebody may have gone on with it and been killed just now.
    if file.metadata().is_ok_and(|found| is_old(&found)) {
        let _ = fs::remove_file(path);
    }
}

fn is_old(found: &Metadata) -> bool {
    let age = found.modified().ok().and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age > LEFTOVER_AGE)
}

/// Whatever else lies in the folder is not ours to remove.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
