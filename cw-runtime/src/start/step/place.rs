//! Where the ranks of a run meet: a cluster's folder, in which each notes that it has come.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{LOOK_PAUSE, parent::is_of_parent};
use crate::{
    access::{AccessError, ClusterDir, lock::FolderLock, role},
    exit::{self, Trouble},
    flag::flag,
    net::tls::Peer,
};

/// How long a run that is over waits for ranks that have not come yet.
const LATE_WAIT: Duration = Duration::from_secs(5);

/// How long a run that begins waits for what tidies up after an earlier one.
const TIDY_WAIT: Duration = Duration::from_secs(5);

/// Folders that nobody has removed are removed by other runs after so long.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often the first rank shows that it still runs.
pub(super) const TOUCH_EVERY: Duration = Duration::from_secs(60 * 60);

/// The file whose lock the first rank holds, and whoever removes the folder.
const LOCK: &str = "step.lock";

/// What a folder's name begins with that is being removed: no cluster has such a name.
const REMOVED: &str = ".removed-";

/// The file that says that a run is over.
const OVER: &str = "over";

/// Where the ranks of a run meet.
pub(super) struct Place {
    pub(super) folder: ClusterDir,
    /// The ranks that have to come.
    pub(super) others: Range<u32>,
}

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes it, without anything of an earlier run. It is the caller's as long as the lock is kept.
    pub(super) fn begin(&self) -> Result<FolderLock, Trouble> {
        let start = Instant::now();
        loop {
            match self.try_begin() {
                Ok(Attempt::Begun(lock)) => return Ok(lock),
                Ok(Attempt::Later) if start.elapsed() < TIDY_WAIT => {}
                Ok(_) => return Err(self.in_use()),
                // It was removed just now.
                Err(error) if error.is_missing() && start.elapsed() < TIDY_WAIT => {}
                Err(error) => return Err(error.into()),
            }
            thread::sleep(LOOK_PAUSE);
        }
    }

    fn try_begin(&self) -> Result<Attempt, AccessError> {
        self.folder.make()?;
        let lock = match self.folder.hold(LOCK)? {
            Ok(lock) => lock,
            Err(noted) if noted.is_empty() => return Ok(Attempt::Later),
            Err(_) => return Ok(Attempt::InUse),
        };
        // One whose first rank was killed is about to end.
        if self.folder.has_live_master() {
            return Ok(Attempt::Later);
        }
        lock.note("srun");
        self.clear(|name| name == LOCK);
        self.folder.make()?;
        self.sweep();
        Ok(Attempt::Begun(lock))
    }

    fn in_use(&self) -> Trouble {
        let (path, threads) = (self.folder.path().display(), flag("threads"));
        let line = format!(
            "another program of this step runs already under srun, with {path}: start the second with flags (as {threads}), \
             or in a step of its own"
        );
        Trouble::new(exit::ACCESS, line)
    }

    /// Notes that a rank has come.
    pub(super) fn note(&self, rank: u32) {
        // If it cannot be noted, the end waits for it a while.
        let _ = fs::write(self.file(&format!("rank-{rank}")), "");
    }

    fn all_came(&self) -> bool {
        self.others.clone().all(|rank| self.file(&format!("rank-{rank}")).exists())
    }

    pub(super) fn is_marked_over(&self) -> bool {
        self.file(OVER).exists()
    }

    /// Whether the run is over, for a rank that has seen its beginning.
    pub(super) fn is_over(&self) -> bool {
        role::is_gone(&self.folder.access_file(Peer::Worker))
    }

    pub(super) async fn wait_for_late_ranks(&self) {
        let start = Instant::now();
        while !self.all_came() && start.elapsed() < LATE_WAIT {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Ends it: what is left, if some have not come, tells them that they are too late.
    pub(super) fn end(&self, lock: FolderLock) {
        if !self.all_came() && fs::write(self.file(OVER), "").is_ok() {
            self.clear(|name| name == LOCK || name == OVER || name.starts_with("rank-"));
        }
        if self.all_came() {
            return remove(self.folder.path(), lock);
        }
        drop(lock);
        // The last of them may just have come, and left it to the one with the lock.
        self.remove_if_all_came();
    }

    /// Ends it in place of a first rank that was killed, unless another run has begun here.
    pub(super) fn end_for_dead(&self) {
        let start = Instant::now();
        while start.elapsed() < TIDY_WAIT {
            match self.folder.hold(LOCK) {
                Ok(Ok(lock)) => return self.end(lock),
                // Another one does the same, or the dead has not let go of it yet.
                Ok(Err(noted)) if noted.is_empty() || is_of_parent(&noted) => thread::sleep(LOOK_PAUSE),
                _ => return,
            }
        }
    }

    pub(super) fn remove_if_all_came(&self) {
        if self.all_came() {
            self.remove_if_free(|| self.all_came());
        }
    }

    /// Removes it, if nobody has its lock and this holds then.
    pub(super) fn remove_if_free(&self, is_still: impl FnOnce() -> bool) {
        if let Ok(Ok(lock)) = self.folder.hold(LOCK)
            && is_still()
        {
            remove(self.folder.path(), lock);
        }
    }

    /// Removes all but what is to stay.
    fn clear(&self, stays: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            if !stays(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
            }
        }
    }

    /// Removes what earlier runs have left: for ranks that never came, or as all of them were killed.
    fn sweep(&self) {
        let Some(home) = self.folder.path().parent() else { return };
        for entry in fs::read_dir(home).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str().filter(|_| is_old(&path)) else { continue };
            if name.strip_prefix(REMOVED).is_some_and(is_of_step) {
                let _ = fs::remove_dir_all(&path);
            } else if is_of_step(name)
                && (path.join(LOCK).exists() || path.join(OVER).exists())
                && let Ok(folder) = ClusterDir::in_home(home, name)
            {
                let place = Self { folder, others: 0..0 };
                place.remove_if_free(|| !place.folder.has_live_master());
            }
        }
    }
}

/// What has come of trying to begin.
enum Attempt {
    Begun(FolderLock),
    InUse,
    /// Somebody tidies up.
    Later,
}

/// Removes a folder at once for all who look for it, so that nothing of another run that begins there is removed.
fn remove(path: &Path, lock: FolderLock) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let away = path.with_file_name(format!("{REMOVED}{name}-{}", std::process::id()));
    let is_away = fs::rename(path, &away).is_ok();
    if is_away {
        // Over a network a file that is open is not removed.
        drop(lock);
    }
    let _ = fs::remove_dir_all(if is_away { &away } else { path });
}

/// Whether this is the name of a step's run: nothing that people would call a cluster.
fn is_of_step(name: &str) -> bool {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let Some(words) = name.strip_prefix("srun-") else { return false };
    words.contains('-') && words.split('-').all(is_number)
}

/// Whether nothing has changed in a folder for long. The first rank touches its lock, so this holds for none that runs,
/// also where its lock is not seen from here.
fn is_old(folder: &Path) -> bool {
    let is_old = |path: &Path| {
        let changed = fs::symlink_metadata(path).and_then(|it| it.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE))
    };
    let Ok(mut entries) = fs::read_dir(folder) else { return false };
    is_old(folder) && entries.all(|entry| entry.is_ok_and(|entry| is_old(&entry.path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rank_that_comes_too_late_removes_what_was_left_for_it() {
        let home = tempfile::tempdir().unwrap();
        let place = Place { folder: ClusterDir::in_home(home.path(), "srun-1-0").unwrap(), others: 1..3 };
        let lock = place.begin().unwrap();
        let file = place.folder.access_file(Peer::Worker);
        fs::write(&file, "").unwrap();
        place.note(1);
        place.end(lock);
        assert!(place.is_marked_over() && place.is_over() && !file.exists() && !place.all_came());
        place.note(2);
        place.remove_if_all_came();
        assert!(!place.folder.path().exists());

        let lock = place.begin().unwrap();
        place.note(1);
        place.note(2);
        place.end(lock);
        assert!(!place.folder.path().exists(), "nobody has to be told");
    }

    fn place(home: &Path, name: &str) -> Place {
        Place { folder: ClusterDir::in_home(home, name).unwrap(), others: 1..2 }
    }

    #[test]
    fn a_second_program_of_a_step_is_refused_and_takes_nothing_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        let place = place(home.path(), "srun-1-0");
        let lock = place.begin().unwrap();
        let file = place.folder.access_file(Peer::Worker);
        fs::write(&file, "").unwrap();
        let line = place.begin().unwrap_err().to_string();
        assert!(line.contains("another program of this step runs already under srun"), "{line}");
        assert!(line.contains("--threads") && !line.contains("takeover"), "{line}");
        place.note(1);
        // A rank that comes late, and what a killed first rank of another run has left.
        place.remove_if_all_came();
        place.end_for_dead();
        assert!(file.exists());
        place.end(lock);
        assert!(!place.folder.path().exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn of_many_that_begin_at_once_one_has_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let begun = thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| place(home.path(), "srun-1-0").begin())).collect();
            let begun: Vec<_> = tries.into_iter().filter_map(|it| it.join().unwrap().ok()).collect();
            begun.len()
        });
        assert_eq!(begun, 1);
    }

    fn age(folder: &Path) {
        let long_ago = std::time::SystemTime::now() - 2 * STALE;
        for entry in fs::read_dir(folder).unwrap() {
            fs::File::open(entry.unwrap().path()).unwrap().set_modified(long_ago).unwrap();
        }
        fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
    }

    #[test]
    fn what_was_killed_is_removed_a_day_later_and_what_runs_or_is_a_clusters_is_not() {
        let home = tempfile::tempdir().unwrap();
        let [killed, fresh, runs, named] =
            ["srun-1-0", "srun-2-0", "srun-3-0-1", "srun-lab-7"].map(|name| place(home.path(), name));
        drop(killed.begin().unwrap());
        drop(fresh.begin().unwrap());
        let lock = runs.begin().unwrap();
        drop(named.begin().unwrap());
        for place in [&killed, &runs, &named] {
            fs::write(place.file("master.key"), "").unwrap();
            age(place.folder.path());
        }
        let other = place(home.path(), "srun-4-0");
        drop(other.begin().unwrap());
        let is_there = |place: &Place| place.file(LOCK).exists();
        assert!(!killed.folder.path().exists());
        assert!([&fresh, &runs, &named].into_iter().all(is_there));
        // Where locks are not seen, the time of it is.
        lock.touch();
        drop(lock);
        drop(other.begin().unwrap());
        assert!(is_there(&runs));
        age(runs.folder.path());
        drop(other.begin().unwrap());
        assert!(!runs.folder.path().exists());
    }
}
