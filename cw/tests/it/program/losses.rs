//! Tasks whose workers, masters and clients go away and come back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cw::{TaskErrorKind, TaskHandle};

use crate::{
    jobs::{nap, slay as slay_worker, take},
    until,
};

/// The arguments of `hold`.
type Call<'a> = (&'a Path, &'a Path, &'a Path, usize);

/// Says where the files are, when all run, how each ended and how often it ran. Nobody but the test opens.
pub(crate) async fn held(
    dir: &Path,
    count: usize,
    spawn: impl Fn(Call<'_>) -> TaskHandle<usize>,
) -> cw::Result<()> {
    let [begun, open, ended] = ["begun", "open", "ended"].map(|name| dir.join(name));
    println!("dir {}", dir.display());
    let calls: Vec<_> = (0..count).map(|n| spawn((&begun, &open, &ended, n))).collect();
    until("all run", || lines(&begun).len() >= count);
    println!("all run");
    for (n, call) in calls.into_iter().enumerate() {
        match call.await {
            Ok(result) => println!("{n} gave {result}"),
            Err(error) => println!("{n} failed: {error}"),
        }
    }
    for n in 0..count {
        let runs = lines(&begun).iter().filter(|line| **line == n.to_string()).count();
        println!("{n} ran {runs} times");
    }
    Ok(())
}

/// Says how often each of some tasks began.
pub(crate) async fn slow(dir: &Path, count: usize, millis: u64) -> cw::Result<()> {
    let begun = dir.join("begun");
    let calls: Vec<_> = (0..count).map(|n| cw::spawn(take, (begun.as_path(), n, millis))).collect();
    for call in calls {
        let n = call.await?;
        let runs = lines(&begun).iter().filter(|line| **line == n.to_string()).count();
        println!("{n} ran {runs} times");
    }
    Ok(())
}

fn lines(file: &PathBuf) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Three workers die, and nobody else has a loss.
pub(crate) async fn slay(dir: &Path) -> cw::Result<()> {
    let marks = dir.join("marks");
    let error = cw::spawn(slay_worker, marks.as_path());
    let naps = cw::map(nap, 0..300);
    let (error, naps) = tokio::join!(error, naps);
    assert_eq!(naps?, (0..300).collect::<Vec<u64>>());
    let error = error.unwrap_err();
    let TaskErrorKind::Lost { workers } = error.kind() else { panic!("{error:?}") };
    assert_eq!(workers.len(), 3, "{error}");
    println!("it ran {} times; {error}", fs::metadata(&marks)?.len());
    Ok(())
}
