//! Where the ranks of a run meet: a cluster's folder, in which each notes that it has come.

use std::{
    fs,
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use super::LOOK_PAUSE;
use crate::{
    access::{ClusterDir, role},
    exit::{self, Trouble},
    flag::flag,
    net::tls::Peer,
};

/// How long a run that is over waits for ranks that have not come yet.
const LATE_WAIT: Duration = Duration::from_secs(5);

/// Folders that wait for ranks which never came are removed after so long.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

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

    /// Makes it, without anything of an earlier run.
    pub(super) fn begin(&self) -> Result<(), Trouble> {
        let path = self.folder.path();
        if self.folder.has_live_master() {
            let line = format!(
                "another program of this Slurm step runs with {}; start it after that, or by itself with {}",
                path.display(),
                flag("slots")
            );
            return Err(Trouble::new(exit::ACCESS, line));
        }
        let _ = fs::remove_dir_all(path);
        self.folder.make()?;
        self.sweep();
        Ok(())
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
    pub(super) fn end(&self) {
        if !self.all_came() && fs::write(self.file(OVER), "").is_ok() {
            for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name != OVER && !name.starts_with("rank-") {
                    let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
                }
            }
        }
        self.remove_if_all_came();
    }

    pub(super) fn remove_if_all_came(&self) {
        if self.all_came() {
            let _ = fs::remove_dir_all(self.folder.path());
        }
    }

    /// Removes what earlier runs have left for ranks that never came.
    fn sweep(&self) {
        let Some(home) = self.folder.path().parent() else { return };
        let is_old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > STALE);
        for entry in fs::read_dir(home).into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_string_lossy().starts_with("srun-");
            let over = entry.path().join(OVER).metadata().and_then(|it| it.modified());
            if is_ours && over.is_ok_and(is_old) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rank_that_comes_too_late_removes_what_was_left_for_it() {
        let home = tempfile::tempdir().unwrap();
        let place = Place { folder: ClusterDir::in_home(home.path(), "srun-1-0").unwrap(), others: 1..3 };
        place.begin().unwrap();
        let file = place.folder.access_file(Peer::Worker);
        fs::write(&file, "").unwrap();
        place.note(1);
        place.end();
        assert!(place.is_marked_over() && place.is_over() && !file.exists() && !place.all_came());
        place.note(2);
        place.remove_if_all_came();
        assert!(!place.folder.path().exists());

        place.begin().unwrap();
        place.note(1);
        place.note(2);
        place.end();
        assert!(!place.folder.path().exists(), "nobody has to be told");
    }
}
