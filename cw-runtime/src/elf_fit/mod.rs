//! Whether another machine's executable can run on this node, asked before it is started.
//!
//! The kernel says "No such file or directory" for a missing loader, and the loader speaks on the stderr of a process
//! that never began. Here the same is said in one line that names both sides. Only what is certain is refused: where
//! versions cannot be found out, the executable passes, and the loader has the last word.
//!
//! `image` reads the file, `node` finds this node's glibc. That a shared library is missing is not looked for.

mod image;
mod node;
mod version;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use image::{Damaged, Image};
pub(crate) use version::Version;

/// What an executable is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// As `std::env::consts::ARCH` says it.
    pub(crate) machine: &'static str,
    /// `None` if it has none, or none that was found: then no executable is refused for its glibc.
    pub(crate) glibc: Option<Version>,
    /// Whether a loader is there. A function, so that tests need no such file.
    pub(crate) exists: fn(&Path) -> bool,
}

impl Node {
    /// The node this process runs on. Its glibc is looked for once in a process.
    pub(crate) fn here() -> Self {
        Self { machine: std::env::consts::ARCH, glibc: node::glibc(), exists: Path::exists }
    }
}

/// Whether this node can run `file`. Reads a few KiB of it, at offsets, and leaves its position alone.
///
/// # Errors
///
/// One line why not, for the user, as the end of a sentence about the executable. To retry does not help.
pub(crate) fn check(file: &File) -> Result<(), String> {
    check_against(file, &Node::here())
}

/// [`check`], for any node.
pub(crate) fn check_against(file: &File, node: &Node) -> Result<(), String> {
    let image = Image::open(file)?;
    // The machine first: what else is wrong with it for this node would only confuse.
    check_machine(&image, node)?;
    match image.loader() {
        Ok(Some(loader)) => check_loader(&loader, node).and_then(|()| check_glibc(&image, &loader, node)),
        Ok(None) => Ok(()),
        Err(Damaged) => Err("it is damaged: its ELF headers do not fit the file".to_owned()),
    }
}

fn check_machine(image: &Image<'_>, node: &Node) -> Result<(), String> {
    let machine = image.machine();
    // A node whose machine has no name here could not even run its own executable by this comparison.
    if machine == node.machine || !image::is_machine(node.machine) {
        return Ok(());
    }
    Err(format!("it is for {machine}, this node is {}", node.machine))
}

fn check_loader(loader: &Path, node: &Node) -> Result<(), String> {
    if (node.exists)(loader) {
        return Ok(());
    }
    // The name is another machine's word, so it must not break the line.
    let loader = loader.to_string_lossy();
    Err(format!("its loader {} is not on this node", loader.escape_debug()))
}

fn check_glibc(image: &Image<'_>, loader: &Path, node: &Node) -> Result<(), String> {
    if !is_of_system(loader) {
        return Ok(());
    }
    let (Some(needed), Some(has)) = (image.newest_needed(), node.glibc) else { return Ok(()) };
    if needed <= has {
        return Ok(());
    }
    Err(format!(
        "it needs glibc {needed}, this node has {has}: build it on an older system, or with \
         `-C target-feature=+crt-static`"
    ))
}

/// Whether a file belongs to the node's own system. A loader elsewhere (Nix, Guix, a toolchain in a shared folder)
/// brings a glibc of its own, which says nothing about the system's, nor the system's about it.
fn is_of_system(path: &Path) -> bool {
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].iter().any(|folder| path.starts_with(folder))
}

/// A path from the bytes in a file.
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests;
