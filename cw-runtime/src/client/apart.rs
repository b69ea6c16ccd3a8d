//! Arguments that lie apart: too big to be sent about with their task. They stay in this process's memory until the task
//! has ended, and whoever runs it has them brought, by their hash.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use cw_core::{ids::ShareId, wire::Apart};

use crate::blobs::{BlobId, Outline, serve::Source};

/// Longer arguments lie apart.
pub(super) const ABOVE_BYTES: usize = 1 << 20;

/// The arguments of one or more tasks that are equal.
#[derive(Debug)]
struct Kept {
    share: ShareId,
    outline: Arc<Outline>,
    args: Bytes,
    /// What is sent in their place.
    sent: Bytes,
}

/// All that a task holds.
struct Held(Arc<Kept>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0.sent
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut all = all();
        // The same may have been kept anew meanwhile.
        if all.get(&self.share).is_some_and(|other| other.strong_count() == 0) {
            all.remove(&self.share);
        }
    }
}

fn all() -> MutexGuard<'static, BTreeMap<ShareId, Weak<Kept>>> {
    static ALL: Mutex<BTreeMap<ShareId, Weak<Kept>>> = Mutex::new(BTreeMap::new());
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps arguments for as long as there is what this gives, which is sent in their place.
pub(super) fn keep(args: Bytes) -> Bytes {
    let (blob, outline) = Outline::of(&args[..]).expect("it is read from memory, and far below the limit");
    let (share, bytes) = (ShareId(blob.0), args.len() as u64);
    let mut all = all();
    let known = all.get(&share).and_then(Weak::upgrade);
    let kept = known.unwrap_or_else(|| {
        let sent = Apart { share, bytes }.encode().into();
        Arc::new(Kept { share, outline: Arc::new(outline), args, sent })
    });
    all.insert(share, Arc::downgrade(&kept));
    drop(all);
    Bytes::from_owner(Held(kept))
}

/// Arguments as they are, which others can have by their hash as long as there is this.
pub(super) fn offered(args: Bytes) -> Bytes {
    struct Offered {
        args: Bytes,
        _held: Bytes,
    }

    impl AsRef<[u8]> for Offered {
        fn as_ref(&self) -> &[u8] {
            &self.args
        }
    }

    let _held = keep(args.clone());
    Bytes::from_owner(Offered { args, _held })
}

/// The arguments of that hash, if a task has them.
pub(super) fn find(id: BlobId) -> Option<Source> {
    let kept = all().get(&ShareId(id.0)).and_then(Weak::upgrade)?;
    Some(Source::in_memory(id, Arc::clone(&kept.outline), kept.args.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_there_as_long_as_a_task_has_them() {
        let args = Bytes::from(vec![7; 3 << 20]);
        let (one, other) = (keep(args.clone()), keep(args.clone()));
        let apart = Apart::decode(&one).unwrap();
        assert_eq!((apart.bytes, &one), (3 << 20, &other));
        let id = BlobId(apart.share.0);
        drop(one.clone());
        drop(one);
        assert!(find(id).is_some(), "the other task has them");
        drop(other);
        assert!(find(id).is_none());
        assert!(!all().contains_key(&apart.share));
        drop(keep(args));
    }
}
