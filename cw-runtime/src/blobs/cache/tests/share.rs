//! Several who want the same blob, some of whom do not live to see it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Tells the test binary that it is the process to be killed, and where the cache is.
const CHILD: &str = "CW_TEST_CACHE_CHILD";

#[test]
fn two_parts_of_one_process_exclude_each_other() {
    let (_dir, cache) = roomy();
    let (blob, other) = (Blob::large(), Blob::new("other", 5));
    let first = part(&cache, &blob);
    let reader = first.reader().unwrap();
    assert_busy(&cache, &blob);
    drop(part(&cache, &other));
    drop(first);
    // A handle for reading does not hold the lock.
    drop(part(&cache, &blob));
    drop(reader);
}

#[test]
fn who_opened_the_part_before_it_was_finished_finds_the_finished_blob() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let path = cache.part_path(blob.id);
    let mut first = part(&cache, &blob);
    blob.put_rest(&mut first);
    // The waiter is between open and lock, while the holder renames the file and lets go.
    let opened = File::options().read(true).write(true).open(&path).unwrap();
    drop(first.finish().unwrap());
    let attempt = LockedFile::attempt_opened(&path, opened).unwrap();
    assert!(matches!(attempt, Attempt::Moved), "{attempt:?}");
    drop(attempt);
    // Or it comes to the open only now, and creates the file anew.
    let Attempt::Locked(file) = LockedFile::attempt(&path, true).unwrap() else { panic!() };
    let Begin::Here(found) = cache.begin_locked(blob.id, &blob.outline, file).unwrap() else { panic!() };
    blob.assert_read(found);
    assert!(!path.exists());
}

#[test]
fn many_who_want_the_same_blob_at_once_fetch_it_once() {
    let (_dir, cache) = roomy();
    let blob = Blob::new("wanted", 2 * CHUNK_BYTES);
    let fetch = || loop {
        match cache.begin(blob.id, &blob.outline).unwrap() {
            Begin::Here(file) => break (file, 0),
            Begin::Busy => std::thread::yield_now(),
            Begin::Part(mut part) => {
                blob.put_rest(&mut part);
                break (part.finish().unwrap(), 1);
            }
        }
    };
    let fetched = std::thread::scope(|scope| {
        let threads = (0..8).map(|_| scope.spawn(fetch)).collect::<Vec<_>>();
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.map(|(file, fetched)| (blob.assert_read(file), fetched).1).sum::<u32>()
    });
    assert_eq!(fetched, 1);
    assert_eq!(names(&cache), [blob.id.to_string()]);
}

/// A process that is killed when the test is over, however it ends.
struct Holder(Child);

impl Holder {
    /// Starts this test binary again, and waits until it has the blob's lock and two chunks.
    fn start(cache: &Cache) -> Self {
        let module = module_path!().split_once("::").unwrap().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("{module}::the_process_that_is_killed"), "--exact", "--nocapture"]);
        command.env(CHILD, &cache.folder).stdout(Stdio::piped());
        let mut holder = Self(command.spawn().unwrap());
        let mut lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("holding")), "the child ended early");
        holder
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No test by itself: what the other process of the next one does.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let blob = Blob::large();
    let mut part = part(&Cache::open(folder.into(), 1 << 30).unwrap(), &blob);
    blob.put(&mut part, 2);
    println!("holding");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_process_lets_go_and_the_next_one_resumes() {
    let (_dir, cache) = roomy();
    let blob = Blob::large();
    let mut holder = Holder::start(&cache);
    assert_busy(&cache, &blob);
    holder.kill();
    let mut part = part(&cache, &blob);
    assert_eq!(part.next_chunk(), 2);
    blob.put_rest(&mut part);
    blob.assert_read(part.finish().unwrap());
}

#[test]
fn a_part_that_was_cleaned_away_is_not_taken_for_its_successor() {
    let (_dir, cache) = roomy();
    let blob = Blob::new("some", 1000);
    let mut first = part(&cache, &blob);
    blob.put_rest(&mut first);
    fs::remove_file(cache.part_path(blob.id)).unwrap();
    let second = part(&cache, &blob);
    assert_eq!(first.reader().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(matches!(first.finish(), Err(CacheError::Io { .. })));
    assert!(cache.find(blob.id).is_none());
    assert_eq!(second.next_chunk(), 0);
}
