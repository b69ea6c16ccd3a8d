//! Which program this process is: the hash of its executable, its job table, its name.

use std::{fs::File, io, path::PathBuf, sync::OnceLock};

use cw_core::{
    ids::ProgramId,
    wire::{Hello, JobLine, Role, Session, Token},
};

use crate::{
    blobs::BlobId,
    job,
    net::identity::{self, KeyError},
};

/// Version of cw, as greetings carry it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// On Linux the running image itself, even if its path holds another build by now.
pub(crate) fn own_path() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// The hash of this process's executable, as a blob is named. Read once.
///
/// # Errors
/// The executable cannot be read.
pub(crate) fn own_blob() -> io::Result<BlobId> {
    static ID: OnceLock<BlobId> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(*id);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(own_path()?)?)?;
    Ok(*ID.get_or_init(|| BlobId(*hasher.finalize().as_bytes())))
}

/// Which program this process is.
///
/// # Errors
/// The executable cannot be read.
pub(crate) fn own_id() -> io::Result<ProgramId> {
    own_blob().map(id_of)
}

/// The program whose executable that is.
pub(crate) fn id_of(blob: BlobId) -> ProgramId {
    let mut id = [0; 16];
    id.copy_from_slice(&blob.0[..16]);
    ProgramId(id)
}

/// What this process was built for.
pub(crate) fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The executable's file name, for people to read.
pub(crate) fn file_name() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned()))
        .unwrap_or_else(|| "program".to_owned())
}

/// This program as its user has typed it.
pub(crate) fn typed() -> String {
    std::env::args().next().filter(|typed| !typed.is_empty()).unwrap_or_else(file_name)
}

/// `host:pid`: where this process runs.
pub(crate) fn process_name() -> String {
    format!("{}:{}", host_name(), std::process::id())
}

/// The node's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What Slurm calls the job that this process is in: as `squeue` does, `7`, or `7_3` in an array.
pub(crate) fn launched() -> Option<String> {
    job_by(|name| std::env::var(name).ok())
}

/// An array's last task has the array's own number, by which Slurm would speak of all its tasks.
fn job_by(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let of_array =
        || Some(format!("{}_{}", variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?));
    of_array().or_else(|| variable("SLURM_JOB_ID"))
}

/// This process's greeting, with a new session: for the first time it greets.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn hello(program: ProgramId, role: Role) -> Result<Hello, KeyError> {
    let jobs = job::jobs().map(|job| JobLine { id: job.id, schema: job.schema, path: job.path.to_owned() });
    Ok(Hello {
        version: VERSION.to_owned(),
        target: target(),
        program,
        program_name: file_name(),
        name: process_name(),
        role,
        session: Session { token: Token(identity::random()?), known: None },
        jobs: jobs.collect(),
        launched: launched(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_task_of_an_array_does_not_pass_for_all_of_it() {
        let job = |all: &[(&str, &str)]| {
            job_by(|name| all.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned()))
        };
        let last = [("SLURM_JOB_ID", "7"), ("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "3")];
        assert_eq!(job(&last).as_deref(), Some("7_3"));
        assert_eq!(job(&[("SLURM_JOB_ID", "7"), ("SLURM_ARRAY_JOB_ID", "")]).as_deref(), Some("7"));
        assert_eq!(job(&[]), None);
    }
}
