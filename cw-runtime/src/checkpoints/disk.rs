//! The files.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Once,
};

use cw_core::{
    Payload,
    wire::{Answer, Ask, STATE_BYTES_MAX},
};

use super::{Key, Owner};
use crate::{client::notice::say, program};

/// What a file with a state begins with.
const MAGIC: &[u8; 8] = b"cwstate1";

/// Before the state: that, the build that saved it, and its hash.
const HEAD_BYTES: usize = 8 + 16 + 32;

/// Where checkpoints lie.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn ask(&self, key: Key, ask: Ask, body: &[u8]) -> (Answer, Payload) {
        let done = match ask {
            Ask::Save => self.save(key, body).map(|()| (Answer::Done, Payload::new())),
            Ask::Load => self.load(key).map(|state| match state {
                Some(state) => (Answer::Done, state.into()),
                None => (Answer::Nothing, Payload::new()),
            }),
            Ask::Folder => self.folder(key).map(|path| {
                let path = path.into_os_string().into_vec();
                (Answer::Done, path.into())
            }),
        };
        done.unwrap_or_else(|why| {
            let why = format!("the client on {} cannot: {why}", program::host_name());
            (Answer::Failed, why.into_bytes().into())
        })
    }

    fn folder_of(&self, key: Key) -> PathBuf {
        self.root.join(key.to_string())
    }

    fn state_of(&self, key: Key) -> PathBuf {
        self.root.join(format!("{key}.state"))
    }

    /// Makes a task's folder, unless it is there.
    fn folder(&self, key: Key) -> Result<PathBuf, String> {
        let path = self.folder_of(key);
        make(&path).map_err(|error| named(&path, &error))?;
        Ok(path)
    }

    /// Writes a state beside where it belongs, then puts it there: it is there as a whole or not at all.
    fn save(&self, key: Key, state: &[u8]) -> Result<(), String> {
        make(&self.root).map_err(|error| named(&self.root, &error))?;
        let (path, part) = (self.state_of(key), self.root.join(format!("{key}.part")));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&head(state)?)?;
            file.write_all(state)?;
            drop(file);
            fs::rename(&part, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&part);
            named(&path, &error)
        })
    }

    /// The state that was saved last, if this build did.
    fn load(&self, key: Key) -> Result<Option<Vec<u8>>, String> {
        let path = self.state_of(key);
        let mut bytes = match fs::metadata(&path) {
            Ok(found) if found.len() > (HEAD_BYTES + STATE_BYTES_MAX) as u64 => Vec::new(),
            _ => match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other.map_err(|error| named(&path, &error))?,
            },
        };
        let state = bytes.split_off(HEAD_BYTES.min(bytes.len()));
        let expected = head(&state).map_err(|error| named(&path, &error))?;
        if bytes == expected {
            return Ok(Some(state));
        }
        note_ignored(&path, bytes.get(..24) != Some(&expected[..24]));
        Ok(None)
    }

    pub(super) fn remove(&self, key: Key) {
        // What cannot be removed now is tried again at the program's end, and then left for its user to see.
        let _ = fs::remove_dir_all(self.folder_of(key));
        let _ = fs::remove_file(self.state_of(key));
    }

    /// Removes all that is of these, and the folder itself if nothing is left in it.
    pub(super) fn remove_all(&self, owners: &[Owner]) {
        let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| owners.iter().any(|owner| name.starts_with(owner))) {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        let _ = fs::remove_dir(&self.root);
    }
}

/// What is written before a state.
fn head(state: &[u8]) -> io::Result<[u8; HEAD_BYTES]> {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..24].copy_from_slice(&program::own_id()?.0);
    head[24..].copy_from_slice(blake3::hash(state).as_bytes());
    Ok(head)
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder)
}

fn named(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Says once that tasks begin anew that had saved something.
fn note_ignored(path: &Path, is_of_another_build: bool) {
    static ONCE: Once = Once::new();
    let why = if is_of_another_build { "another build of this program saved it" } else { "it is damaged" };
    ONCE.call_once(|| {
        say(&format!("the state in {} is not used, as {why}; such tasks begin anew", path.display()));
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cw_core::{ids::TaskId, resume::Place, wire::Class};

    use super::*;

    fn row(input: u32) -> Key {
        Key::of_row(Owner::of_store(Path::new("/runs/a.db")), 1, Place::new(0, input), &[7; 16])
    }

    fn said(answer: (Answer, Payload)) -> (Answer, Vec<u8>) {
        (answer.0, answer.1.to_vec())
    }

    #[test]
    fn the_latest_state_counts_and_each_task_has_its_own() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::new(root.path().join("deep/checkpoints"));
        let (one, other) = (row(0), row(1));
        assert_eq!(said(disk.ask(one, Ask::Load, b"")), (Answer::Nothing, vec![]));
        assert_eq!(said(disk.ask(one, Ask::Save, b"first")), (Answer::Done, vec![]));
        assert_eq!(said(disk.ask(one, Ask::Save, b"second")), (Answer::Done, vec![]));
        assert_eq!(said(disk.ask(other, Ask::Save, b"")), (Answer::Done, vec![]));
        assert_eq!(said(disk.ask(one, Ask::Load, b"")), (Answer::Done, b"second".to_vec()));
        assert_eq!(said(disk.ask(other, Ask::Load, b"")), (Answer::Done, vec![]), "an empty one is one");
        let mode = fs::metadata(disk.state_of(one)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        disk.remove(one);
        assert_eq!(said(disk.ask(one, Ask::Load, b"")), (Answer::Nothing, vec![]));
    }

    #[test]
    fn a_state_that_is_torn_or_of_another_build_is_none() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::new(root.path().to_owned());
        let key = row(0);
        disk.save(key, b"state").unwrap();
        let whole = fs::read(disk.state_of(key)).unwrap();
        for place in [0, 9, 30, HEAD_BYTES + 1] {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(disk.state_of(key), bytes).unwrap();
            assert_eq!(disk.load(key), Ok(None));
        }
        for length in [0, 10, HEAD_BYTES, whole.len() - 1] {
            fs::write(disk.state_of(key), &whole[..length]).unwrap();
            assert_eq!(disk.load(key), Ok(None));
        }
    }

    #[test]
    fn at_the_end_goes_what_is_the_programs_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::new(root.path().join("checkpoints"));
        let (own, other) = (Key::of_run(TaskId(3)), Key::Run(Owner(5), TaskId(3)));
        for key in [own, other, row(0)] {
            let folder = disk.folder(key).unwrap();
            fs::write(folder.join("data"), "x").unwrap();
            disk.save(key, b"s").unwrap();
        }
        disk.remove_all(&[Owner::of_process()]);
        assert_eq!(fs::read_dir(&disk.root).unwrap().count(), 4);
        assert_eq!(disk.load(row(0)), Ok(Some(b"s".to_vec())));
        disk.remove_all(&[Owner::of_store(Path::new("/runs/a.db")), Owner(5)]);
        assert!(!disk.root.exists());
    }

    #[test]
    fn what_ends_badly_is_kept_where_it_can_go_on() {
        assert!(row(0).is_over(Class::Ok) && !row(0).is_over(Class::TimedOut));
        assert!(Key::of_run(TaskId(1)).is_over(Class::TimedOut));
        assert_ne!(row(0), row(1));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_the_answer() {
        let root = tempfile::tempdir().unwrap();
        let blocked = root.path().join("file");
        fs::write(&blocked, "").unwrap();
        let disk = Disk::new(blocked);
        for ask in [Ask::Save, Ask::Folder] {
            let (answer, why) = said(disk.ask(row(0), ask, b"s"));
            let why = String::from_utf8(why).unwrap();
            assert!(answer == Answer::Failed && why.starts_with("the client on "), "{why}");
        }
    }
}
