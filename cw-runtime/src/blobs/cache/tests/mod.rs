//! Blobs with made-up content in real folders; how they get in and come out.

mod room;
mod share;

use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use super::*;
use crate::blobs::tree::CHUNK_BYTES;

struct Blob {
    content: Vec<u8>,
    id: BlobId,
    outline: Outline,
}

impl Blob {
    fn new(name: &str, bytes: usize) -> Self {
        let mut content = vec![0; bytes];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut content);
        let (id, outline) = Outline::of(&content[..]).unwrap();
        Self { content, id, outline }
    }

    /// Three chunks and a bit.
    fn large() -> Self {
        Self::new("large", 3 * CHUNK_BYTES + 7)
    }

    fn chunk(&self, index: u64) -> &[u8] {
        self.content.chunks(CHUNK_BYTES).nth(index as usize).unwrap()
    }

    fn put(&self, part: &mut Part, chunks: u64) {
        for _ in 0..chunks {
            part.put(self.chunk(part.next_chunk())).unwrap();
        }
    }

    fn put_rest(&self, part: &mut Part) {
        self.put(part, self.outline.chunk_count() - part.next_chunk());
    }

    fn fetch(&self, cache: &Cache) -> File {
        let mut part = part(cache, self);
        self.put_rest(&mut part);
        part.finish().unwrap()
    }

    #[track_caller]
    fn assert_read(&self, mut file: File) {
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == self.content, "{} bytes instead of {}", found.len(), self.content.len());
    }
}

fn cache(limit_bytes: u64) -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().join("cw/blobs"), limit_bytes).unwrap();
    (dir, cache)
}

fn roomy() -> (tempfile::TempDir, Cache) {
    cache(1 << 30)
}

#[track_caller]
fn part(cache: &Cache, blob: &Blob) -> Part {
    match cache.begin(blob.id, &blob.outline).unwrap() {
        Begin::Part(part) => part,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_busy(cache: &Cache, blob: &Blob) {
    let begun = cache.begin(blob.id, &blob.outline).unwrap();
    assert!(matches!(begun, Begin::Busy), "{begun:?}");
}

fn names(cache: &Cache) -> Vec<String> {
    let entries = fs::read_dir(&cache.folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Makes a file look as if it was last used that long ago.
fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn a_blob_goes_in_chunk_by_chunk_and_comes_out_whole() {
    let (_dir, cache) = roomy();
    for bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
        let blob = Blob::new("some", bytes);
        assert!(cache.find(blob.id).is_none());
        blob.assert_read(blob.fetch(&cache));
        blob.assert_read(cache.find(blob.id).unwrap());
        let Begin::Here(file) = cache.begin(blob.id, &blob.outline).unwrap() else { panic!() };
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o400);
        blob.assert_read(file);
    }
    assert!(names(&cache).iter().all(|name| !name.ends_with(PART_SUFFIX)));
}

#[test]
fn a_dropped_download_goes_on_where_it_stopped() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let mut first = part(&cache, &blob);
    blob.put(&mut first, 2);
    drop(first);
    assert!(cache.find(blob.id).is_none());
    let mut second = part(&cache, &blob);
    assert_eq!(second.next_chunk(), 2);
    blob.put_rest(&mut second);
    drop(second);
    let third = part(&cache, &blob);
    assert_eq!(third.next_chunk(), 4);
    blob.assert_read(third.finish().unwrap());
}

#[test]
fn an_altered_leftover_is_fetched_again_from_there() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let mut first = part(&cache, &blob);
    blob.put(&mut first, 3);
    drop(first);
    let leftover = File::options().write(true).open(cache.part_path(blob.id)).unwrap();
    leftover.write_all_at(b"something else", CHUNK_BYTES as u64 + 99).unwrap();
    let mut second = part(&cache, &blob);
    assert_eq!(second.next_chunk(), 1);
    assert_eq!(leftover.metadata().unwrap().len(), CHUNK_BYTES as u64);
    blob.put_rest(&mut second);
    blob.assert_read(second.finish().unwrap());
}

#[test]
fn a_leftover_with_half_a_chunk_or_too_much_is_cut() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    for (bytes, good) in [(CHUNK_BYTES + 500, 1), (blob.content.len() - 1, 3), (blob.content.len() + 9, 4)] {
        let mut left = blob.content.clone();
        left.resize(bytes, 0);
        fs::write(cache.part_path(blob.id), left).unwrap();
        let part = part(&cache, &blob);
        assert_eq!(part.next_chunk(), good);
        let good_bytes = blob.outline.bytes.min(good * CHUNK_BYTES as u64);
        assert_eq!(part.reader().unwrap().metadata().unwrap().len(), good_bytes);
    }
    blob.assert_read(part(&cache, &blob).finish().unwrap());
}

#[test]
fn a_wrong_chunk_is_named_and_leaves_no_trace() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let mut part = part(&cache, &blob);
    blob.put(&mut part, 1);
    for wrong in [blob.chunk(0), blob.chunk(2), &blob.chunk(1)[1..], b""] {
        let error = part.put(wrong).unwrap_err();
        assert!(matches!(error, CacheError::Mismatch { chunk: 1, .. }), "{error}");
        assert!(error.to_string().starts_with("put chunk 1 into /"), "{error}");
    }
    assert_eq!(part.reader().unwrap().metadata().unwrap().len(), CHUNK_BYTES as u64);
    blob.put_rest(&mut part);
    assert!(matches!(part.put(b""), Err(CacheError::Mismatch { chunk: 4, .. })));
    blob.assert_read(part.finish().unwrap());
}

#[test]
fn a_part_with_chunks_missing_is_not_finished_but_kept() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let mut first = part(&cache, &blob);
    blob.put(&mut first, 3);
    let error = first.finish().unwrap_err();
    assert!(error.to_string().ends_with(": only 3 of 4 chunks are there"), "{error}");
    assert!(cache.find(blob.id).is_none());
    assert_eq!(part(&cache, &blob).next_chunk(), 3);
}

#[test]
fn an_outline_of_another_blob_is_refused() {
    let (_dir, cache) = roomy();
    let (one, other) = (Blob::large(), Blob::new("other", 2 * CHUNK_BYTES));
    let error = cache.begin(one.id, &other.outline).unwrap_err();
    assert!(matches!(error, CacheError::BadOutline { .. }), "{error}");
    assert!(names(&cache).is_empty());
}

#[test]
fn chunks_can_be_read_while_others_are_still_to_come_and_after_the_end() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let mut part = part(&cache, &blob);
    let reader = part.reader().unwrap();
    blob.put(&mut part, 2);
    let mut found = vec![0; CHUNK_BYTES];
    reader.read_exact_at(&mut found, CHUNK_BYTES as u64).unwrap();
    assert!(found == blob.chunk(1));
    assert!(reader.write_at(b"x", 0).is_err());
    blob.put_rest(&mut part);
    drop(part.finish().unwrap());
    cache.discard(blob.id).unwrap();
    blob.assert_read(reader);
}

#[test]
fn a_damaged_blob_is_discarded_and_fetched_anew() {
    let (_dir, cache) = roomy();
    let blob = Blob::new("some", 1000);
    blob.fetch(&cache);
    cache.discard(blob.id).unwrap();
    cache.discard(blob.id).unwrap();
    assert!(cache.find(blob.id).is_none());
    blob.assert_read(blob.fetch(&cache));
}

#[test]
fn a_folder_that_was_cleaned_away_is_made_again() {
    let (dir, cache) = roomy();
    let blob = Blob::new("some", 1000);
    fs::remove_dir_all(dir.path().join("cw")).unwrap();
    blob.assert_read(blob.fetch(&cache));
}

#[test]
fn a_folder_others_may_enter_or_a_link_with_a_slash_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, cache) = roomy();
    let link = dir.path().join("cw/link");
    std::os::unix::fs::symlink(&cache.folder, &link).unwrap();
    let opened = Cache::open(link.join(""), 1);
    assert!(matches!(opened, Err(CacheError::NotPrivate { .. })), "{opened:?}");
    fs::set_permissions(&cache.folder, fs::Permissions::from_mode(0o755)).unwrap();
    let opened = Cache::open(cache.folder.clone(), 1);
    assert!(matches!(opened, Err(CacheError::NotPrivate { .. })), "{opened:?}");
}
