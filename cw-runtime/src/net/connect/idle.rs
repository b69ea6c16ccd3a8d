//! Workers for a bench of many: they join as all do, and then have nothing to run.

use std::{fmt, io, path::PathBuf, time::Duration};

use cw_core::{
    ids::ProgramId,
    wire::{Programs, Role},
};

use super::{Joined, Search, Wanted};
use crate::{net::tls::Peer, program};

/// Nobody's program, so no task is for them.
const PROGRAM: ProgramId = ProgramId(*b"it runs nothing.");

/// A worker that is connected and heard, and runs nothing; it is gone when this is dropped.
pub struct IdleWorker {
    _joined: Joined,
}

impl IdleWorker {
    /// Joins the master of an access file, as any worker does.
    ///
    /// # Errors
    /// The file cannot be used, or no master lets it in within the time.
    pub async fn join(access: PathBuf, timeout: Duration) -> io::Result<Self> {
        let role = Role::Worker { slots: 1, programs: Programs::Own, left: None };
        let hello = program::hello(PROGRAM, role).map_err(io::Error::other)?;
        let (cluster, role) = ("default".to_owned(), Peer::Worker);
        let wanted = Wanted { cluster, access: Some(access), master: None, role, timeout };
        let mut search = Search::quiet(wanted, hello);
        let patience = search.patience();
        let joined = search.join(patience).await.map_err(io::Error::other)?;
        Ok(Self { _joined: joined })
    }
}

impl fmt::Debug for IdleWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleWorker").finish_non_exhaustive()
    }
}
