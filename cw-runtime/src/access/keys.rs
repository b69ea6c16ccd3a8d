//! What a master keeps: all keys of its cluster, the epoch, and the lock that makes it the only one.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dir::ClusterDir;
use super::error::{AccessError, AccessErrorKind};
use super::{addresses, files};
use crate::net::endpoint::EndpointKeys;
use crate::net::identity::{self, IdentityText};
use crate::net::tls::{Identity, KeyError};

/// A cluster's secret keys, and which of its masters this one is. `Debug` shows no key.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    /// The master's own identity.
    pub identity: Identity,
    /// The identity all clients share.
    pub clients: Identity,
    /// The identity all workers share.
    pub workers: Identity,
    /// What the endpoint needs to reset connections of an earlier master.
    pub endpoint: EndpointKeys,
    /// 1 for the first master on the folder, one more for each that follows; never given out twice.
    pub epoch: u64,
    /// 32 hexadecimal digits, made with the keys.
    pub cluster_id: String,
}

/// The right to be the folder's master, as long as it is kept. The system takes it back when the process ends.
#[derive(Debug)]
pub struct MasterLock {
    _file: File,
}

/// `master.key` as it is written.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u64,
    cluster: String,
    cluster_id: String,
    epoch: u64,
    master: IdentityText,
    clients: IdentityText,
    workers: IdentityText,
    reset_key: String,
}

/// What is read of `master.key` to see whether there is a new master.
#[derive(Deserialize)]
struct Epoch {
    epoch: u64,
}

/// How often it is looked whether a master that is to end has let go of the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl ClusterDir {
    /// Becomes the master of this folder: makes folder and keys on first use, and raises the epoch by one.
    ///
    /// The new epoch is on disk before this returns.
    ///
    /// # Errors
    /// [`AccessErrorKind::Locked`] while another master runs on the folder; the other kinds where folder or keys
    /// are not private, are damaged, or cannot be written.
    pub fn open_master(&self) -> Result<(MasterKeys, MasterLock), AccessError> {
        files::private_dir(self.path())?;
        // Before the keys are looked at, or two first masters would each make their own.
        let lock = self.lock(&self.lock_file())?;
        Ok((self.next_keys()?, lock))
    }

    /// As [`open_master`](Self::open_master), but a master that runs on the folder is no hindrance: it ends when it
    /// sees the new epoch. Waits for its lock, at most so long; it may be of a machine that is gone.
    ///
    /// # Errors
    /// As [`open_master`](Self::open_master); [`AccessErrorKind::Locked`] if yet another master takes over just now.
    pub fn take_over(&self, at_most: Duration) -> Result<(MasterKeys, Option<MasterLock>), AccessError> {
        files::private_dir(self.path())?;
        // Two that took over at once would give out the same epoch.
        let _turn = self.lock(&self.takeover_file())?;
        let mut lock = self.lock_unless_held()?;
        // The word to the other master, if there is one.
        let keys = self.next_keys()?;
        let deadline = Instant::now() + at_most;
        while lock.is_none() && Instant::now() < deadline {
            std::thread::sleep(LOCK_PAUSE);
            lock = self.lock_unless_held()?;
        }
        Ok((keys, lock))
    }

    fn lock_unless_held(&self) -> Result<Option<MasterLock>, AccessError> {
        match self.lock(&self.lock_file()) {
            Ok(lock) => Ok(Some(lock)),
            Err(AccessError { kind: AccessErrorKind::Locked { .. }, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The epoch of the latest master; none while its file cannot be read.
    pub(crate) fn epoch(&self) -> Option<u64> {
        files::read::<Epoch>(&self.key_file()).ok()?.map(|file| file.epoch)
    }

    /// The last master that ran on this folder, as it noted itself in its lock: process id and host.
    pub(crate) fn last_master(&self) -> Option<(u32, String)> {
        let mut text = String::new();
        File::open(self.lock_file()).ok()?.take(1024).read_to_string(&mut text).ok()?;
        let (pid, host) = text.trim().split_once(' ')?;
        Some((pid.parse().ok()?, host.to_owned()))
    }

    /// Keys with the next epoch, which is on disk then.
    fn next_keys(&self) -> Result<MasterKeys, AccessError> {
        let path = self.key_file();
        let mut keys = match files::read::<KeyFile>(&path)? {
            Some(file) => MasterKeys::from_file(&path, &file)?,
            None => {
                MasterKeys::generate().map_err(|e| AccessError::new(&path, AccessErrorKind::NewKeys(e)))?
            }
        };
        keys.epoch += 1;
        files::write(&path, &keys.to_file(self.cluster()))?;
        Ok(keys)
    }

    /// Whether a master runs on this folder now. Sees only masters that the file system's locks tell of, which
    /// over a network may be those of this machine.
    pub fn has_live_master(&self) -> bool {
        let file = File::open(self.lock_file());
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Who holds the lock of this folder, if a master runs on it; as far as
    /// [`has_live_master`](Self::has_live_master) sees.
    pub(crate) fn master_holder(&self) -> Option<Holder> {
        let file = File::open(self.lock_file()).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| Holder::read(&file))
    }

    /// Whether the last master of this folder ran on this machine, whose locks are seen here, and has ended.
    pub(crate) fn has_dead_master(&self) -> bool {
        let is_dead =
            |file: File| file.try_lock_shared().is_ok() && Holder::read(&file).host == addresses::host_name();
        File::open(self.lock_file()).is_ok_and(is_dead)
    }

    fn lock(&self, path: &Path) -> Result<MasterLock, AccessError> {
        let mut file = files::open_private(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.locked(&file)),
            Err(TryLockError::Error(e)) => return Err(AccessError::io(path, "lock it")(e)),
        }
        note_holder(&mut file).map_err(AccessError::io(path, "write it"))?;
        Ok(MasterLock { _file: file })
    }

    fn locked(&self, file: &File) -> AccessError {
        let Holder { pid, host } = Holder::read(file);
        AccessError::new(self.path(), AccessErrorKind::Locked { pid, host })
    }
}

/// A running master, as it has noted itself in its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// None if it has not got as far.
    pub(crate) pid: Option<u32>,
    pub(crate) host: Option<String>,
}

impl Holder {
    /// The holder may be about to write it.
    fn read(file: &File) -> Self {
        let mut text = String::new();
        let _ = file.take(1024).read_to_string(&mut text);
        let mut words = text.split_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok());
        Self { pid, host: words.next().map(str::to_owned) }
    }
}

/// Leaves process id and host for the message to a second master.
fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    let host = addresses::host_name().unwrap_or_default();
    writeln!(file, "{} {host}", std::process::id())
}

impl MasterKeys {
    /// New keys, of a cluster that no master has had yet.
    fn generate() -> Result<Self, KeyError> {
        Ok(Self {
            identity: Identity::generate()?,
            clients: Identity::generate()?,
            workers: Identity::generate()?,
            endpoint: EndpointKeys::generate()?,
            epoch: 0,
            cluster_id: identity::encode_hex(&identity::random::<16>()?),
        })
    }

    fn from_file(path: &Path, file: &KeyFile) -> Result<Self, AccessError> {
        let bad_key = |e| AccessError::new(path, AccessErrorKind::BadKey(e));
        let reset = identity::decode_hex(&file.reset_key)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| bad_key(KeyError::Text("reset key")))?;
        Ok(Self {
            identity: Identity::from_text(&file.master).map_err(bad_key)?,
            clients: Identity::from_text(&file.clients).map_err(bad_key)?,
            workers: Identity::from_text(&file.workers).map_err(bad_key)?,
            endpoint: EndpointKeys { reset },
            epoch: file.epoch,
            cluster_id: file.cluster_id.clone(),
        })
    }

    fn to_file(&self, cluster: &str) -> KeyFile {
        KeyFile {
            version: files::FORMAT_VERSION,
            cluster: cluster.to_owned(),
            cluster_id: self.cluster_id.clone(),
            epoch: self.epoch,
            master: self.identity.to_text(),
            clients: self.clients.to_text(),
            workers: self.workers.to_text(),
            reset_key: identity::encode_hex(&self.endpoint.reset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn cluster() -> (tempfile::TempDir, ClusterDir) {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "test").unwrap();
        (home, dir)
    }

    #[test]
    fn keys_stay_and_the_epoch_grows() {
        let (_home, dir) = cluster();
        let (first, lock) = dir.open_master().unwrap();
        drop(lock);
        let (second, _lock) = dir.open_master().unwrap();
        assert_eq!((first.epoch, second.epoch), (1, 2));
        assert_eq!(first.cluster_id, second.cluster_id);
        assert_eq!(first.cluster_id.len(), 32);
        assert_eq!(first.endpoint, second.endpoint);
        for (one, two) in [
            (&first.identity, &second.identity),
            (&first.clients, &second.clients),
            (&first.workers, &second.workers),
        ] {
            assert_eq!(one.certificate(), two.certificate());
        }
    }

    #[test]
    fn a_second_master_is_told_who_holds_the_folder() {
        let (_home, dir) = cluster();
        let (_keys, lock) = dir.open_master().unwrap();
        let error = dir.open_master().unwrap_err();
        assert_eq!(error.path, dir.path());
        let AccessErrorKind::Locked { pid, .. } = error.kind else {
            panic!("the folder is in use");
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(lock);
        assert_eq!(dir.open_master().unwrap().0.epoch, 2, "the refused one took no epoch");
    }

    #[test]
    fn who_holds_a_folder_is_known_and_whether_that_one_is_dead() {
        let (_home, dir) = cluster();
        assert_eq!((dir.master_holder(), dir.has_dead_master()), (None, false), "there was none");
        let (_, lock) = dir.open_master().unwrap();
        let holder = dir.master_holder().expect("it runs");
        assert_eq!(holder.pid, Some(std::process::id()));
        assert_eq!(holder.host, addresses::host_name());
        assert!(!dir.has_dead_master());
        drop(lock);
        assert_eq!((dir.master_holder(), dir.has_dead_master()), (None, true));
        fs::write(dir.lock_file(), "7 another-host").unwrap();
        assert!(!dir.has_dead_master(), "locks of others may not be seen here");
    }

    #[test]
    fn a_master_that_takes_over_raises_the_epoch_and_waits_for_the_lock() {
        let (_home, dir) = cluster();
        let (first, lock) = dir.open_master().unwrap();
        let ours = dir.clone();
        let old = std::thread::spawn(move || {
            while ours.epoch() == Some(first.epoch) {
                std::thread::yield_now();
            }
            drop(lock);
        });
        let (second, lock) = dir.take_over(Duration::from_secs(60)).unwrap();
        old.join().unwrap();
        assert_eq!((second.epoch, dir.epoch()), (2, Some(2)));
        assert_eq!(first.cluster_id, second.cluster_id);
        let error = dir.open_master().unwrap_err();
        assert!(matches!(error.kind, AccessErrorKind::Locked { .. }), "{error}");
        drop(lock.expect("the old one has let go of it"));
        assert_eq!(dir.open_master().unwrap().0.epoch, 3);
    }

    #[test]
    fn a_lock_that_nobody_lets_go_of_does_not_keep_a_cluster_from_its_next_master() {
        let (_home, dir) = cluster();
        let (_first, _lock) = dir.open_master().unwrap();
        let (second, lock) = dir.take_over(Duration::ZERO).unwrap();
        assert!(lock.is_none());
        assert_eq!((second.epoch, dir.epoch()), (2, Some(2)));
    }

    #[test]
    fn of_two_that_take_over_one_is_refused() {
        let (_home, dir) = cluster();
        drop(dir.open_master().unwrap());
        let turn = dir.lock(&dir.takeover_file()).unwrap();
        let error = dir.take_over(Duration::ZERO).unwrap_err();
        assert!(matches!(error.kind, AccessErrorKind::Locked { .. }), "{error}");
        assert_eq!(dir.epoch(), Some(1));
        drop(turn);
        let (keys, lock) = dir.take_over(Duration::ZERO).unwrap();
        assert!(lock.is_some(), "nobody held it");
        assert_eq!(keys.epoch, 2);
    }

    #[test]
    fn everything_is_private() {
        let (_home, dir) = cluster();
        let (_keys, _lock) = dir.open_master().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.key_file()), 0o600);
        assert_eq!(mode(&dir.lock_file()), 0o600);
    }

    #[test]
    fn a_public_key_file_or_folder_is_refused() {
        let (_home, dir) = cluster();
        drop(dir.open_master().unwrap());
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&dir.key_file(), 0o640);
        let error = dir.open_master().unwrap_err();
        assert_eq!(error.path, dir.key_file());
        assert!(matches!(error.kind, AccessErrorKind::Permissions { mode: 0o640, .. }));
        set(&dir.key_file(), 0o600);
        set(dir.path(), 0o750);
        let error = dir.open_master().unwrap_err();
        assert_eq!(error.path, dir.path());
    }

    #[test]
    fn a_damaged_key_file_is_refused_and_left_alone() {
        let (_home, dir) = cluster();
        drop(dir.open_master().unwrap());
        let whole = fs::read_to_string(dir.key_file()).unwrap();
        let cut = &whole[..whole.len() / 2];
        fs::write(dir.key_file(), cut).unwrap();
        let error = dir.open_master().unwrap_err();
        assert!(matches!(error.kind, AccessErrorKind::Malformed(_)), "{error}");
        assert_eq!(fs::read_to_string(dir.key_file()).unwrap(), cut);

        let bad = whole.replace("\"reset_key\": \"", "\"reset_key\": \"00");
        fs::write(dir.key_file(), bad).unwrap();
        let error = dir.open_master().unwrap_err();
        assert!(matches!(error.kind, AccessErrorKind::BadKey(KeyError::Text(_))), "{error}");
    }

    #[test]
    fn debug_shows_no_key() {
        let keys = MasterKeys::generate().unwrap();
        let shown = format!("{keys:?}");
        assert!(!shown.contains(&keys.identity.to_text().key[40..60]));
        assert!(!shown.contains(&format!("{:?}", keys.endpoint.reset)));
    }
}
