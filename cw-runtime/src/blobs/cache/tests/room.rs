//! The limit, old leftovers, and a disk with no room.

use std::process::Command;

use super::*;

#[test]
fn the_blob_not_used_for_longest_goes_first_and_finding_one_is_using_it() {
    let (_dir, cache) = cache(3000);
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(|name| Blob::new(name, 1000));
    for (blob, hours) in [(&a, 4), (&b, 3), (&c, 2)] {
        blob.fetch(&cache);
        age(&cache.blob_path(blob.id), hours);
    }
    let opened = cache.find(a.id).unwrap();
    let still_read = open_to_read(&cache.blob_path(b.id)).unwrap();
    d.fetch(&cache);
    let here = |blob: &Blob| cache.blob_path(blob.id).exists();
    assert_eq!([&a, &b, &c, &d].map(here), [true, false, true, true]);
    e.fetch(&cache);
    assert_eq!([&a, &b, &c, &d, &e].map(here), [true, false, false, true, true]);
    a.assert_read(opened);
    b.assert_read(still_read);
}

#[test]
fn the_one_just_finished_stays_even_if_all_others_have_to_go() {
    let (_dir, cache) = cache(2500);
    for name in ["a", "b"] {
        let blob = Blob::new(name, 1000);
        blob.fetch(&cache);
        // As if another node's clock had marked it: it still goes before the new one.
        let later = SystemTime::now() + Duration::from_secs(3600);
        File::open(cache.blob_path(blob.id)).unwrap().set_modified(later).unwrap();
    }
    let large = Blob::new("large", 2500);
    large.assert_read(large.fetch(&cache));
    assert_eq!(names(&cache), [large.id.to_string()]);
}

#[test]
fn a_blob_over_the_limit_is_refused_before_the_first_byte() {
    let (_dir, cache) = cache(999);
    let blob = Blob::new("some", 1000);
    let error = cache.begin(blob.id, &blob.outline).unwrap_err();
    assert!(matches!(error, CacheError::TooBig { bytes: 1000, limit_bytes: 999, .. }), "{error}");
    let folder = cache.folder.display();
    let line = format!("keep a blob of 1000 bytes in {folder}: the limit there is 999 bytes");
    assert_eq!(error.to_string(), line);
    assert!(names(&cache).is_empty());
}

#[test]
fn leftovers_of_yesterday_go_unless_somebody_has_them_and_foreign_files_stay() {
    let (_dir, cache) = cache(1000);
    let [old, held, fresh, new] = ["old", "held", "fresh", "new"].map(|name| Blob::new(name, 1000));
    drop(part(&cache, &old));
    drop(part(&cache, &fresh));
    let holder = part(&cache, &held);
    let foreign = cache.folder.join("notes.part");
    fs::write(&foreign, "mine").unwrap();
    for path in [old.id, held.id].map(|id| cache.part_path(id)) {
        age(&path, 25);
    }
    age(&foreign, 25);
    new.fetch(&cache);
    let left = [&old, &held, &fresh].map(|blob| cache.part_path(blob.id).exists());
    assert_eq!((left, foreign.exists()), ([false, true, true], true));
    drop(holder);
}

/// A small file system, gone at the end of the test.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => return Some(Self(dir)),
            Ok(output) => eprintln!("skipped, no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => eprintln!("skipped, no mount: {error}"),
        }
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_to_be_full_and_the_download_goes_on_once_there_is_room() {
    let Some(disk) = Disk::mount("size=3m,mode=0700") else { return };
    let cache = Cache::open(disk.0.path().join("blobs"), 1 << 30).unwrap();
    let ballast = cache.folder.join("ballast");
    fs::write(&ballast, vec![0; CHUNK_BYTES / 2]).unwrap();
    let blob = Blob::new("some", 2 * CHUNK_BYTES + 600_000);
    let mut part = part(&cache, &blob);
    blob.put(&mut part, 2);
    let error = part.put(blob.chunk(2)).unwrap_err();
    assert!(matches!(&error, CacheError::Full { folder, .. } if *folder == cache.folder), "{error}");
    let start = format!("write to {}: it is full (", cache.folder.display());
    assert!(error.to_string().starts_with(&start), "{error}");
    assert_eq!(part.next_chunk(), 2);
    fs::remove_file(ballast).unwrap();
    blob.put_rest(&mut part);
    blob.assert_read(part.finish().unwrap());
}
