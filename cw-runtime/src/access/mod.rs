//! A cluster's folder and files: how masters, workers and clients of one user find and recognise each other.
//!
//! `$CW_HOME/<cluster>/` (default `~/.cw/<cluster>/`, mode 0700) holds
//!
//! | file | content | who opens it |
//! | --- | --- | --- |
//! | `master.key` | all secret keys, the endpoint's reset key, the epoch | a master only |
//! | `client.json`, `worker.json` | the master's addresses and pin, the role's own key | that role |
//! | `master.lock` | held by the running master; its process id and host | masters |
//! | `launch.lock` | held by `cw start` and `cw stop` while they change what is started | these two |
//! | `step.lock` | held by the first rank of a Slurm step whose run this is | `srun ./sim` |
//! | `roster` | the peers that the next master of the cluster has to know | masters |
//! | `fleet.json` | what `cw start` started, and how | `cw start`, `stop`, `status`, the master |
//! | `notes/` | what stands in the way of processes that do not reach their master | `cw status`, the master |
//! | `log/` | what background processes say | people |
//!
//! Each file is created with mode 0600 (its mode is never changed later) and replaced as a whole, but for lines that
//! are added to the roster. Readers refuse
//! a file that is not the user's own or that others may read or write. Knows nothing of connections.

pub mod addresses;
pub mod dir;
pub mod error;
mod files;
pub mod keys;
pub(crate) mod lock;
pub(crate) mod notes;
pub mod role;
pub(crate) mod roster;
pub(crate) mod succession;

pub use addresses::reachable_addresses;
pub use dir::ClusterDir;
pub use error::{AccessError, AccessErrorKind};
pub use keys::{MasterKeys, MasterLock};
pub use role::Access;
