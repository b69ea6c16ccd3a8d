//! Values that tasks share: kept once by their client, brought once to each node, read once by each executor.
//!
//! A handle travels as the hash of the encoded value. While arguments are encoded, a note is made of the handles among
//! them (`begin`, `taken`), so that the call says what its task shares; a worker has that before the task begins, and
//! tells the executor where it lies (`note`). The value is read when the job first looks at it: a value is decoded, a slice
//! of numbers is mapped, so that all executors of a node look at one copy.

mod content;
mod found;
mod kept;

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytemuck::Pod;
use bytes::Bytes;
use cw_core::ids::ShareId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::job::put_argument;
use content::Elements;
pub use content::Shareable;
pub(crate) use found::note;
pub(crate) use kept::{Kept, close, kept_at};

/// What a process holds of a value.
type Value = Arc<dyn Any + Send + Sync>;

/// A value that many tasks share: a small handle, whatever the size of the value.
///
/// Made by [`share`] or [`share_slice`]. A job takes it as an argument (`data: cw::Shared<Vec<f64>>`,
/// `data: &cw::Shared<Vec<f64>>`, `data: cw::Shared<[f64]>`) and uses it as a `&T`. Clones are handles of the same value.
///
/// # Panics
/// Looking at the value panics in a job if its bytes cannot be read on that node any more, or are no such value.
pub struct Shared<T: ?Sized> {
    id: ShareId,
    bytes: u64,
    value: OnceLock<Value>,
    /// In the process that shares it.
    kept: Option<Arc<Kept>>,
    of: std::marker::PhantomData<fn() -> T>,
}

/// A handle as it travels.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Shared")]
struct Handle {
    hash: [u64; 4],
    bytes: u64,
}

/// Shares a value among tasks: it is encoded once, sent once, and kept once by each node, however many tasks and executors
/// use it there.
///
/// Each executor decodes it once; see [`share_slice`] for what need not be. Its encoded form is kept in `$TMPDIR/cw-UID`: by
/// this program as long as there is a handle or a task that was called with one, by workers for a minute after their last
/// task with it. It cannot hold handles of other shared values.
/// With a store: a `HashMap` in it is encoded in another order in each run, and its tasks are not found again; take a
/// `BTreeMap`.
///
/// # Panics
/// If serde or postcard cannot encode the value, or the folder for temporary files has no room for it.
pub fn share<T>(value: T) -> Shared<T>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let mut encoded = Vec::new();
    begin();
    put_argument("value", &value, &mut encoded)
        .unwrap_or_else(|error| panic!("a value cannot be shared: {error}"));
    assert!(
        taken().shares.is_empty(),
        "a shared value cannot hold the handle of another: pass both to the job"
    );
    Shared::keep(&encoded, Arc::new(value))
}

/// Shares many numbers among tasks, as [`share`] does; executors need not decode them and have no copy of their own: all
/// that run on a node look at the same memory, which is the file's in the kernel's cache.
///
/// For bytes, numbers, arrays of them, and types of one's own that are [`Pod`](https://docs.rs/bytemuck). The values are
/// kept as they are in memory, so all nodes must be of one kind, which they are where one executable runs on all.
///
/// # Panics
/// If the folder for temporary files has no room for them.
pub fn share_slice<E: Pod + Send + Sync>(values: impl Into<Vec<E>>) -> Shared<[E]> {
    const { assert!(size_of::<E>() > 0, "what has no size is not worth sharing") };
    let values = values.into();
    let whole = Arc::new(Elements::Owned(values));
    Shared::keep(bytemuck::cast_slice(whole.get()), whole.clone())
}

thread_local! {
    /// Handles that were encoded on this thread since [`begin`].
    static ENCODED: RefCell<Vec<Encoded>> = const { RefCell::new(Vec::new()) };
}

/// A handle that was encoded, and what keeps its value.
type Encoded = (ShareId, Option<Arc<Kept>>);

/// What a task shares.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// In order, each once.
    pub(crate) shares: Vec<ShareId>,
    /// To be held as long as the task is not done.
    pub(crate) kept: Vec<Arc<Kept>>,
}

/// Arguments of a task that hold what it shares.
struct Holding {
    args: Bytes,
    _kept: Vec<Arc<Kept>>,
}

impl AsRef<[u8]> for Holding {
    fn as_ref(&self) -> &[u8] {
        &self.args
    }
}

impl Taken {
    /// The same arguments, which hold all this.
    pub(crate) fn held_by(self, args: Bytes) -> Bytes {
        if self.kept.is_empty() { args } else { Bytes::from_owner(Holding { args, _kept: self.kept }) }
    }
}

/// Arguments are about to be encoded.
pub(crate) fn begin() {
    ENCODED.with_borrow_mut(Vec::clear);
}

/// What was among them.
pub(crate) fn taken() -> Taken {
    let mut encoded = ENCODED.take();
    encoded.sort_unstable_by_key(|(share, _)| *share);
    encoded.dedup_by_key(|(share, _)| *share);
    let (shares, kept): (Vec<_>, Vec<_>) = encoded.into_iter().unzip();
    Taken { shares, kept: kept.into_iter().flatten().collect() }
}

/// The same, if it is anything else than this.
pub(crate) fn taken_unless(known: &[ShareId]) -> Option<Taken> {
    let is_known = ENCODED.with_borrow_mut(|encoded| {
        let is_known = match (encoded.as_slice(), known) {
            ([], []) => true,
            ([first, others @ ..], [only]) => first.0 == *only && others.iter().all(|other| other.0 == *only),
            _ => false,
        };
        if is_known {
            encoded.clear();
        }
        is_known
    });
    if is_known { None } else { Some(taken()) }
}

/// Encodes something beside the arguments, whose handles do not count.
pub(crate) fn aside<T>(encode: impl FnOnce() -> T) -> T {
    let encoded = ENCODED.take();
    let result = encode();
    ENCODED.set(encoded);
    result
}

impl<T: ?Sized> Shared<T> {
    fn keep(encoded: &[u8], value: Value) -> Self {
        let kept = kept::keep(encoded, &value);
        let kept = kept.unwrap_or_else(|error| panic!("a shared value cannot be kept: {error}"));
        let (id, bytes, value) = (kept.id(), encoded.len() as u64, OnceLock::from(value));
        Self { id, bytes, value, kept: Some(kept), of: std::marker::PhantomData }
    }

    fn handle(id: ShareId, bytes: u64) -> Self {
        Self { id, bytes, value: OnceLock::new(), kept: None, of: std::marker::PhantomData }
    }

    /// How many bytes its encoded form has.
    pub fn encoded_bytes(&self) -> u64 {
        self.bytes
    }
}

impl<T: Shareable + ?Sized> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = self.value.get_or_init(|| {
            found::value_of::<T>(self.id)
                .unwrap_or_else(|why| panic!("the shared value {} cannot be had: {why}", self.id))
        });
        T::of(value.as_ref()).expect("it was read as one")
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        let (value, kept) = (self.value.clone(), self.kept.clone());
        Self { id: self.id, bytes: self.bytes, value, kept, of: std::marker::PhantomData }
    }
}

impl<T: ?Sized> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({}, {} bytes)", self.id, self.bytes)
    }
}

impl<T: ?Sized> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.with_borrow_mut(|encoded| encoded.push((self.id, self.kept.clone())));
        let word = |at: usize| {
            let bytes = self.id.0[at * 8..].first_chunk().expect("a hash has four words");
            u64::from_le_bytes(*bytes)
        };
        Handle { hash: [word(0), word(1), word(2), word(3)], bytes: self.bytes }.serialize(serializer)
    }
}

impl<'de, T: ?Sized> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Handle { hash, bytes } = Handle::deserialize(deserializer)?;
        let mut id = [0; 32];
        id.chunks_exact_mut(8).zip(hash).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_le_bytes()));
        Ok(Self::handle(ShareId(id), bytes))
    }
}

#[cfg(test)]
mod tests {
    use mmap_guard::FileData;

    use super::*;

    #[test]
    fn a_handle_is_small_and_leads_to_the_value() {
        let shared = share(vec![7u64; 10_000]);
        begin();
        let handle = postcard::to_stdvec(&(&shared, shared.clone())).unwrap();
        assert!(handle.len() < 120, "{} bytes", handle.len());
        let held = taken();
        assert_eq!(held.shares, [shared.id]);
        assert!(taken().shares.is_empty());
        let (one, _): (Shared<Vec<u64>>, Shared<Vec<u64>>) = postcard::from_bytes(&handle).unwrap();
        assert_eq!(one.len(), 10_000);
        assert!(Arc::ptr_eq(one.value.get().unwrap(), shared.value.get().unwrap()), "no copy in one process");
        drop(shared);
        let again: Shared<Vec<u64>> = postcard::from_bytes(&handle[..handle.len() / 2]).unwrap();
        assert_eq!(again[9_999], 7, "decoded anew");
    }

    #[test]
    fn numbers_are_mapped_and_not_decoded() {
        let shared = share_slice(vec![0.5f64; 100_000]);
        assert_eq!((shared.len(), shared[7], shared.encoded_bytes()), (100_000, 0.5, 800_000));
        let handle = postcard::to_stdvec(&shared).unwrap();
        let kept = taken();
        assert_eq!(kept.kept.len(), 1);
        drop(shared);
        let one: Shared<[f64]> = postcard::from_bytes(&handle).unwrap();
        let other: Shared<[f64]> = postcard::from_bytes(&handle).unwrap();
        assert_eq!((one.len(), one[99_999]), (100_000, 0.5));
        assert_eq!(one.as_ptr(), other.as_ptr(), "no copy for each task");
        let value = Arc::clone(one.value.get().unwrap());
        let is_mapped = |value: Value| {
            matches!(*value.downcast::<Elements<f64>>().unwrap(), Elements::Mapped(FileData::Mapped(..), _))
        };
        assert!(is_mapped(value), "no copy for each process");
        let as_words: Shared<[[u32; 3]]> = postcard::from_bytes(&handle).unwrap();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| as_words.len())).is_err());
        assert_eq!(share_slice(Vec::<u8>::new()).len(), 0);
        let empty = postcard::to_stdvec(&share_slice(Vec::<u64>::new())).unwrap();
        assert_eq!(postcard::from_bytes::<Shared<[u64]>>(&empty).unwrap().len(), 0);
    }

    #[test]
    fn what_is_not_here_says_so() {
        let nowhere = Shared::<u64>::handle(ShareId([9; 32]), 1);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *nowhere)).unwrap_err();
        assert!(
            panic.downcast_ref::<String>().unwrap().contains("090909090909 cannot be had: it is not here")
        );
    }
}
