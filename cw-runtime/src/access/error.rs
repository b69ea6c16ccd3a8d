//! What can be wrong with a cluster's files, each with the path and, where there is one, the remedy.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::flag::{flag, role};
use crate::net::tls::KeyError;

/// A cluster's folder or file that cannot be used.
///
/// `Display` names the path and the cause; a cause below is in `source()` only.
#[derive(Debug)]
pub struct AccessError {
    /// The file or folder; for [`AccessErrorKind::BadName`] and [`AccessErrorKind::NoHome`] the cluster's name.
    pub path: PathBuf,
    /// The cause.
    pub kind: AccessErrorKind,
}

/// The causes of an [`AccessError`]. Trying again helps with `Locked` and `Io` only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessErrorKind {
    /// There is no such file: no master has been started, or it uses another folder.
    #[error(
        "no such file; start a master first ({program} {}), or name a file with {} FILE",
        role("master"),
        flag("access")
    )]
    NotFound {
        /// The name this program was started by.
        program: String,
    },
    /// Group or others have rights on it.
    #[error("others have rights on it (mode {mode:04o}), and it grants the cluster; run `{fix}`")]
    Permissions {
        /// The permission bits found.
        mode: u32,
        /// The command that sets them right.
        fix: String,
    },
    /// It belongs to another user.
    #[error("belongs to user {owner}, while this process runs as user {user}")]
    Owner {
        /// The owner's user id.
        owner: u32,
        /// The effective user id of this process.
        user: u32,
    },
    /// It is there and cannot be read.
    #[error("not readable")]
    Unreadable(#[source] io::Error),
    /// Its content is not what cw writes.
    #[error("not a file of cw: {0}")]
    Malformed(String),
    /// A key in it is damaged.
    #[error("contains an unusable key")]
    BadKey(#[source] KeyError),
    /// Another version of cw wrote it.
    #[error("has format version {found}, while this build knows version {known}")]
    Version {
        /// The version in the file.
        found: u64,
        /// The version this build writes.
        known: u64,
    },
    /// A master runs on the folder already.
    #[error("in use by a running master{}; with {} this one takes its place", holder(.pid, .host), flag("takeover"))]
    Locked {
        /// Its process id, if it has got as far as writing it down.
        pid: Option<u32>,
        /// The host it runs on, which on a shared home may be another one.
        host: Option<String>,
    },
    /// The cluster's name cannot be a folder's name.
    #[error(
        "not a name for a cluster: use up to 64 letters, digits, `-`, `_` and `.`, not starting with `.` or `-`"
    )]
    BadName,
    /// Neither `CW_HOME` nor a home directory is known.
    #[error("no folder to look in: there is no home directory and CW_HOME is not set")]
    NoHome,
    /// New keys could not be made.
    #[error("cannot make its keys")]
    NewKeys(#[source] KeyError),
    /// The file system refused.
    #[error("cannot {doing}")]
    Io {
        /// What was tried, as in "create it".
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>, host: &Option<String>) -> String {
    let pid = pid.map(|pid| format!(" (process {pid}")).unwrap_or_default();
    match host {
        Some(host) if !pid.is_empty() => format!("{pid} on {host})"),
        _ if !pid.is_empty() => format!("{pid})"),
        _ => pid,
    }
}

impl AccessError {
    pub(super) fn new(path: &Path, kind: AccessErrorKind) -> Self {
        Self { path: path.to_owned(), kind }
    }

    /// Whether the file, or its folder, is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(&self.kind, AccessErrorKind::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// For use in `map_err`: a step that the file system refused.
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(path, AccessErrorKind::Io { doing, source })
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use {}: {}", self.path.display(), self.kind)
    }
}

impl Error for AccessError {
    /// The kind is part of the message already, so the chain goes on with the kind's own cause.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_what_is_known_of_its_holder() {
        let shown = |pid, host: Option<&str>| {
            let kind = AccessErrorKind::Locked { pid, host: host.map(str::to_owned) };
            AccessError::new(Path::new("/home/ada/.cw/default"), kind).to_string()
        };
        let start = "use /home/ada/.cw/default: in use by a running master";
        let end = "; with --takeover this one takes its place";
        assert_eq!(shown(Some(7), Some("n1")), format!("{start} (process 7 on n1){end}"));
        assert_eq!(shown(Some(7), None), format!("{start} (process 7){end}"));
        assert_eq!(shown(None, None), format!("{start}{end}"));
    }

    #[test]
    fn display_leaves_the_source_to_the_chain() {
        let cause = io::Error::other("disk on fire");
        let error = AccessError::io(Path::new("x"), "create it")(cause);
        assert_eq!(error.to_string(), "use x: cannot create it");
        assert_eq!(error.source().unwrap().to_string(), "disk on fire");
    }
}
