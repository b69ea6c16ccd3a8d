//! Values that tasks share: kept once by their client, brought once to each node, decoded once by each executor.
//!
//! A handle travels as the hash of the encoded value. While arguments are encoded, a note is made of the handles among
//! them (`begin`, `taken`), so that the call says what its task shares; a worker has that before the task begins, and
//! tells the executor where it lies (`note`). The value is decoded when the job first looks at it.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Write},
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use cw_core::ids::ShareId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{blobs::Outline, executor::scratch, job::put_argument};

/// An executor keeps the decoded values that it used last, of so many encoded bytes together, and one in any case.
const DECODED_BYTES: usize = 1 << 30;

/// A value that many tasks share: a small handle, whatever the size of the value.
///
/// Made by [`share`]. A job takes it as an argument (`data: cw::Shared<Vec<f64>>` or `data: &cw::Shared<Vec<f64>>`) and
/// uses it as a `&T`. Clones are handles of the same value.
///
/// # Panics
/// Looking at the value panics in a job if its bytes cannot be read on that node any more, or are no such value.
pub struct Shared<T> {
    id: ShareId,
    bytes: u64,
    value: OnceLock<Arc<T>>,
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
/// Each executor decodes it once. Its encoded form is kept in `$TMPDIR/cw-UID` by this program until its end, and by the
/// workers that were sent it until then. It cannot hold handles of other shared values.
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
    assert!(taken().is_empty(), "a shared value cannot hold the handle of another: pass both to the job");
    let (blob, outline) = Outline::of(&encoded[..]).expect("it is read from memory");
    let id = ShareId(blob.0);
    let value = Arc::new(value);
    let whole = Arc::clone(&value) as Arc<dyn Any + Send + Sync>;
    // Not under the lock: others, and the client's network, ask for what was shared before.
    let path = if is_kept(id) { None } else { Some(keep(id, &encoded)) };
    let mut kept = kept();
    let entry = kept.entry(id).or_insert_with(|| {
        let path = path.unwrap_or_else(|| keep(id, &encoded));
        let path = path.unwrap_or_else(|error| panic!("a shared value cannot be kept: {error}"));
        Kept { path, outline: Arc::new(outline), whole: Weak::<()>::new() }
    });
    entry.whole = Arc::downgrade(&whole);
    drop(kept);
    Shared { id, bytes: encoded.len() as u64, value: OnceLock::from(value) }
}

/// What this process shares.
struct Kept {
    /// Where its encoded form lies.
    path: PathBuf,
    outline: Arc<Outline>,
    /// The value, as long as there is a handle of it.
    whole: Weak<dyn Any + Send + Sync>,
}

fn kept() -> MutexGuard<'static, BTreeMap<ShareId, Kept>> {
    static KEPT: Mutex<BTreeMap<ShareId, Kept>> = Mutex::new(BTreeMap::new());
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_kept(id: ShareId) -> bool {
    kept().contains_key(&id)
}

/// Puts an encoded value into a file of this process's.
fn keep(id: ShareId, encoded: &[u8]) -> io::Result<PathBuf> {
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

/// Where the encoded form of a value lies that this process shares, and its outline.
pub(crate) fn kept_at(id: ShareId) -> Option<(PathBuf, Arc<Outline>)> {
    kept().get(&id).map(|kept| (kept.path.clone(), Arc::clone(&kept.outline)))
}

/// Removes what this process shared, at its end.
pub(crate) fn close() {
    for (_, kept) in std::mem::take(&mut *kept()) {
        let _ = std::fs::remove_file(kept.path);
    }
}

thread_local! {
    /// Handles that were encoded on this thread since [`begin`].
    static ENCODED: RefCell<Vec<ShareId>> = const { RefCell::new(Vec::new()) };
}

/// Arguments are about to be encoded.
pub(crate) fn begin() {
    ENCODED.with_borrow_mut(Vec::clear);
}

/// What was among them, in order, each once.
pub(crate) fn taken() -> Vec<ShareId> {
    ENCODED.with_borrow_mut(|encoded| {
        if encoded.is_empty() {
            return Vec::new();
        }
        encoded.sort_unstable();
        encoded.dedup();
        std::mem::take(encoded)
    })
}

/// Where the encoded forms of values lie, as the worker says.
static PLACES: Mutex<BTreeMap<ShareId, PathBuf>> = Mutex::new(BTreeMap::new());

/// Notes where the encoded form of a value lies. Comes before the first task that shares it.
pub(crate) fn note(id: ShareId, path: PathBuf) {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner).insert(id, path);
}

/// Which it is, how long it is when encoded, and the value.
type Decoded = Vec<((ShareId, TypeId), usize, Arc<dyn Any + Send + Sync>)>;

/// Values that this process has decoded, the one used last at the end.
static DECODED: Mutex<Decoded> = Mutex::new(Vec::new());

/// The value of a handle, from wherever it is.
fn value_of<T: DeserializeOwned + Send + Sync + 'static>(id: ShareId) -> Result<Arc<T>, String> {
    let whole = kept().get(&id).and_then(|kept| kept.whole.upgrade());
    if let Some(Ok(value)) = whole.map(Arc::downcast::<T>) {
        return Ok(value);
    }
    // Held while it is decoded: whoever else wants it would decode it too.
    let mut decoded = DECODED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (id, TypeId::of::<T>());
    if let Some(place) = decoded.iter().position(|(other, ..)| *other == key) {
        let entry = decoded.remove(place);
        let value = Arc::clone(&entry.2);
        decoded.push(entry);
        return value.downcast::<T>().map_err(|_| "it is of another type".to_owned());
    }
    let encoded = bytes_of(id)?;
    let bytes = encoded.len();
    let value: Arc<T> = Arc::new(postcard::from_bytes(&encoded).map_err(|error| error.to_string())?);
    drop(encoded);
    decoded.push((key, bytes, Arc::clone(&value) as Arc<dyn Any + Send + Sync>));
    while decoded.len() > 1 && decoded.iter().map(|(_, bytes, _)| bytes).sum::<usize>() > DECODED_BYTES {
        decoded.remove(0);
    }
    Ok(value)
}

fn bytes_of(id: ShareId) -> Result<Vec<u8>, String> {
    let path = match kept_at(id) {
        Some((path, _)) => path,
        None => {
            PLACES.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().ok_or_else(nowhere)?
        }
    };
    let mut bytes = Vec::new();
    // Opened anew, so that nobody else's place in the file matters.
    let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    if ShareId(*blake3::hash(&bytes).as_bytes()) != id {
        return Err(format!("{}: it is damaged", path.display()));
    }
    Ok(bytes)
}

fn nowhere() -> String {
    "it is not here: handles are made by `cw::share` and reach a job as its arguments".to_owned()
}

impl<T> Shared<T> {
    /// How many bytes its encoded form has.
    pub fn encoded_bytes(&self) -> u64 {
        self.bytes
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.get_or_init(|| {
            value_of(self.id)
                .unwrap_or_else(|why| panic!("the shared value {} cannot be had: {why}", self.id))
        })
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, bytes: self.bytes, value: self.value.clone() }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({}, {} bytes)", self.id, self.bytes)
    }
}

impl<T> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.with_borrow_mut(|encoded| encoded.push(self.id));
        let word = |at: usize| {
            let bytes = self.id.0[at * 8..].first_chunk().expect("a hash has four words");
            u64::from_le_bytes(*bytes)
        };
        Handle { hash: [word(0), word(1), word(2), word(3)], bytes: self.bytes }.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Handle { hash, bytes } = Handle::deserialize(deserializer)?;
        let mut id = [0; 32];
        id.chunks_exact_mut(8).zip(hash).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_le_bytes()));
        Ok(Self { id: ShareId(id), bytes, value: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_small_and_leads_to_the_value() {
        let shared = share(vec![7u64; 10_000]);
        begin();
        let handle = postcard::to_stdvec(&(&shared, shared.clone())).unwrap();
        assert!(handle.len() < 120, "{} bytes", handle.len());
        assert_eq!(taken(), [shared.id]);
        assert!(taken().is_empty());
        let (one, _): (Shared<Vec<u64>>, Shared<Vec<u64>>) = postcard::from_bytes(&handle).unwrap();
        assert_eq!(one.len(), 10_000);
        assert!(Arc::ptr_eq(one.value.get().unwrap(), shared.value.get().unwrap()), "no copy in one process");
        drop(shared);
        let again: Shared<Vec<u64>> = postcard::from_bytes(&handle[..handle.len() / 2]).unwrap();
        assert_eq!(again[9_999], 7, "decoded anew");
    }

    #[test]
    fn what_is_not_here_says_so() {
        let nowhere = Shared::<u64> { id: ShareId([9; 32]), bytes: 1, value: OnceLock::new() };
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *nowhere)).unwrap_err();
        assert!(
            panic.downcast_ref::<String>().unwrap().contains("090909090909 cannot be had: it is not here")
        );
    }
}
