//! Which program this process is: the hash of its executable, its job table, its name; and a private copy
//! of the executable from which executors are started.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use cw_core::{
    ids::ProgramId,
    wire::{Hello, JobLine, Role, Session, Token},
};

use crate::{
    job,
    net::identity::{self, KeyError},
};

/// Version of cw, as greetings carry it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An executable that executors are started from.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    path: PathBuf,
    /// Keeps the copy alive; its path goes through this process's descriptors.
    _copy: Option<Arc<File>>,
}

impl Image {
    /// This process's own executable, as the kernel has it open: no build can change it.
    pub(crate) fn own() -> io::Result<Self> {
        Ok(Self { path: own_path()?, _copy: None })
    }

    /// A private copy of this process's executable, hashed while it is copied.
    ///
    /// On Linux it lies in memory and has no name; elsewhere in a private temporary folder.
    ///
    /// # Errors
    /// The executable cannot be read, or there is no memory or disk for the copy.
    pub(crate) fn private_copy() -> io::Result<(Self, ProgramId)> {
        let mut hasher = blake3::Hasher::new();
        let (mut copy, path) = new_copy()?;
        let mut source = File::open(own_path()?)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            copy.write_all(&buffer[..read])?;
        }
        let image =
            Self { path: path.unwrap_or_else(|| descriptor_path(&copy)), _copy: Some(Arc::new(copy)) };
        Ok((image, id_of(&hasher)))
    }

    /// What to execute.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}

/// The descriptor's number is the same in a child until it executes the file.
fn descriptor_path(copy: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()))
}

#[cfg(target_os = "linux")]
fn new_copy() -> io::Result<(File, Option<PathBuf>)> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok((File::from(rustix::fs::memfd_create("cw-program", flags)?), None))
}

#[cfg(not(target_os = "linux"))]
fn new_copy() -> io::Result<(File, Option<PathBuf>)> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("cw-program").tempdir()?.keep();
    let path = folder.join("program");
    let file = File::create_new(&path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o700))?;
    Ok((file, Some(path)))
}

/// On Linux the running image itself, even if its path holds another build by now.
fn own_path() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// The hash of this process's executable. Read once.
///
/// # Errors
/// The executable cannot be read.
pub(crate) fn own_id() -> io::Result<ProgramId> {
    static ID: OnceLock<ProgramId> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(*id);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(own_path()?)?)?;
    Ok(*ID.get_or_init(|| id_of(&hasher)))
}

fn id_of(hasher: &blake3::Hasher) -> ProgramId {
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    ProgramId(id)
}

/// The executable's file name, for people to read.
pub(crate) fn file_name() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned()))
        .unwrap_or_else(|| "program".to_owned())
}

/// `host:pid`: where this process runs.
pub(crate) fn process_name() -> String {
    format!("{}:{}", host_name(), std::process::id())
}

/// The node's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// This process's greeting, with a new session: for the first time it greets.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn hello(program: ProgramId, role: Role) -> Result<Hello, KeyError> {
    let jobs = job::jobs().map(|job| JobLine { id: job.id, schema: job.schema, path: job.path.to_owned() });
    Ok(Hello {
        version: VERSION.to_owned(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        program,
        program_name: file_name(),
        name: process_name(),
        role,
        session: Session { token: Token(identity::random()?), known: None },
        jobs: jobs.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_the_program() {
        let (image, id) = Image::private_copy().unwrap();
        assert_eq!(id, own_id().unwrap());
        let copy = std::fs::metadata(image.path()).unwrap().len();
        assert_eq!(copy, std::fs::metadata(std::env::current_exe().unwrap()).unwrap().len());
    }
}
