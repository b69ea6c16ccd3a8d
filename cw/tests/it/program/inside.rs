//! What a job sees of itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::until_there;

/// Task, attempt, worker, and the scratch folder with something in it.
#[cw::job(retries = 1)]
fn look(count: &Path, fail: bool) -> Result<(cw::TaskId, u32, String, PathBuf), String> {
    let ctx = cw::ctx();
    let scratch = ctx.scratch();
    assert!(fs::read_dir(&scratch).unwrap().next().is_none());
    fs::write(scratch.join("part"), "x").unwrap();
    // Also on a thread of the job's own, except where executors are threads themselves.
    let beside = std::thread::spawn(|| cw::ctx().task()).join().unwrap();
    assert!(beside == ctx.task() || beside.is_none());
    if fail && !count.exists() {
        fs::write(count, ctx.attempt().to_string()).unwrap();
        return Err("once".to_owned());
    }
    Ok((ctx.task().unwrap(), ctx.attempt(), ctx.worker(), scratch))
}

/// Leaves the name of its folder, then dies or waits until it is not wanted.
#[cw::job]
fn die(name: &Path, how: &str) {
    let scratch = cw::ctx().scratch();
    fs::write(scratch.join("part"), "x").unwrap();
    let whole = name.with_extension("new");
    fs::write(&whole, scratch.to_str().unwrap()).unwrap();
    fs::rename(whole, name).unwrap();
    if how == "abort" {
        std::process::abort();
    }
    // A process is killed here; a thread has to ask.
    while !cw::ctx().is_cancelled() {
        std::thread::yield_now();
    }
    fs::write(name.with_extension("asked"), "").unwrap();
}

/// Says how far it is, then waits for a file.
#[cw::job]
fn part_way(fail: bool, done: f64, awaited: &Path) -> Result<(), String> {
    cw::ctx().progress(done);
    until_there(awaited);
    if fail { Err("as it was told".to_owned()) } else { Ok(()) }
}

pub(crate) async fn ctx(dir: &Path) -> cw::Result<()> {
    let count = dir.join("first attempt");
    let first = cw::spawn(look, (count.as_path(), false));
    let (id, second) = (first.id(), cw::spawn(look, (count.as_path(), true)));
    let (first, second) = (first.await?, second.await?);
    assert_eq!(first.0, id);
    let attempt: u32 = fs::read_to_string(count)?.parse().unwrap();
    assert!(first.0 != second.0 && second.1 > attempt && first.3 != second.3, "{first:?} {second:?}");
    assert!(first.2.contains(':'), "{first:?}");
    assert!(!first.3.exists() && !second.3.exists(), "{first:?} {second:?}");
    Ok(())
}

/// The folders of tasks that are killed go too.
pub(crate) async fn left(dir: &Path, how: &str) {
    let name = dir.join("name");
    let handle = cw::spawn(die, (name.as_path(), how));
    if how == "cancel" {
        until_there(&name);
        handle.abort();
    }
    let error = handle.await.unwrap_err();
    assert_eq!(error.is_cancelled(), how == "cancel", "{error:?}");
    let folder = PathBuf::from(fs::read_to_string(&name).unwrap());
    crate::until("the folder is gone", || !folder.exists());
}

/// A running thread learns that it is not wanted.
pub(crate) async fn asked(dir: &Path) {
    left(dir, "cancel").await;
    until_there(&dir.join("name.asked"));
}

pub(crate) async fn progress(dir: &Path) -> cw::Result<()> {
    let open = dir.join("open");
    let inputs = [(false, 0.5), (true, 0.25)].map(|(fail, done)| (fail, done, open.as_path()));
    println!("open {}", open.display());
    let mut runs = cw::map(part_way, inputs).progress("half way").unordered();
    let mut failed = 0;
    while let Some((_, result)) = runs.next().await {
        failed += u64::from(result.is_err());
    }
    assert_eq!(failed, 1);
    // Dropped before its end.
    let endless = std::iter::repeat((false, 0.1, open.as_path()));
    let mut runs = cw::map(part_way, endless).progress("endless").unordered();
    runs.next().await.expect("it is endless").1?;
    Ok(())
}

/// The second is shown once nothing changes any more.
pub(crate) async fn progress_beside(dir: &Path) -> cw::Result<()> {
    let open = dir.join("open");
    println!("open {}", open.display());
    let inputs = || (0..4).map(|_| (false, 0.5, open.as_path()));
    let mut first = cw::map(part_way, inputs()).progress("first").unordered();
    let mut second = cw::map(part_way, inputs()).progress("second").unordered();
    // A map begins with its first read; the second one's is after the test has seen the first.
    let first = async { while first.next().await.is_some() {} };
    let second = async {
        while !dir.join("second").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        while second.next().await.is_some() {}
    };
    tokio::join!(first, second);
    Ok(())
}
