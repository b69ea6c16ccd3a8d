//! What this process shares: a file with the encoded form of each value, until the process ends.

use std::{
    any::Any,
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use cw_core::ids::ShareId;

use super::Value;
use crate::{blobs::Outline, executor::scratch};

/// A value that this process shares.
struct Kept {
    /// Where its encoded form lies.
    path: PathBuf,
    outline: Arc<Outline>,
    /// The value, as long as there is a handle of it.
    whole: Weak<dyn Any + Send + Sync>,
}

fn all() -> MutexGuard<'static, BTreeMap<ShareId, Kept>> {
    static ALL: Mutex<BTreeMap<ShareId, Kept>> = Mutex::new(BTreeMap::new());
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a value, whose encoded form this is.
///
/// # Errors
/// There is no room for it.
pub(super) fn keep(encoded: &[u8], whole: &Value) -> io::Result<ShareId> {
    let (blob, outline) = Outline::of(encoded).expect("it is read from memory");
    let id = ShareId(blob.0);
    // Not under the lock: others, and the client's network, ask for what was shared before.
    let is_known = all().contains_key(&id);
    let path = if is_known { None } else { Some(write(id, encoded)?) };
    let mut all = all();
    let entry = match all.remove(&id) {
        Some(known) => {
            path.map(std::fs::remove_file);
            known
        }
        None => {
            let path = path.map_or_else(|| write(id, encoded), Ok)?;
            Kept { path, outline: Arc::new(outline), whole: Weak::<()>::new() }
        }
    };
    all.insert(id, Kept { whole: Arc::downgrade(whole), ..entry });
    Ok(id)
}

/// Puts an encoded value into a file of this process's.
fn write(id: ShareId, encoded: &[u8]) -> io::Result<PathBuf> {
    // Two threads may share the same value at once.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = scratch::private_file(&format!("shared-{number}-{id}"))?;
    let written = File::create_new(&path).and_then(|mut file| file.write_all(encoded));
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
    }
}

/// The value, if there is a handle of it.
pub(super) fn whole(id: ShareId) -> Option<Value> {
    all().get(&id)?.whole.upgrade()
}

/// Where the encoded form of a value lies that this process shares, and its outline.
pub(crate) fn kept_at(id: ShareId) -> Option<(PathBuf, Arc<Outline>)> {
    all().get(&id).map(|kept| (kept.path.clone(), Arc::clone(&kept.outline)))
}

/// Removes what this process shared, at its end.
pub(crate) fn close() {
    for (_, kept) in std::mem::take(&mut *all()) {
        let _ = std::fs::remove_file(kept.path);
    }
}
