//! Cached functions: computed once for each set of arguments, shared by all tasks of the process.
//!
//! A value is computed under a lock of its own arguments. So callers with equal arguments wait for one of them, and
//! others do not; and a function that is cached may call itself with other arguments. The lock over all is held for
//! look-ups only, never while user code runs, which includes dropping values.

use std::{
    any::Any,
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use serde::Serialize;

use crate::job::put_argument;

/// An argument of a cached function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a cached function",
    label = "needs serde's `Serialize`: what it becomes tells one call from another",
    note = "derive `serde::Serialize` for it"
)]
pub trait CacheArg: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> CacheArg for T {}

/// A value that a cached function computes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept by a cached function",
    label = "needs `Send`, `Sync` and `'static`: all threads of the process share it",
    note = "what only changes from within can go into a `Mutex`; what belongs to one thread cannot be cached"
)]
pub trait Cached: Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> Cached for T {}

/// The arguments of one call, as bytes.
#[derive(Debug, Default)]
pub struct CacheKey(Vec<u8>);

impl CacheKey {
    /// No arguments yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next argument.
    ///
    /// # Panics
    /// When its `Serialize` refuses the value: without a key no other call could be told from this one.
    #[track_caller]
    pub fn add<T: CacheArg + ?Sized>(&mut self, name: &'static str, value: &T) {
        if let Err(error) = put_argument(name, value, &mut self.0) {
            panic!("a cached function cannot tell its calls apart: {error}");
        }
    }

    /// Adds the next argument, which is bytes, in one piece.
    pub fn add_bytes(&mut self, name: &'static str, value: &[u8]) {
        self.add(name, serde_bytes::Bytes::new(value));
    }
}

type Key = Arc<[u8]>;
type Value = Arc<dyn Any + Send + Sync>;

/// The values of one cached function in this process.
#[derive(Debug)]
pub struct Cache {
    path: &'static str,
    /// Values to keep, at least 1.
    entries: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What is being computed, while somebody computes or waits for it.
    computing: BTreeMap<Key, Arc<Slot>>,
    /// What was computed, with the moment of its last use.
    kept: BTreeMap<Key, (u64, Value)>,
    /// The same by that moment, for finding the oldest.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

/// Where callers with equal arguments meet.
#[derive(Debug, Default)]
struct Slot {
    /// Held while the value is computed.
    value: Mutex<Option<Value>>,
    /// Who computes it.
    owner: Mutex<Option<ThreadId>>,
}

impl Cache {
    /// An empty cache of the function `path`, for so many values.
    pub const fn new(path: &'static str, entries: usize) -> Self {
        Self { path, entries, state: Mutex::new(State::new()) }
    }

    /// The value for these arguments, computed if it is not there.
    ///
    /// # Panics
    /// When `compute` does, and when it comes back here with the same arguments, for which it would wait for ever.
    #[track_caller]
    pub fn get<T: Cached>(&self, key: CacheKey, compute: impl FnOnce() -> T) -> Arc<T> {
        match self.get_or_try(key, || Ok::<T, Infallible>(compute())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The value for these arguments, computed if it is not there.
    ///
    /// # Errors
    /// That of `compute`, which is not kept: the next caller computes again.
    ///
    /// # Panics
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_or_try<T: Cached, E>(
        &self,
        key: CacheKey,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let turn = match self.find(key.0.into()) {
            Found::Kept(value) => return Ok(typed(value)),
            Found::Turn(turn) => turn,
        };
        let slot = turn.slot();
        if *lock(&slot.owner) == Some(thread::current().id()) {
            panic!("the cached function `{}` calls itself with the same arguments", self.path);
        }
        // Where one who computed it panicked there is no value, and all is as before.
        let mut value = lock(&slot.value);
        if let Some(value) = &*value {
            return Ok(typed(Arc::clone(value)));
        }
        let owner = Owner::of(slot);
        let computed = Arc::new(compute()?);
        drop(owner);
        let shared: Value = Arc::clone(&computed) as Value;
        *value = Some(Arc::clone(&shared));
        drop(value);
        self.keep(&turn.key, shared);
        Ok(computed)
    }

    fn find(&self, key: Key) -> Found<'_> {
        let mut state = lock(&self.state);
        if let Some(value) = state.touch(&key) {
            return Found::Kept(value);
        }
        let slot = Arc::clone(state.computing.entry(Arc::clone(&key)).or_default());
        Found::Turn(Turn { cache: self, key, slot: Some(slot) })
    }

    fn keep(&self, key: &Key, value: Value) {
        let mut state = lock(&self.state);
        state.computing.remove(key);
        state.insert(key, value);
        let mut dropped = Vec::new();
        while state.kept.len() > self.entries {
            dropped.extend(state.remove_oldest());
        }
        drop(state);
        drop(dropped);
    }
}

impl State {
    const fn new() -> Self {
        Self { computing: BTreeMap::new(), kept: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// The value, used now.
    fn touch(&mut self, key: &Key) -> Option<Value> {
        let (used, value) = self.kept.get_mut(key)?;
        self.uses += 1;
        let before = std::mem::replace(used, self.uses);
        let key = self.by_use.remove(&before).expect("both maps hold the same keys");
        self.by_use.insert(self.uses, key);
        Some(Arc::clone(value))
    }

    fn insert(&mut self, key: &Key, value: Value) {
        self.uses += 1;
        self.kept.insert(Arc::clone(key), (self.uses, value));
        self.by_use.insert(self.uses, Arc::clone(key));
    }

    fn remove_oldest(&mut self) -> Option<(u64, Value)> {
        let (_, key) = self.by_use.pop_first()?;
        self.kept.remove(&key)
    }
}

enum Found<'a> {
    Kept(Value),
    Turn(Turn<'a>),
}

/// A caller's place among those who want the same value.
struct Turn<'a> {
    cache: &'a Cache,
    key: Key,
    /// There until the drop.
    slot: Option<Arc<Slot>>,
}

impl Turn<'_> {
    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("only the drop takes it")
    }
}

/// The last to leave a slot without a value takes it out.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let slot = self.slot.take().expect("dropped once");
        let mut state = lock(&self.cache.state);
        // Callers come and go under this lock only, so the count is exact: this one, and the map's.
        if state.computing.get(&self.key).is_some_and(|shared| Arc::ptr_eq(shared, &slot))
            && Arc::strong_count(&slot) == 2
        {
            state.computing.remove(&self.key);
        }
        // Its value, if it is the last reference to one, is dropped outside of the lock.
        let last = Arc::into_inner(slot);
        drop(state);
        drop(last);
    }
}

/// Marks a slot as computed by this thread until it is dropped.
struct Owner<'a>(&'a Slot);

impl<'a> Owner<'a> {
    fn of(slot: &'a Slot) -> Self {
        *lock(&slot.owner) = Some(thread::current().id());
        Self(slot)
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        *lock(&self.0.owner) = None;
    }
}

fn typed<T: Cached>(value: Value) -> Arc<T> {
    value.downcast().expect("a function has one return type")
}

/// What a lock protects here is whole at any time, so a panic under it breaks nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Barrier,
            atomic::{AtomicU32, Ordering},
            mpsc,
        },
    };

    use super::*;

    fn key(n: u64) -> CacheKey {
        let mut key = CacheKey::new();
        key.add("n", &n);
        key
    }

    fn is_idle(cache: &Cache) -> bool {
        lock(&cache.state).computing.is_empty()
    }

    #[test]
    fn a_value_is_computed_once_and_shared() {
        let cache = Cache::new("app::model", 16);
        let first = cache.get(key(1), || "one".to_owned());
        let again = cache.get(key(1), || -> String { unreachable!("it is there") });
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(*cache.get(key(2), || "two".to_owned()), "two");
        assert!(is_idle(&cache));
    }

    #[test]
    fn arguments_do_not_run_together() {
        let key = |parts: [&str; 2]| {
            let mut key = CacheKey::new();
            parts.iter().for_each(|part| key.add("part", *part));
            key.add_bytes("bytes", b"\0");
            key
        };
        let cache = Cache::new("app::join", 16);
        assert_eq!(*cache.get(key(["ab", "c"]), || 1), 1);
        assert_eq!(*cache.get(key(["a", "bc"]), || 2), 2);
        assert_eq!(*cache.get(key(["ab", "c"]), || 3), 1);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Cache::new("app::model", 2);
        for n in [1, 2, 1, 3] {
            cache.get(key(n), || n);
        }
        let mut computed = Vec::new();
        for n in [1, 3, 2] {
            let compute = || {
                computed.push(n);
                n
            };
            assert_eq!(*cache.get(key(n), compute), n);
        }
        assert_eq!(computed, [2], "1 was used after 2");
        let state = lock(&cache.state);
        assert_eq!((state.kept.len(), state.by_use.len()), (2, 2));
    }

    #[test]
    fn callers_with_equal_arguments_wait_for_one() {
        let cache = Cache::new("app::model", 16);
        let (computed, start) = (AtomicU32::new(0), Barrier::new(8));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let value = cache.get(key(1), || {
                        thread::yield_now();
                        computed.fetch_add(1, Ordering::Relaxed)
                    });
                    assert_eq!(*value, 0);
                });
            }
        });
        assert_eq!(computed.load(Ordering::Relaxed), 1);
        assert!(is_idle(&cache));
    }

    #[test]
    fn others_do_not_wait() {
        let cache = Cache::new("app::model", 16);
        let (go_on, wait) = mpsc::channel();
        let (tell, began) = mpsc::channel();
        thread::scope(|scope| {
            let cache = &cache;
            let value = move || {
                tell.send(()).unwrap();
                wait.recv().unwrap();
                1
            };
            let held = scope.spawn(move || *cache.get(key(1), value));
            began.recv().unwrap();
            assert_eq!(*cache.get(key(2), || 2), 2);
            go_on.send(()).unwrap();
            assert_eq!(held.join().unwrap(), 1);
        });
    }

    #[test]
    fn errors_and_panics_are_not_kept_and_break_nothing() {
        let cache = Cache::new("app::model", 16);
        assert_eq!(cache.get_or_try(key(1), || Err::<u8, _>("no disk")), Err("no disk"));
        let panicked = catch_unwind(AssertUnwindSafe(|| cache.get(key(1), || -> u8 { panic!("no luck") })));
        assert!(panicked.is_err());
        assert!(is_idle(&cache), "nobody waits for it");
        assert_eq!(cache.get_or_try(key(1), || Ok::<u8, &str>(7)).as_deref(), Ok(&7));
        assert_eq!(*cache.get(key(1), || -> u8 { unreachable!("it is there") }), 7);
    }

    #[test]
    fn one_who_waits_computes_when_the_first_has_failed() {
        let cache = Cache::new("app::model", 16);
        let (tell, began) = mpsc::channel();
        thread::scope(|scope| {
            let cache = &cache;
            let failing = move || {
                tell.send(()).unwrap();
                // Until the other waits: it then holds the third reference.
                while Arc::strong_count(lock(&cache.state).computing.values().next().unwrap()) < 3 {
                    thread::yield_now();
                }
                Err::<u8, _>("no disk")
            };
            let first = scope.spawn(move || cache.get_or_try(key(1), failing));
            began.recv().unwrap();
            assert_eq!(cache.get_or_try(key(1), || Ok::<u8, &str>(7)).as_deref(), Ok(&7));
            assert_eq!(first.join().unwrap(), Err("no disk"));
        });
        assert!(is_idle(&cache));
    }

    #[test]
    fn it_may_call_itself_with_other_arguments() {
        static SUMS: Cache = Cache::new("app::sum", 64);
        fn sum(n: u64) -> u64 {
            *SUMS.get(key(n), || if n == 0 { 0 } else { n + sum(n - 1) })
        }
        assert_eq!(sum(30), 465);
        static LOOPS: Cache = Cache::new("app::endless", 64);
        fn endless(n: u64) -> u64 {
            *LOOPS.get(key(n), || endless(n))
        }
        let panic = catch_unwind(|| endless(1)).unwrap_err();
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.contains("`app::endless` calls itself with the same arguments"), "{text}");
        assert!(is_idle(&LOOPS));
    }

    #[test]
    fn a_value_that_uses_the_cache_when_it_is_dropped_does_not_hang() {
        static CACHE: Cache = Cache::new("app::model", 1);
        struct Uses;
        impl Drop for Uses {
            fn drop(&mut self) {
                CACHE.get(key(9), || 9u64);
            }
        }
        CACHE.get(key(1), || Uses);
        CACHE.get(key(2), || 2u64);
        assert_eq!(*CACHE.get(key(9), || 0u64), 9);
    }

    #[test]
    #[should_panic(expected = "argument `x` of type")]
    fn an_argument_that_cannot_be_written_down_is_told() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        CacheKey::new().add("x", &Refuses);
    }
}
