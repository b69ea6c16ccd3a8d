//! The access file of a role: what a client or worker needs to find its master and to get in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dir::ClusterDir;
use super::error::{AccessError, AccessErrorKind};
use super::keys::MasterKeys;
use super::{addresses, files};
use crate::net::identity::IdentityText;
use crate::net::tls::{Identity, Peer, Pin};

/// One role's way into a cluster, as its file says. `Debug` does not show the key.
#[derive(Clone, Debug)]
pub struct Access {
    /// The cluster's name.
    pub cluster: String,
    /// Made with the cluster's keys; tells two clusters of one name apart.
    pub cluster_id: String,
    /// Whom the identity stands for.
    pub role: Peer,
    /// Where the master listens, best first, each `ip:port` or `host:port`; at least one.
    pub addresses: Vec<String>,
    /// The certificate the master must show.
    pub master: Pin,
    /// That of the master that wrote the file; 0 in the files of older builds.
    pub epoch: u64,
    /// What this process shows.
    pub identity: Identity,
    /// The file all this comes from, for messages.
    pub path: PathBuf,
}

/// `client.json` and `worker.json` as they are written.
#[derive(Serialize, Deserialize)]
struct RoleFile {
    version: u64,
    cluster: String,
    cluster_id: String,
    role: Role,
    addresses: Vec<String>,
    master: String,
    /// Older builds wrote none.
    #[serde(default)]
    epoch: u64,
    identity: IdentityText,
}

/// What is read of a role's file to see whether there is a new master.
#[derive(Deserialize)]
struct Epoch {
    #[serde(default)]
    epoch: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Client,
    Worker,
}

impl From<Role> for Peer {
    fn from(role: Role) -> Self {
        match role {
            Role::Client => Self::Client,
            Role::Worker => Self::Worker,
        }
    }
}

impl From<Peer> for Role {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Client => Self::Client,
            Peer::Worker => Self::Worker,
        }
    }
}

impl ClusterDir {
    /// Writes both roles' files anew, so that peers find a master that listens at these addresses.
    ///
    /// The host's name is added behind them unless they are all loopback.
    ///
    /// # Errors
    /// When a file cannot be written; the one before is then still whole.
    pub fn write_access(&self, keys: &MasterKeys, addresses: &[SocketAddr]) -> Result<(), AccessError> {
        self.write_access_as(keys, addresses::with_host_name(addresses))
    }

    /// The same with exactly these addresses.
    ///
    /// # Errors
    /// When a file cannot be written; the one before is then still whole.
    pub(crate) fn write_access_only(
        &self,
        keys: &MasterKeys,
        addresses: &[SocketAddr],
    ) -> Result<(), AccessError> {
        self.write_access_as(keys, addresses.iter().map(ToString::to_string).collect())
    }

    fn write_access_as(&self, keys: &MasterKeys, addresses: Vec<String>) -> Result<(), AccessError> {
        for (role, identity) in [(Peer::Client, &keys.clients), (Peer::Worker, &keys.workers)] {
            let file = RoleFile {
                version: files::FORMAT_VERSION,
                cluster: self.cluster().to_owned(),
                cluster_id: keys.cluster_id.clone(),
                role: role.into(),
                addresses: addresses.clone(),
                master: keys.identity.certificate().to_text(),
                epoch: keys.epoch,
                identity: identity.to_text(),
            };
            files::write(&self.access_file(role), &file)?;
        }
        Ok(())
    }
}

impl Access {
    /// Reads a role's file.
    ///
    /// # Errors
    /// When it is missing, not private to this user, damaged, or of another version.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let missing = || {
            let kind = AccessErrorKind::NotFound { program: program() };
            AccessError::new(path, kind)
        };
        let file: RoleFile = files::read(path)?.ok_or_else(missing)?;
        if file.addresses.is_empty() {
            return Err(files::malformed(path, "it names no address"));
        }
        let bad_key = |e| AccessError::new(path, AccessErrorKind::BadKey(e));
        Ok(Self {
            master: Pin::from_text(&file.master).map_err(bad_key)?,
            identity: Identity::from_text(&file.identity).map_err(bad_key)?,
            cluster: file.cluster,
            cluster_id: file.cluster_id,
            role: file.role.into(),
            addresses: file.addresses,
            epoch: file.epoch,
            path: path.to_owned(),
        })
    }
}

/// The epoch in a role's file; none while it cannot be read.
pub(crate) fn epoch_in(path: &Path) -> Option<u64> {
    files::read::<Epoch>(path).ok()?.map(|file| file.epoch)
}

/// Whether a role's file is there no more; not whether it cannot be looked at.
pub(crate) fn is_gone(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

/// What the user typed to start this program, for advice they can type again.
fn program() -> String {
    let typed = std::env::args_os().next().filter(|typed| !typed.is_empty());
    typed.map_or_else(|| "cw".to_owned(), |typed| typed.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    struct Cluster {
        _home: tempfile::TempDir,
        dir: ClusterDir,
        keys: MasterKeys,
    }

    fn cluster() -> Cluster {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "test").unwrap();
        let (keys, _lock) = dir.open_master().unwrap();
        dir.write_access(&keys, &["127.0.0.1:5494".parse().unwrap()]).unwrap();
        Cluster { _home: home, dir, keys }
    }

    #[test]
    fn each_role_reads_its_own_key_and_the_masters_pin() {
        let Cluster { dir, keys, .. } = &cluster();
        for (role, identity) in [(Peer::Client, &keys.clients), (Peer::Worker, &keys.workers)] {
            assert!(dir.exists(role));
            let access = Access::read(&dir.access_file(role)).unwrap();
            assert_eq!((access.cluster.as_str(), access.role), ("test", role));
            assert_eq!(access.cluster_id, keys.cluster_id);
            assert_eq!(access.addresses, ["127.0.0.1:5494"]);
            assert_eq!(&access.master, keys.identity.certificate());
            assert_eq!(access.identity.certificate(), identity.certificate());
            assert_eq!(access.path, dir.access_file(role));
            assert_eq!((access.epoch, epoch_in(&access.path)), (1, Some(1)));
        }
    }

    #[test]
    fn a_role_file_holds_no_other_key() {
        let Cluster { dir, keys, .. } = &cluster();
        let text = fs::read_to_string(dir.access_file(Peer::Worker)).unwrap();
        assert!(text.contains(&keys.workers.to_text().key));
        assert!(!text.contains(&keys.identity.to_text().key));
        assert!(!text.contains(&keys.clients.to_text().key));
    }

    #[test]
    fn rewriting_changes_addresses_and_keeps_0600() {
        let Cluster { dir, keys, .. } = &cluster();
        let path = dir.access_file(Peer::Client);
        dir.write_access(keys, &["[::1]:7".parse().unwrap()]).unwrap();
        assert_eq!(Access::read(&path).unwrap().addresses, ["[::1]:7"]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_from_before_epochs_were_in_it_is_read() {
        let Cluster { dir, .. } = &cluster();
        let path = dir.access_file(Peer::Client);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("  \"epoch\": 1,\n", "")).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("epoch"));
        assert_eq!(Access::read(&path).unwrap().epoch, 0);
        assert_eq!(epoch_in(&path), Some(0));
        fs::remove_file(&path).unwrap();
        assert_eq!(epoch_in(&path), None);
    }

    #[test]
    fn a_missing_file_says_how_to_get_one() {
        let Cluster { dir, .. } = &cluster();
        let path = dir.path().join("none.json");
        let error = Access::read(&path).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error.kind, AccessErrorKind::NotFound { .. }));
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(text.contains("--role master") && text.contains("--access FILE"), "{text}");
    }

    #[test]
    fn a_public_file_is_refused() {
        let Cluster { dir, .. } = &cluster();
        let path = dir.access_file(Peer::Client);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let text = Access::read(&path).unwrap_err().to_string();
        assert!(text.contains(&format!("`chmod 600 {}`", path.display())), "{text}");
    }

    #[test]
    fn damage_is_told_apart() {
        let Cluster { dir, keys, .. } = &cluster();
        let path = dir.access_file(Peer::Client);
        let whole = fs::read_to_string(&path).unwrap();
        let kind_with = |from: &str, to: &str| {
            assert!(whole.contains(from));
            fs::write(&path, whole.replace(from, to)).unwrap();
            Access::read(&path).unwrap_err().kind
        };
        let other_key = &keys.workers.to_text().key;
        let key = kind_with(&keys.clients.to_text().key, other_key);
        assert!(matches!(key, AccessErrorKind::BadKey(_)), "{key}");
        let pin = kind_with(&keys.identity.certificate().to_text(), "00");
        assert!(matches!(pin, AccessErrorKind::BadKey(_)), "{pin}");
        let role = kind_with("\"client\"", "\"emperor\"");
        assert!(matches!(role, AccessErrorKind::Malformed(_)), "{role}");
        let addresses = kind_with("\"127.0.0.1:5494\"", "");
        assert!(matches!(addresses, AccessErrorKind::Malformed(_)), "{addresses}");
        let version = kind_with("\"version\": 1", "\"version\": 9");
        assert!(matches!(version, AccessErrorKind::Version { found: 9, known: 1 }), "{version}");
    }
}
