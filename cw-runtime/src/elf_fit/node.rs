//! The glibc of this node.
//!
//! It is read from the file, not asked of the library: a static worker has no library to ask.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{Version, image::Image, is_of_system, path_of};

/// Where distributions have it. The 64-bit places first: `/usr/lib` is the 32-bit one on some.
const PLACES: [&str; 5] = [
    "/lib64/libc.so.6",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/usr/lib/libc.so.6",
];

/// The newest version this node's glibc has symbols of. Found once: when glibc is updated under a running worker, it
/// judges by the old one until it starts anew.
pub(super) fn glibc() -> Option<Version> {
    static GLIBC: OnceLock<Option<Version>> = OnceLock::new();
    *GLIBC.get_or_init(find)
}

fn find() -> Option<Version> {
    // Mapped, but deleted since, is no contradiction: then an update has put another in its place.
    mapped().into_iter().chain(PLACES.map(PathBuf::from)).find_map(|path| version_of(&path))
}

fn version_of(path: &Path) -> Option<Version> {
    let file = File::open(path).ok()?;
    Image::open(&file).ok()?.newest_defined()
}

/// The glibc this process runs with.
fn mapped() -> Option<PathBuf> {
    mapped_in(&fs::read("/proc/self/maps").ok()?)
}

/// Of the lines of `/proc/PID/maps`, only their paths have a slash.
pub(super) fn mapped_in(maps: &[u8]) -> Option<PathBuf> {
    let mut paths = maps.split(|&byte| byte == b'\n').filter_map(|line| {
        let start = line.iter().position(|&byte| byte == b'/')?;
        Some(path_of(&line[start..]))
    });
    paths.find(|path| is_libc(path) && is_of_system(path))
}

/// Before 2.34, `libc.so.6` was a link, and the maps show where it leads: `libc-2.31.so`.
fn is_libc(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"))
}
