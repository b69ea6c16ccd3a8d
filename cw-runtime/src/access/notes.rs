//! Notes of processes that cannot tell their master: `notes/HOST-PID.json` in the cluster's folder, where that is on a
//! shared home. A worker that is not let in, or ends before it was, leaves one; who is let in removes its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
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
    /// When it was left, since the Unix epoch: as it is written by the clock of its process, as it is read by that of who
    /// reads it.
    pub(crate) seconds: u64,
}

impl Note {
    pub(crate) fn new(why: impl Into<String>, has_ended: bool) -> Self {
        let (name, seconds) = (crate::program::process_name(), in_seconds(SystemTime::now()));
        Self { version: files::FORMAT_VERSION, name, why: why.into(), has_ended, seconds }
    }
}

/// What is done with this process's note, in order, by a thread of its own: a file system may take its time, or hang.
enum Errand {
    Leave(ClusterDir, Note),
    Remove(ClusterDir),
    Tell(Sender<()>),
}

static ERRANDS: OnceLock<Sender<Errand>> = OnceLock::new();

fn errands() -> &'static Sender<Errand> {
    ERRANDS.get_or_init(|| {
        let (send, receive) = channel();
        let run = move || {
            for errand in receive {
                match errand {
                    Errand::Leave(folder, note) => folder.leave_note(&note),
                    Errand::Remove(folder) => folder.remove_note(),
                    // Whoever waited may have given up.
                    Errand::Tell(done) => drop(done.send(())),
                }
            }
        };
        // Without a thread there are no notes.
        let _ = thread::Builder::new().name("cw-notes".to_owned()).spawn(run);
        send
    })
}

/// Leaves a note soon.
pub(crate) fn leave_soon(folder: &ClusterDir, note: Note) {
    let _ = errands().send(Errand::Leave(folder.clone(), note));
}

/// Removes this process's note soon.
pub(crate) fn remove_soon(folder: &ClusterDir) {
    let _ = errands().send(Errand::Remove(folder.clone()));
}

/// Waits until all of that is done, at most for so long.
pub(crate) fn finish(wait: Duration) {
    let Some(errands) = ERRANDS.get() else { return };
    let (done, hear) = channel();
    if errands.send(Errand::Tell(done)).is_ok() {
        let _ = hear.recv_timeout(wait);
    }
}

impl ClusterDir {
    /// The folder whose cluster a process belongs to that was given this name, or this access file: there its notes are read.
    /// None if the file lies elsewhere.
    pub(crate) fn of_notes(cluster: &str, access: Option<&Path>) -> Option<Self> {
        let Some(file) = access else { return Self::locate(cluster).ok() };
        let folder = file.parent()?;
        let found = Self::in_home(folder.parent()?, folder.file_name()?.to_str()?).ok()?;
        found.key_file().exists().then_some(found)
    }

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
        let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).take(READ_MAX).collect();
        if paths.is_empty() {
            return Vec::new();
        }
        let (there, here) = (self.time_there(), SystemTime::now());
        let mut notes: Vec<Note> = paths.iter().filter_map(|path| read(path, there, here)).collect();
        notes.sort_unstable_by(|a, b| (a.seconds, &a.name).cmp(&(b.seconds, &b.name)));
        notes
    }

    /// What time it is where the notes lie. On a shared home a server says when a file was made, and hosts disagree. None
    /// where this process can make none. It stays empty: a full disk has room for that.
    fn time_there(&self) -> Option<SystemTime> {
        let name = crate::program::process_name().replace(':', "-");
        let mark = self.notes().join(format!("{MARK}{name}"));
        // One of a process that was killed, and called so too, is older.
        let _ = fs::remove_file(&mark);
        let time = fs::File::create_new(&mark).and_then(|_| fs::metadata(&mark)?.modified());
        let _ = fs::remove_file(&mark);
        time.ok()
    }
}

/// How the name begins of a file that is made to see what time it is.
const MARK: &str = ".now-";

fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(MARK.as_bytes()))
}

/// Reads a note when it is so late where it lies, and so late here. What is stale is removed, a mark too that nobody has
/// removed; but not by a clock that is only here, which may be wrong.
fn read(path: &Path, there: Option<SystemTime>, here: SystemTime) -> Option<Note> {
    let now = there.unwrap_or(here);
    let left = fs::metadata(path).and_then(|it| it.modified()).unwrap_or(now);
    let age = now.duration_since(left).unwrap_or_default();
    if age > STALE {
        let _ = there.is_some().then(|| fs::remove_file(path));
        return None;
    }
    if is_mark(path) {
        return None;
    }
    let note: Note = files::read(path).ok().flatten()?;
    Some(Note { seconds: in_seconds(here.checked_sub(age).unwrap_or(UNIX_EPOCH)), ..note })
}

fn in_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The notes there are, as they were left.
    fn notes(dir: &ClusterDir, like: &Note) -> Vec<Note> {
        dir.read_notes().into_iter().map(|note| Note { seconds: like.seconds, ..note }).collect()
    }

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
        assert_eq!(notes(&dir, &ended), [ended]);
        dir.remove_note();
        assert_eq!(dir.read_notes(), []);
        leave_soon(&dir, note.clone());
        finish(Duration::from_secs(60));
        assert_eq!(notes(&dir, &note), [note]);
        remove_soon(&dir);
        finish(Duration::from_secs(60));
        assert_eq!(dir.read_notes(), []);
    }

    #[test]
    fn a_note_is_as_old_as_it_is_where_it_lies_whatever_the_clocks_of_hosts_say() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("note.json");
        let hours = |hours: u64| UNIX_EPOCH + Duration::from_secs(hours * 3_600);
        // Its process lives in the year 1970, the server a day behind the reader.
        files::write(&path, &Note { seconds: 7, ..Note::new("no route", false) }).unwrap();
        let at = |time| fs::File::open(&path).unwrap().set_modified(time).unwrap();
        at(hours(100_000));
        let there = hours(100_000) + Duration::from_secs(9);
        let found = read(&path, Some(there), hours(100_024)).unwrap();
        assert_eq!(found.seconds, in_seconds(hours(100_024)) - 9);
        // One that was left while its reader looked is new.
        let new = read(&path, Some(hours(99_999)), hours(100_024)).unwrap();
        assert_eq!(new.seconds, in_seconds(hours(100_024)));
        assert_eq!(read(&path, None, hours(100_024)), None);
        assert!(path.exists(), "nothing is removed by the reader's own clock");
        assert_eq!(read(&path, Some(hours(100_001)), hours(99_000)), None);
        assert!(!path.exists(), "a stale one is removed");
    }

    #[test]
    fn what_is_made_to_see_the_time_is_no_note_and_does_not_stay() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        fs::create_dir(dir.path()).unwrap();
        dir.leave_note(&Note::new("no route", false));
        let (own, other) = (dir.own_note(), dir.notes().join(".now-other-7"));
        let mark = fs::File::create_new(&other).unwrap();
        let left = || (dir.read_notes().len(), fs::read_dir(dir.notes()).unwrap().count());
        assert_eq!(left(), (1, 2), "another process may be at it");
        mark.set_modified(SystemTime::now() - STALE - Duration::from_secs(60)).unwrap();
        assert_eq!((left(), other.exists()), ((1, 1), false), "that one was killed");
        fs::rename(&own, &other).unwrap();
        fs::File::open(&other).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert_eq!(left(), (0, 0), "and where there is no note");
    }

    #[test]
    fn what_a_process_of_the_same_name_has_left_tells_no_time() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        fs::create_dir_all(dir.notes()).unwrap();
        assert!(dir.time_there().is_some());
        let mark = dir.notes().join(format!("{MARK}{}", crate::program::process_name().replace(':', "-")));
        fs::File::create_new(&mark).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert!(dir.time_there().is_some_and(|time| time > UNIX_EPOCH));
        // As where a disk has no room for one more file.
        fs::create_dir(&mark).unwrap();
        assert_eq!(dir.time_there(), None);
    }

    #[test]
    fn a_file_in_a_clusters_folder_leads_to_its_notes_and_one_elsewhere_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "lab").unwrap();
        let _keys = dir.open_master().unwrap();
        assert_eq!(ClusterDir::of_notes("other", Some(&dir.path().join("worker.json"))), Some(dir));
        assert_eq!(ClusterDir::of_notes("lab", Some(&home.path().join("worker.json"))), None);
    }
}
