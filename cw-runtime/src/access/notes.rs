//! Notes of processes that cannot tell their master: `notes/HOST-PID.json` in the cluster's folder, where that is on a
//! shared home. A worker that is not let in, or ends before it was, leaves one; who is let in removes its own.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{ClusterDir, files};

/// Notes that have not changed for so long are nobody's.
const STALE: Duration = Duration::from_secs(15 * 60);

/// So many are read.
const READ_MAX: usize = 1_000;

/// What stands in a process's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) version: u64,
    /// `host:pid`.
    pub(crate) name: String,
    /// In one line: the addresses it tried and how each failed, or why it ended.
    pub(crate) why: String,
    /// Whether the process is at its end.
    pub(crate) has_ended: bool,
    /// Since the Unix epoch, by its own clock.
    pub(crate) seconds: u64,
}

impl Note {
    pub(crate) fn new(why: impl Into<String>, has_ended: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = crate::program::process_name();
        Self { version: files::FORMAT_VERSION, name, why: why.into(), has_ended, seconds: since.as_secs() }
    }
}

impl ClusterDir {
    fn notes(&self) -> PathBuf {
        self.path().join("notes")
    }

    fn own_note(&self) -> PathBuf {
        self.notes().join(format!("{}.json", crate::program::process_name().replace(':', "-")))
    }

    /// Leaves a note, or one in place of the one before. Where the folder cannot be written nobody reads it.
    pub(crate) fn leave_note(&self, note: &Note) {
        if self.path().is_dir() && files::private_dir(&self.notes()).is_ok() {
            let _ = files::write(&self.own_note(), note);
        }
    }

    /// This process has nothing to note any more.
    pub(crate) fn remove_note(&self) {
        let _ = fs::remove_file(self.own_note());
    }

    /// All notes there are, and the older first; stale ones are removed.
    pub(crate) fn read_notes(&self) -> Vec<Note> {
        let Ok(entries) = fs::read_dir(self.notes()) else { return Vec::new() };
        let mut notes: Vec<Note> = Vec::new();
        for entry in entries.flatten().take(READ_MAX) {
            let path = entry.path();
            // By the file system's clock: hosts disagree.
            let age = entry
                .metadata()
                .and_then(|it| it.modified())
                .and_then(|at| at.elapsed().map_err(io::Error::other));
            if age.is_ok_and(|age| age > STALE) {
                let _ = fs::remove_file(path);
            } else if let Ok(Some(note)) = files::read(&path) {
                notes.push(note);
            }
        }
        notes.sort_by(|a, b| (a.seconds, &a.name).cmp(&(b.seconds, &b.name)));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_until_it_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        let note = Note::new("10.0.0.5:5494: no route", false);
        dir.leave_note(&note);
        assert_eq!(dir.read_notes(), [], "a cluster that is not there takes none");
        fs::create_dir(dir.path()).unwrap();
        dir.leave_note(&note);
        let ended = Note { has_ended: true, ..note.clone() };
        dir.leave_note(&ended);
        assert_eq!(dir.read_notes(), [ended]);
        dir.remove_note();
        assert_eq!(dir.read_notes(), []);
    }
}
