//! How a process comes by a value: it shares it itself, has it from before, or reads what lies where the worker says.

use std::{
    any::TypeId,
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use cw_core::ids::ShareId;
use mmap_guard::FileData;

use super::{Shareable, Value, kept};
use crate::mapped;

/// A process keeps the values that it used last, of so many encoded bytes together, and one in any case.
const USED_BYTES: usize = 1 << 30;

/// And so many, as each may be an open file.
const USED_MAX: usize = 64;

/// Where the encoded forms of values lie, as the worker says.
static PLACES: Mutex<BTreeMap<ShareId, PathBuf>> = Mutex::new(BTreeMap::new());

/// Notes where the encoded form of a value lies, which the worker has verified. Comes before the first task that shares it.
pub(crate) fn note(id: ShareId, path: PathBuf) {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner).insert(id, path);
}

/// Which it is, how long it is when encoded, and the value.
type Used = Vec<((ShareId, TypeId), usize, Value)>;

/// Values that this process has read, the one used last at the end.
static USED: Mutex<Used> = Mutex::new(Vec::new());

/// The value of a handle, from wherever it is.
pub(super) fn value_of<T: Shareable + ?Sized>(id: ShareId) -> Result<Value, String> {
    if let Some(value) = kept::whole(id).filter(|value| T::of(value.as_ref()).is_some()) {
        return Ok(value);
    }
    // Held while it is decoded: whoever else wants it would decode it too.
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (id, TypeId::of::<T>());
    if let Some((_, _, value)) = used.last().filter(|(last, ..)| *last == key) {
        return Ok(value.clone());
    }
    if let Some(place) = used.iter().position(|(other, ..)| *other == key) {
        let entry = used.remove(place);
        used.push(entry);
    } else {
        let encoded = bytes_of(id)?;
        let bytes = encoded.len();
        used.push((key, bytes, T::read(encoded)?));
    }
    let is_much = |used: &Used| used.iter().map(|(_, bytes, _)| bytes).sum::<usize>() > USED_BYTES;
    while used.len() > USED_MAX || (used.len() > 1 && is_much(&used)) {
        used.remove(0);
    }
    let (.., value) = used.last().expect("it was just put there");
    Ok(value.clone())
}

fn bytes_of(id: ShareId) -> Result<FileData, String> {
    let noted = || PLACES.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let path = kept::kept_at(id).map(|(path, _)| path).or_else(noted).ok_or_else(nowhere)?;
    mapped::open(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn nowhere() -> String {
    "it is not here: handles are made by `cw::share` and reach a job as its arguments".to_owned()
}
