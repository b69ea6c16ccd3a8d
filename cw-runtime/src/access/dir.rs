//! Where a cluster's files lie.

use std::env;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use super::error::{AccessError, AccessErrorKind};
use super::files;
use crate::net::tls::Peer;

/// The environment variable that names the folder above all clusters' folders.
pub const HOME_VARIABLE: &str = "CW_HOME";

const DEFAULT_HOME: &str = ".cw";
const NAME_BYTES_MAX: usize = 64;

/// A cluster's folder, which need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDir {
    cluster: String,
    path: PathBuf,
}

impl ClusterDir {
    /// The folder of the cluster with this name, in `CW_HOME` or else in `~/.cw`. Looks at no file.
    ///
    /// # Errors
    /// [`AccessErrorKind::BadName`], or [`AccessErrorKind::NoHome`] without `CW_HOME` and home directory.
    pub fn locate(cluster: &str) -> Result<Self, AccessError> {
        let named = env::var_os(HOME_VARIABLE).filter(|home| !home.is_empty()).map(PathBuf::from);
        let home = named.or_else(|| {
            let home = env::home_dir().filter(|home| home.is_absolute())?;
            Some(home.join(DEFAULT_HOME))
        });
        let no_home = || AccessError::new(Path::new(cluster), AccessErrorKind::NoHome);
        Self::in_home(&home.ok_or_else(no_home)?, cluster)
    }

    /// The folder of the cluster with this name below `home`, whatever the environment says.
    ///
    /// # Errors
    /// [`AccessErrorKind::BadName`].
    pub fn in_home(home: &Path, cluster: &str) -> Result<Self, AccessError> {
        if !is_name(cluster) {
            return Err(AccessError::new(Path::new(cluster), AccessErrorKind::BadName));
        }
        Ok(Self { cluster: cluster.to_owned(), path: home.join(cluster) })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file through which this role gets in.
    pub fn access_file(&self, role: Peer) -> PathBuf {
        self.path.join(format!("{}.json", role.name()))
    }

    /// Whether a master has left a file for this role here. Whether that master still runs, only a connection
    /// tells.
    pub fn exists(&self, role: Peer) -> bool {
        self.access_file(role).exists()
    }

    /// Whether there is anything of a cluster here: a master's files, or what was started for one.
    pub(crate) fn is_begun(&self) -> bool {
        [self.key_file(), self.access_file(Peer::Client), self.path.join("fleet.json")]
            .iter()
            .any(|it| it.exists())
    }

    /// The names of all clusters with a folder beside this one, in order.
    pub(crate) fn beside(&self) -> Vec<String> {
        let Some(home) = self.path.parent() else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_begun = |name: &String| Self::in_home(home, name).is_ok_and(|dir| dir.is_begun());
        let mut names: Vec<String> = names.filter(is_begun).collect();
        names.sort_unstable();
        names
    }

    /// Where background processes log to.
    pub(crate) fn log_folder(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Makes the folder, and that of logs, where they are missing.
    ///
    /// # Errors
    /// They cannot be made, or others may enter them.
    pub(crate) fn make(&self) -> Result<(), AccessError> {
        files::private_dir(&self.path)?;
        files::private_dir(&self.log_folder())
    }

    /// A private file of the cluster's; `None` where there is none.
    pub(crate) fn read_own<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, AccessError> {
        files::read(path)
    }

    pub(crate) fn write_own<T: Serialize>(&self, path: &Path, content: &T) -> Result<(), AccessError> {
        files::write(path, content)
    }

    pub(crate) fn remove_own(&self, path: &Path) -> Result<(), AccessError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(AccessError::io(path, "remove it")(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.path.join("master.key")
    }

    pub(super) fn roster_file(&self) -> PathBuf {
        self.path.join("roster")
    }

    /// Held by a master that is about to take over from another.
    pub(super) fn takeover_file(&self) -> PathBuf {
        self.path.join("takeover.lock")
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.path.join("master.lock")
    }
}

/// A name that is one plain folder everywhere and no option on a command line.
fn is_name(cluster: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=NAME_BYTES_MAX).contains(&cluster.len())
        && !cluster.starts_with(['.', '-'])
        && cluster.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["default", "a", "gpu-2", "v1.2_x", "7", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\0", "é", "../x", &long] {
            let error = ClusterDir::in_home(Path::new("/h"), bad).unwrap_err();
            assert!(matches!(error.kind, AccessErrorKind::BadName), "{bad}");
        }
    }

    #[test]
    fn paths() {
        let dir = ClusterDir::in_home(Path::new("/h"), "gpu").unwrap();
        assert_eq!(dir.path(), Path::new("/h/gpu"));
        assert_eq!(dir.access_file(Peer::Client), Path::new("/h/gpu/client.json"));
        assert_eq!(dir.access_file(Peer::Worker), Path::new("/h/gpu/worker.json"));
        assert!(!dir.exists(Peer::Client));
    }
}
