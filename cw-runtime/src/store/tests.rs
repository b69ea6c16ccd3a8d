//! A store against a list of what it should know, through runs of programs that change, and are ended at any step.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use cw_core::{
    Payload,
    client::Completion,
    ids::{Attempt, SpecIndex},
    wire::Class,
};
use proptest::prelude::*;

use super::{Call, Store, StoreAt, ToStore, hash_of};
use crate::{
    client::{
        hub::{Command, Hub},
        sink::{Sink, Slot},
    },
    job::{JobEntry, Registry, Run, Schema, Shows},
};

inventory::submit! {
    JobEntry {
        id: 1,
        path: "tests::job",
        signature: "(u8)->u8",
        version: 0,
        retries: None,
        timeout: None,
        max_bytes: 100,
        run: Run::Sync(|_, _| Ok(())),
        schema: || Schema { hash: 1, unfit: Vec::new() },
        body: 0,
        json_bytes: 0,
        shows: Shows { args: |_, _| Ok(()), result: |_, _| Ok(()) },
        file: "tests.rs",
        line: 1,
    }
}

/// The inputs of each map of a program, and after how many results it is ended; none means at its end.
#[derive(Clone, Debug)]
struct Program {
    maps: Vec<Vec<u8>>,
    killed_after: Option<usize>,
}

fn programs() -> impl Strategy<Value = Vec<Program>> {
    let maps = prop::collection::vec(prop::collection::vec(0u8..6, 0..9), 1..3);
    let program = (maps, prop::option::weighted(0.3, 0usize..8));
    let program = program.prop_map(|(maps, killed_after)| Program { maps, killed_after });
    prop::collection::vec(program, 1..6)
}

fn right(input: u8) -> Payload {
    Payload::from(vec![input, input, 7])
}

/// What came of a run: how many results were there, by input; and how many were computed and recorded.
#[derive(Debug, Default)]
struct Outcome {
    taken: BTreeMap<u8, usize>,
    recorded: BTreeMap<u8, usize>,
}

/// Runs a program on a store, and leaves a copy of the file as it is when the program ends, or is ended.
fn run(path: &Path, program: &Program, copy: &Path) -> Outcome {
    let store = Arc::clone(StoreAt::new(path).get().expect("it can be opened"));
    let hub = Arc::new(Hub::new());
    let registry = Registry::global().expect("no two jobs share an id");
    let job = registry.index_of(1).expect("it was just submitted");
    let mut outcome = Outcome::default();
    let mut left = program.killed_after.unwrap_or(usize::MAX);
    'maps: for inputs in &program.maps {
        let map = store.new_map();
        for (number, input) in inputs.iter().enumerate() {
            let (task, slot) = (hub.new_task(), Arc::new(Slot::default()));
            let args = Payload::from(vec![*input]);
            let (spec, hash, sink) = (SpecIndex(0), hash_of(&args), Sink::Slot(Arc::clone(&slot)));
            let call = Call { task, spec, job, hash, args, sink, input: Some(number as u64) };
            store.push(ToStore::Calls { hub: Arc::clone(&hub), map, calls: vec![call] });
            match next(&hub) {
                Command::Answer { completion, .. } => {
                    assert_eq!(completion.body, right(*input), "the result of another call");
                    *outcome.taken.entry(*input).or_default() += 1;
                }
                Command::Submit { ticket: Some(ticket), .. } if left > 0 => {
                    left -= 1;
                    let (class, attempt, worker) = (Class::Ok, Attempt(1), None);
                    let body = right(*input);
                    let completion = Completion {
                        class,
                        attempt,
                        attempts: 1,
                        worker,
                        micros: 5,
                        output: Payload::new(),
                        body,
                    };
                    store.push(ToStore::Record { task, ticket, completion });
                    assert!(matches!(next(&hub), Command::Recorded(tasks) if tasks == [task]));
                    *outcome.recorded.entry(*input).or_default() += 1;
                }
                Command::Submit { .. } => break 'maps,
                _ => panic!("a word that nobody asked for"),
            }
        }
    }
    if program.killed_after.is_some() {
        snapshot(path, copy);
    }
    close(path, &store);
    if program.killed_after.is_none() {
        snapshot(path, copy);
    }
    outcome
}

/// While a store cannot write it passes nothing on, and whoever waits for room waits for that.
#[test]
fn calls_that_a_store_has_not_passed_on_wait_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    close(&path, &Arc::clone(StoreAt::new(&path).get().unwrap()));
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (store, hub) = (Arc::clone(StoreAt::new(&path).get().unwrap()), Arc::new(Hub::new()));
    let job = Registry::global().unwrap().index_of(1).unwrap();
    let call = |_| {
        let (args, sink) = (Payload::from_static(&[3]), Sink::Slot(Arc::default()));
        Call { task: hub.new_task(), spec: SpecIndex(0), job, hash: hash_of(&args), args, sink, input: None }
    };
    let calls = (0..2_000).map(call).collect();
    store.push(ToStore::Calls { hub: Arc::clone(&hub), map: 0, calls });
    assert!(!hub.poll_ready(std::task::Waker::noop()));
    other.execute_batch("COMMIT").unwrap();
    (0..2_000).for_each(|_| assert!(matches!(next(&hub), Command::Submit { .. })));
    close(&path, &store);
}

/// The next thing that the store wants of the hub.
fn next(hub: &Hub) -> Command {
    loop {
        if let Some(command) = hub.take_one() {
            return command;
        }
        std::thread::yield_now();
    }
}

fn snapshot(path: &Path, copy: &Path) {
    for end in ["", "-wal"] {
        let (from, to) = (with_end(path, end), with_end(copy, end));
        let _ = fs::copy(from, to);
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

fn close(path: &Path, store: &Store) {
    if let Some(open) = super::OPEN.lock().expect("no holder panics").as_mut() {
        open.remove(&super::file::canonical(path));
    }
    store.push(ToStore::Close);
    assert!(store.inbox.wait_closed(std::time::Duration::from_secs(30)), "it ends");
}

fn occurrences(program: &Program) -> BTreeMap<u8, usize> {
    let mut inputs = BTreeMap::new();
    program.maps.iter().flatten().for_each(|input| *inputs.entry(*input).or_default() += 1);
    inputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_result_is_taken_once_and_none_is_computed_that_is_there(programs in programs()) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut known: BTreeMap<u8, usize> = BTreeMap::new();
        let mut is_simple = true;
        for (number, program) in programs.iter().enumerate() {
            let (path, copy) = (folder.path().join(number.to_string()), folder.path().join((number + 1).to_string()));
            let outcome = run(&path, program, &copy);
            // A call that has not ended has left nothing to compare the next run's with; and of two maps with equal
            // inputs the first may take what the second would have had.
            is_simple &= program.maps.len() == 1;
            for (input, wanted) in occurrences(program) {
                let there = known.get(&input).copied().unwrap_or(0);
                let taken = outcome.taken.get(&input).copied().unwrap_or(0);
                prop_assert!(taken <= there.min(wanted), "{input}: {taken} of {there} for {wanted}");
                if is_simple && program.killed_after.is_none() {
                    prop_assert_eq!(taken, there.min(wanted), "{} in run {}", input, number);
                }
            }
            for (input, more) in outcome.recorded {
                *known.entry(input).or_default() += more;
            }
            is_simple &= program.killed_after.is_none();
        }
        // The same program once more finds all of its results.
        let last = Program { killed_after: None, ..programs.last().expect("one at least").clone() };
        let at = |number: usize| folder.path().join((programs.len() + number).to_string());
        run(&at(0), &last, &at(1));
        let again = run(&at(1), &last, &at(2));
        prop_assert_eq!(again.taken, occurrences(&last));
    }
}
