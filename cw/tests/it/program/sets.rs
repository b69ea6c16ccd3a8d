//! Sets of calls, and calls that wait for room.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    path::Path,
    pin::pin,
    task::{Context, Waker},
};

use cw::TaskSet;

use crate::{
    jobs::{Odd, gate, halve, nap, quick, square},
    until_there,
};

/// What the master takes at once, and how far beyond that `ready` lets a program go.
const WINDOW: usize = 16_384;
const BEYOND: usize = 1_024;

/// A task that holds a slot until `open` is there.
fn hold(dir: &Path, name: &str) -> cw::TaskHandle<()> {
    let made = dir.join(format!("made {name}"));
    let held = cw::spawn(gate, (made.as_path(), dir.join("open").as_path()));
    until_there(&made);
    held
}

pub(crate) async fn hold_for_ever(dir: &Path) -> cw::Result<()> {
    let held = hold(dir, "a");
    println!("it runs");
    Ok(held.await?)
}

pub(crate) async fn set(dir: &Path) -> cw::Result<()> {
    let mut set = TaskSet::new();
    assert!(set.is_empty() && set.join_next().await.is_none() && set.try_join_next().is_none());
    let ids: BTreeSet<_> = (0..20).map(|n| set.spawn(halve, n)).collect();
    let urgent = cw::options().priority(1);
    let extra = set.spawn_with(&urgent, square, 7);
    assert_eq!((set.len(), ids.len()), (21, 20));
    let (mut joined, mut odd, mut sum) = (BTreeSet::new(), 0, 0);
    while let Some((id, result)) = set.join_next_with_id().await {
        assert!(joined.insert(id));
        match result {
            Ok(value) => sum += value,
            Err(error) => {
                let Some(Odd { n }) = error.downcast() else { panic!("{error:?}") };
                assert!(error.task() == id && n % 2 == 1);
                odd += 1;
            }
        }
    }
    assert_eq!((sum, odd), (45 + 49, 10));
    assert_eq!(joined, ids.into_iter().chain([extra]).collect());
    abort_detach_and_drop(dir).await
}

async fn abort_detach_and_drop(dir: &Path) -> cw::Result<()> {
    let mut set = TaskSet::new();
    let never = dir.join("never");
    let aborted = dir.join("aborted");
    set.spawn(gate, (aborted.as_path(), never.as_path()));
    until_there(&aborted);
    set.abort_all();
    while let Some(result) = set.join_next().await {
        assert!(result.unwrap_err().is_cancelled());
    }
    // A set that is dropped cancels; one that was emptied does not.
    let (dropped, detached) = (dir.join("dropped"), dir.join("detached"));
    set.spawn(gate, (dropped.as_path(), never.as_path()));
    until_there(&dropped);
    drop(set);
    let mut set = TaskSet::new();
    set.spawn(gate, (detached.as_path(), dropped.as_path()));
    set.detach_all();
    assert!(set.is_empty());
    drop(set);
    until_there(&detached);
    assert_eq!(cw::map(nap, 0..4).await?, [0, 1, 2, 3]);
    // Threads that cannot be killed go on until now.
    Ok(fs::write(never, "")?)
}

pub(crate) async fn ready(dir: &Path) -> cw::Result<()> {
    let held = [hold(dir, "a"), hold(dir, "b")];
    let mut set = TaskSet::new();
    // Not ready may mean that the client's thread is behind; still not when it has caught up, that there is no room.
    loop {
        if !is_ready(&mut cw::ready()) {
            settle().await;
            if !is_ready(&mut cw::ready()) {
                break;
            }
        }
        set.spawn(quick, (1, None));
    }
    let taken = set.len();
    assert!((WINDOW..=WINDOW + 2 * BEYOND).contains(&taken), "{taken} calls until it was not ready");
    assert!(!is_ready(&mut set.spawn_when_ready(quick, (1, None))));
    assert_eq!(set.len(), taken);
    fs::write(dir.join("open"), "")?;
    cw::ready().await;
    set.spawn_when_ready(quick, (1, None)).await;
    let mut sum = 0;
    while let Some(result) = set.join_next().await {
        sum += result?;
    }
    assert_eq!(sum, taken as u64 + 1);
    for held in held {
        held.await?;
    }
    Ok(())
}

fn is_ready(future: &mut (impl Future + Unpin)) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Bytes of this process's memory for each task that waits for room, beside its arguments.
pub(crate) async fn backlog(dir: &Path) -> cw::Result<()> {
    const TASKS: u64 = 200_000;
    let _held = [hold(dir, "a"), hold(dir, "b")];
    (0..2 * WINDOW as u64).for_each(|n| drop(cw::spawn(quick, (n, None))));
    settle().await;
    let before = resident()?;
    let handles: Vec<_> = (0..TASKS).map(|n| cw::spawn(quick, (n, None))).collect();
    settle().await;
    let with_handles = resident()?;
    for n in 0..TASKS {
        cw::submit(quick, (n, None), |_, _| {});
    }
    settle().await;
    let with_callbacks = resident()?;
    let (handle, callback) = ((with_handles - before) / TASKS, (with_callbacks - with_handles) / TASKS);
    println!("{handle} B a handle, {callback} B a callback");
    assert!(handle <= 200 + 4 && callback <= 200 + 4, "a call that waits is small");
    handles.iter().for_each(cw::TaskHandle::abort);
    Ok(fs::write(dir.join("open"), "")?)
}

/// Waits until the client's thread has taken over and counted what was submitted before: it answers in order, and
/// counts before it goes on to a second call.
async fn settle() {
    for _ in 0..2 {
        let handle = cw::spawn(quick, (0, None));
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
    }
}

fn resident() -> cw::Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(resident.expect("statm has seven numbers") * 4_096)
}
