//! How programs come to a worker: its own, what lies at the client's path, or a blob; always as a private copy that was
//! verified.

use std::{fs::File, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use cw_core::{
    ids::{ProgramId, ShareId},
    wire::{EXECUTOR_PROTOCOL, Particulars, Programs},
    worker::NoShare,
};

use super::upstream::{Got, Upstream};
use crate::{
    blobs::{self, BlobId, Outline, fetch::Failed, on_disk, talk::Wish},
    executor::scratch,
    image::{Image, Unfit},
    program,
};

/// How long a program is looked for at its client's path.
const PATH_TIME: Duration = Duration::from_secs(10);

/// What a worker gets programs with.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) programs: Programs,
    pub(crate) upstream: Arc<Upstream>,
}

impl Fetcher {
    /// Makes a program ready to be executed.
    ///
    /// # Errors
    /// Why it cannot be executed on this node, in one line.
    pub(crate) async fn get(&self, program: ProgramId, body: Bytes) -> Result<Image, String> {
        let particulars =
            Particulars::decode(&body).ok_or("its client says nothing of itself that makes sense")?;
        check(program, &particulars)?;
        let (id, name) = (BlobId(particulars.hash), particulars.name.clone());
        let path = PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(
            particulars.path.clone(),
        ));
        let at_path = {
            let (path, name) = (path.clone(), name.clone());
            let looking = on_disk(move || Ok(image_at(path, particulars.bytes, id, name)));
            // A file system that is gone may never answer.
            match tokio::time::timeout(PATH_TIME, looking).await {
                Ok(image) => image?,
                Err(_) => Err(std::io::Error::other("its file system does not answer").into()),
            }
        };
        let why_not = match at_path {
            Ok(image) => return Ok(image),
            Err(Unfit::Here(why)) => return Err(why),
            Err(other) => format!("{}: {other}", path.display()),
        };
        if self.programs == Programs::Shared {
            return Err(format!(
                "{why_not}; this worker runs only what is at the client's path (--programs shared)"
            ));
        }
        tracing::debug!("{why_not}; it is fetched as a blob");
        self.fetch(program, id, name).await
    }

    async fn fetch(&self, program: ProgramId, id: BlobId, name: String) -> Result<Image, String> {
        // The second time what was damaged in the cache has been removed.
        for last in [false, true] {
            let got = self.upstream.get(Wish::of(id, program)).await.map_err(Failed::into_words)?;
            let copied = {
                let name = name.clone();
                on_disk(move || Ok(Image::copy_of(got.file, id, name))).await?
            };
            match copied {
                Ok(image) => {
                    tracing::info!("{}, build {program}, was fetched", image.name());
                    return Ok(image);
                }
                Err(Unfit::Other(_)) if !last => {
                    tracing::warn!(
                        "the copy of {name} in {} is damaged; it is fetched anew",
                        blobs::folder().display()
                    );
                    self.upstream.discard(id).await?;
                }
                Err(other) => return Err(other.to_string()),
            }
        }
        unreachable!("the second time either ends it")
    }
}

impl Fetcher {
    /// Gets a value that tasks share, verified.
    ///
    /// # Errors
    /// Why it cannot be had, in one line.
    pub(super) async fn share(
        &self,
        share: ShareId,
        program: ProgramId,
        passing: bool,
    ) -> Result<PathBuf, NoShare> {
        let id = BlobId(share.0);
        for _ in 0..4 {
            let got = self.upstream.get(Wish { passing, ..Wish::of(id, program) }).await;
            let got = got.map_err(|failed| match failed {
                Failed::Here(why) => NoShare::Here(why),
                Failed::TooBig(why) => NoShare::TooBig(why),
                Failed::Away(why) => NoShare::Away(why),
                other => NoShare::There(other.into_words()),
            })?;
            match on_disk(move || keep(id, &got)).await.map_err(NoShare::Here)? {
                Kept::Whole(path) => return Ok(path),
                // The cache had to make room for something else.
                Kept::Gone => {}
                Kept::Damaged => self.upstream.discard(id).await.map_err(NoShare::Here)?,
            }
        }
        Err(NoShare::Here(format!(
            "its copy in {} was damaged or removed again and again",
            blobs::folder().display()
        )))
    }

    /// Takes out of the cache what hardly anybody will want again: its room, and its memory, serve others.
    pub(super) async fn forget(&self, share: ShareId) {
        if let Err(why) = self.upstream.discard(BlobId(share.0)).await {
            tracing::debug!("arguments stay in the cache: {why}");
        }
    }
}

/// A blob of the cache under a name of this process's own.
enum Kept {
    Whole(PathBuf),
    Gone,
    Damaged,
}

/// Gives a blob of the cache such a name, under which it stays whatever the cache makes room for, and verifies it there,
/// unless it has just come.
fn keep(id: BlobId, got: &Got) -> Result<Kept, String> {
    let path = scratch::private_file(&format!("share-{id}")).map_err(|error| error.to_string())?;
    // What it was forgotten under before may have stayed.
    let _ = std::fs::remove_file(&path);
    match std::fs::hard_link(blobs::folder().join(id.to_string()), &path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::Gone),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    }
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_verified = got.is_new && is_same(&file, &got.file);
    if is_verified || Outline::of(&file).is_ok_and(|(found, _)| found == id) {
        return Ok(Kept::Whole(path));
    }
    let _ = std::fs::remove_file(&path);
    Ok(Kept::Damaged)
}

fn is_same(one: &File, other: &File) -> bool {
    let place = |file: &File| file.metadata().map(|it| (it.dev(), it.ino())).ok();
    place(one).is_some_and(|it| place(other) == Some(it))
}

/// What can be told without the executable.
fn check(program: ProgramId, particulars: &Particulars) -> Result<(), String> {
    let (theirs, ours) = (&particulars.target, program::target());
    if *theirs != ours {
        return Err(format!("it is built for {theirs}, this node is {ours}"));
    }
    let (theirs, ours) = (particulars.executors, EXECUTOR_PROTOCOL);
    if theirs != ours {
        return Err(format!(
            "its executors speak version {theirs} of cw's protocol, this worker version {ours}: start a worker of the newer cw"
        ));
    }
    if program::id_of(BlobId(particulars.hash)) != program {
        return Err("its client says two things about which build it is".to_owned());
    }
    Ok(())
}

/// The program at its client's path, if it is there.
fn image_at(path: PathBuf, bytes: u64, id: BlobId, name: String) -> Result<Image, Unfit> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != bytes {
        return Err(std::io::Error::other("another file").into());
    }
    Image::copy_of(file, id, name)
}
