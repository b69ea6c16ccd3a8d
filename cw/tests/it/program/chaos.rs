//! A run that goes on where it was killed: results are in a file, and what is there is not computed again.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
};

/// Some work, a little or more of it. Each run leaves a line in a file.
#[cw::job]
pub(crate) fn work(n: u64, runs: &Path) -> (u64, u64) {
    append(runs).write_all(format!("{n}\n").as_bytes()).expect("the test's folder can be written to");
    let millis = match n % 16 {
        0..4 => 0,
        15 if n % 512 == 15 => 300,
        rest => rest,
    };
    std::thread::sleep(Duration::from_millis(millis));
    (n, n.wrapping_mul(n) ^ 0x5bd1)
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("the test's folder can be written to")
}

/// What a former life of this program has recorded. A line that its death cut short is cut off.
fn recorded(results: &Path) -> BTreeSet<u64> {
    let text = fs::read_to_string(results).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    append(results).set_len(whole as u64).expect("the test's folder can be written to");
    let number = |line: &str| line.split(' ').next().and_then(|n| n.parse().ok());
    text[..whole].lines().filter_map(number).collect()
}

/// Runs until a file says that it is enough.
pub(crate) async fn chaos(dir: &Path) -> cw::Result<()> {
    let (runs, stop, results) = (dir.join("runs"), dir.join("stop"), dir.join("results"));
    let done = recorded(&results);
    let least = done.last().map_or(0, |last| last + 1);
    let mut file = append(&results);
    // A look at the disk for each would be most of the work.
    let goes_on = |n: &u64| *n < least || !n.is_multiple_of(64) || !stop.exists();
    let mut total = 0;
    let todo = (0..).take_while(goes_on).inspect(|n| total = n + 1).filter(|n| !done.contains(n));
    let mut all = cw::map(work, todo.map(|n| (n, runs.as_path()))).unordered();
    let mut yielded = BTreeSet::new();
    while let Some((index, result)) = all.next().await {
        let (n, value) = result?;
        assert!(yielded.insert(index), "{index} was yielded twice");
        file.write_all(format!("{n} {value}\n").as_bytes())?;
    }
    drop(all);
    fs::write(dir.join("total"), total.to_string())?;
    Ok(())
}
