//! Logs of workers, a file for each job: the oldest go, or there would be ever more.

use std::{collections::BTreeSet, fs, io, path::Path, time::SystemTime};

/// So many are kept beside those of jobs that Slurm still knows.
const KEPT: usize = 200;

/// So many go at once: each may be a word with a server far away.
pub(crate) const REMOVED_MAX: usize = 1_000;

/// The name of a job's log, as [`script`](super::script) has Slurm name it.
pub(super) fn name(id: &str) -> String {
    format!("slurm-{id}.log")
}

/// Removes the oldest. Those of jobs that Slurm still knows stay: they run, or why they failed is still told from them.
/// Gives how many went.
///
/// # Errors
/// In the system's words; others may have gone before.
pub(crate) fn prune(folder: &Path, known: &BTreeSet<&str>) -> io::Result<usize> {
    let mut old: Vec<(SystemTime, String)> = Vec::new();
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = names.filter(|name| is_of_other(name, known)).collect();
    if names.len() <= KEPT {
        return Ok(0);
    }
    for name in names {
        // One that is gone is none to remove.
        if let Ok(time) = fs::metadata(folder.join(&name)).and_then(|found| found.modified()) {
            old.push((time, name));
        }
    }
    old.sort_unstable();
    old.truncate(old.len().saturating_sub(KEPT).min(REMOVED_MAX));
    old.iter().try_for_each(|(_, name)| remove(&folder.join(name)))?;
    Ok(old.len())
}

/// One that somebody else has removed is gone as well.
fn remove(log: &Path) -> io::Result<()> {
    match fs::remove_file(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether it is the log of a job, of none of these.
fn is_of_other(file: &str, known: &BTreeSet<&str>) -> bool {
    let id = file.strip_prefix("slurm-").and_then(|rest| rest.strip_suffix(".log"));
    id.is_some_and(|id| !known.contains(id) && id.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    fn write(folder: &Path, name: &str, age: u64) {
        let file = File::create(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    #[test]
    fn the_newest_are_kept_and_those_that_are_still_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // The higher the number the older: numbers begin anew.
        for id in 0..KEPT + 10 {
            write(folder, &name(&format!("{id}_1")), 1_000 + id as u64);
        }
        for foreign in ["master.log", "slurm-notes.txt", "slurm-.log", "slurm-mine.log"] {
            write(folder, foreign, 1_000_000);
        }
        let oldest = [KEPT + 9, KEPT + 8].map(|id| format!("{id}_1"));
        let known: BTreeSet<&str> = oldest.iter().map(String::as_str).collect();
        assert_eq!(prune(folder, &known).unwrap(), 8);
        let is_there = |id: usize| folder.join(name(&format!("{id}_1"))).exists();
        assert!((0..KEPT).all(is_there) && !(KEPT..KEPT + 8).any(is_there));
        assert!(is_there(KEPT + 8) && is_there(KEPT + 9) && folder.join("slurm-mine.log").exists());
        assert_eq!(prune(folder, &known).unwrap(), 0);
        assert_eq!(prune(folder, &BTreeSet::new()).unwrap(), 2);
        assert_eq!(fs::read_dir(folder).unwrap().count(), KEPT + 4);
    }

    #[test]
    fn one_that_is_gone_already_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("slurm-7.log")).unwrap();
        fs::create_dir(folder.path().join("slurm-8.log")).unwrap();
        assert!(remove(&folder.path().join("slurm-8.log")).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(prune(Path::new("/no/such/folder"), &BTreeSet::new()).is_err());
    }
}
