//! Executables that executors are started from: private copies, verified while they are copied, which no build changes.
//!
//! A copy lies in memory, sealed; one that is too big for that, or where the system lets nothing in memory be executed,
//! lies in a private file of this process's, which is removed with it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
};

use cw_core::ids::ProgramId;

use crate::{blobs::BlobId, executor::scratch, program};

/// Bigger executables are not kept in memory.
const IN_MEMORY_MAX: u64 = 256 << 20;

/// An executable that executors are started from.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    path: PathBuf,
    /// The program's file name, for people to read.
    name: String,
    /// Keeps the copy alive.
    _copy: Option<Arc<Copy>>,
}

/// Why a file is no image of a program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It is another build, or damaged.
    #[error("it is another build ({0})")]
    Other(ProgramId),
    /// It cannot be executed on this node.
    #[error("{0}")]
    Here(String),
    /// It cannot be read, or there is no room for the copy.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Image {
    /// This process's own executable, as the kernel has it open: no build can change it.
    pub(crate) fn own() -> io::Result<Self> {
        Ok(Self { path: program::own_path()?, name: program::file_name(), _copy: None })
    }

    /// A private copy of this process's executable.
    ///
    /// # Errors
    /// The executable cannot be read, or there is no memory or disk for the copy.
    pub(crate) fn private_copy() -> io::Result<(Self, BlobId)> {
        let source = File::open(program::own_path()?)?;
        let (copy, id) = Copy::of(&source)?;
        Ok((copy.into_image(program::file_name()), id))
    }

    /// A private copy of what is in this file, if that is this program and can be executed here.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub(crate) fn copy_of(source: File, id: BlobId, name: String) -> Result<Self, Unfit> {
        let (copy, found) = Copy::of(&source)?;
        if found != id {
            return Err(Unfit::Other(program::id_of(found)));
        }
        copy.check().map_err(Unfit::Here)?;
        Ok(copy.into_image(name))
    }

    /// What to execute.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The program's file name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// A copy and where it lies.
#[derive(Debug)]
struct Copy {
    file: File,
    /// None if it is in memory.
    path: Option<PathBuf>,
}

impl Copy {
    fn of(source: &File) -> io::Result<(Self, BlobId)> {
        let bytes = source.metadata()?.len();
        let mut copy = Self::new(bytes)?;
        // One that grows meanwhile is another build.
        let mut source = source.take(bytes + 1);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = match source.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            let written = copy.file.write_all(&buffer[..read]);
            written.map_err(|error| copy.full(&error))?;
        }
        copy.close()?;
        Ok((copy, BlobId(*hasher.finalize().as_bytes())))
    }

    fn new(bytes: u64) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if bytes <= IN_MEMORY_MAX
            && let Some(file) = in_memory()
        {
            return Ok(Self { file, path: None });
        }
        let _ = bytes;
        let path = scratch::private_file(&format!("program-{}", number()))?;
        let mut options = File::options();
        let options = options.write(true).create_new(true);
        let file = std::os::unix::fs::OpenOptionsExt::mode(options, 0o700).open(&path)?;
        Ok(Self { file, path: Some(path) })
    }

    /// Why it cannot be written, with where it lies.
    fn full(&self, error: &io::Error) -> io::Error {
        let place = self.path.as_ref().map_or_else(|| "memory".to_owned(), |path| path.display().to_string());
        io::Error::new(error.kind(), format!("no private copy in {place}: {error}"))
    }

    /// Nothing writes to it any more.
    fn close(&mut self) -> io::Result<()> {
        match &self.path {
            // What is open for writing cannot be executed.
            Some(path) => self.file = File::open(path)?,
            None => seal(&self.file)?,
        }
        Ok(())
    }

    /// Whether it can be executed here; else why not, in one line.
    fn check(&self) -> Result<(), String> {
        #[cfg(target_os = "linux")]
        if let Some(folder) = self.path.as_ref().and_then(|path| path.parent()) {
            let flags = rustix::fs::statvfs(folder).map(|it| it.f_flag);
            if flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC)) {
                let folder = folder.display();
                return Err(format!(
                    "nothing can be executed in {folder}, which is mounted noexec: set TMPDIR to another folder"
                ));
            }
        }
        #[cfg(target_os = "linux")]
        crate::elf_fit::check(&self.file)?;
        Ok(())
    }

    fn into_image(self, name: String) -> Image {
        // The descriptor's number is the same in a child until it executes the file.
        let in_memory = || PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let path = self.path.clone().unwrap_or_else(in_memory);
        Image { path, name, _copy: Some(Arc::new(self)) }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What is left is swept by another process of this user's.
            let _ = fs::remove_file(path);
        }
    }
}

/// A number for a file of this process's.
fn number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A file in memory that can be executed, where the system allows that.
#[cfg(target_os = "linux")]
fn in_memory() -> Option<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and let anything be executed.
    let made = memfd_create("cw-program", flags | MemfdFlags::EXEC);
    made.or_else(|error| match error {
        rustix::io::Errno::INVAL => memfd_create("cw-program", flags),
        other => Err(other),
    })
    .ok()
    .map(File::from)
}

#[cfg(target_os = "linux")]
fn seal(file: &File) -> io::Result<()> {
    use rustix::fs::{SealFlags, fcntl_add_seals};
    Ok(fcntl_add_seals(file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?)
}

#[cfg(not(target_os = "linux"))]
fn seal(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_the_program_and_cannot_be_changed() {
        let (image, id) = Image::private_copy().unwrap();
        assert_eq!(program::id_of(id), program::own_id().unwrap());
        let copy = fs::metadata(image.path()).unwrap().len();
        assert_eq!(copy, fs::metadata(std::env::current_exe().unwrap()).unwrap().len());
        assert!(
            File::options().write(true).open(image.path()).and_then(|mut it| it.write_all(b"x")).is_err()
        );
    }

    #[test]
    fn another_build_is_no_image_of_a_program() {
        let own = File::open(std::env::current_exe().unwrap()).unwrap();
        let wrong = Image::copy_of(own, BlobId([7; 32]), "sim".to_owned()).unwrap_err();
        assert_eq!(wrong.to_string(), format!("it is another build ({})", program::own_id().unwrap()));
    }

    #[test]
    fn what_is_no_executable_is_refused_in_one_line() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh\n").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let id = BlobId::of(b"#!/bin/sh\n");
        let wrong = Image::copy_of(file, id, "sim".to_owned()).unwrap_err().to_string();
        assert!(wrong.contains("no executable") && !wrong.contains('\n'), "{wrong}");
    }
}
