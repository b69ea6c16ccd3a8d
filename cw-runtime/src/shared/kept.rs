//! What this process shares: a file with the encoded form of each value, as long as there is a handle of it, or a task that
//! was called with one.

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

/// A value that this process shares. The last holder removes the file.
#[derive(Debug)]
pub(crate) struct Kept {
    id: ShareId,
    /// Where its encoded form lies: the same for one value, whenever it is shared.
    path: PathBuf,
    outline: Arc<Outline>,
}

struct Entry {
    kept: Weak<Kept>,
    /// The value, as long as there is a handle of it.
    whole: Weak<dyn Any + Send + Sync>,
}

/// A file is put in place and removed only under this lock.
fn all() -> MutexGuard<'static, BTreeMap<ShareId, Entry>> {
    static ALL: Mutex<BTreeMap<ShareId, Entry>> = Mutex::new(BTreeMap::new());
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    pub(super) fn id(&self) -> ShareId {
        self.id
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut all = all();
        // Else it was shared again meanwhile, and the file is the other's.
        if all.get(&self.id).is_some_and(|entry| entry.kept.strong_count() == 0) {
            all.remove(&self.id);
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Keeps a value, whose encoded form this is.
///
/// # Errors
/// There is no room for it.
pub(super) fn keep(encoded: &[u8], value: &Value) -> io::Result<Arc<Kept>> {
    let (blob, outline) = Outline::of(encoded).expect("it is read from memory");
    let id = ShareId(blob.0);
    let whole = Arc::downgrade(value);
    if let Some(entry) = all().get_mut(&id)
        && let Some(kept) = entry.kept.upgrade()
    {
        entry.whole = whole;
        return Ok(kept);
    }
    // Not under the lock: others, and the client's network, ask for what was shared before.
    let (path, written) = (scratch::private_path(&format!("shared-{id}")), write(id, encoded)?);
    let mut all = all();
    if let Some(entry) = all.get_mut(&id)
        && let Some(kept) = entry.kept.upgrade()
    {
        let _ = std::fs::remove_file(written);
        entry.whole = whole;
        return Ok(kept);
    }
    std::fs::rename(&written, &path)?;
    let kept = Arc::new(Kept { id, path, outline: Arc::new(outline) });
    all.insert(id, Entry { kept: Arc::downgrade(&kept), whole });
    Ok(kept)
}

/// Puts an encoded value into a file of this process's.
fn write(id: ShareId, encoded: &[u8]) -> io::Result<PathBuf> {
    // Two threads may share the same value at once.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = scratch::private_file(&format!("sharing-{number}-{id}"))?;
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
    // Dropped after the lock, as the last holder takes it.
    let kept = all().get(&id).and_then(|entry| entry.kept.upgrade())?;
    Some((kept.path.clone(), Arc::clone(&kept.outline)))
}

/// Removes what this process shared, at its end.
pub(crate) fn close() {
    let all = std::mem::take(&mut *all());
    for kept in all.values().filter_map(|entry| entry.kept.upgrade()) {
        let _ = std::fs::remove_file(&kept.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_with_the_last_holder_and_comes_again_where_it_was() {
        let value: Value = Arc::new(1u8);
        let first = keep(b"one of a kind", &value).unwrap();
        let second = keep(b"one of a kind", &value).unwrap();
        let path = first.path.clone();
        assert!(Arc::ptr_eq(&first, &second));
        drop(first);
        assert_eq!(std::fs::read(&path).unwrap(), b"one of a kind");
        let id = second.id;
        drop(second);
        assert!(!path.exists() && kept_at(id).is_none());
        let again = keep(b"one of a kind", &value).unwrap();
        assert_eq!(again.path, path);
        assert!(path.exists());
    }
}
