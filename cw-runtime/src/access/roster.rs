//! The roster: the peers of a cluster, for its next master, which has to know them when they come back.
//!
//! A text, one event a line: `+ worker 5 TOKEN` has joined, `- 5` will not come back, `next 17` is given to nobody yet.
//! Lines are only added; a master that starts writes the file anew with those who are left. What cannot be read is
//! skipped: a peer that is missing here is taken for a new one, and its tasks run a second time, no more.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{Seek, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use cw_core::{
    master::{Member, RosterLine},
    wire::Token,
};

use super::{dir::ClusterDir, error::AccessError, files};
use crate::net::identity::{decode_hex, encode_hex};

/// Longest roster that is read: a million peers, or [`SPARE_LINES`] more lines than that.
const BYTES_MAX: u64 = 256 << 20;

/// So many lines more than members may be in the file before it is written anew.
const SPARE_LINES: usize = 16_384;

/// How long the end of a master waits for what is still to be written.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// The file in the hands of the running master: takes lines and never waits for a disk.
///
/// Behind it is a thread that writes. Nothing is synced, and what a disk takes too long for is lost with the process: a
/// line that is missing costs no more than a task that runs twice. The channel to it has no bound, as a line is small
/// and comes with a handshake, which costs far more.
#[derive(Debug)]
pub(crate) struct Roster {
    lines: Option<Sender<RosterLine>>,
    ended: Receiver<()>,
}

/// What is in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    members: BTreeMap<u32, Member>,
    next: u32,
}

impl ClusterDir {
    /// Reads the roster, writes it anew without those who have left, and goes on writing it. The [`Book`] is for the
    /// machine: who may come back, and the first number that nobody has had.
    ///
    /// # Errors
    /// It is not this user's own, or cannot be written.
    pub(crate) fn open_roster(&self) -> Result<(Roster, Book), AccessError> {
        let path = self.roster_file();
        let text = files::read_private(&path, BYTES_MAX)?.unwrap_or_default();
        let book = Book::read(&String::from_utf8_lossy(&text));
        let writer = Writer::begin(path, book.clone())?;
        Ok((writer.start(), book))
    }
}

impl Roster {
    /// Adds a line, soon.
    pub(crate) fn note(&self, line: RosterLine) {
        // Without its thread the roster is lost, which was said.
        let _ = self.lines.as_ref().map(|lines| lines.send(line));
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        self.lines = None;
        // Ends at once when the thread is done, which drops the other end.
        let _ = self.ended.recv_timeout(CLOSE_WAIT);
    }
}

impl Book {
    /// Takes in a file. A last line without an end is one that was cut short, and may say anything.
    fn read(text: &str) -> Self {
        let mut book = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            book.take_line(line);
        }
        book
    }

    fn take_line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["+", role, id, token] => {
                let is_worker =
                    [("worker", true), ("client", false)].into_iter().find(|(name, _)| *name == role)?.1;
                let token = Token(decode_hex(token)?.try_into().ok()?);
                self.note(RosterLine::Joined(Member { id: id.parse().ok()?, token, is_worker }));
            }
            ["-", id] => self.note(RosterLine::Left { id: id.parse().ok()? }),
            ["next", id] => self.next = self.next.max(id.parse().ok()?),
            _ => {}
        }
        Some(())
    }

    fn note(&mut self, line: RosterLine) {
        match line {
            RosterLine::Joined(member) => {
                self.next = self.next.max(member.id.saturating_add(1));
                self.members.insert(member.id, member);
            }
            RosterLine::Left { id } => drop(self.members.remove(&id)),
        }
    }

    /// The whole file.
    fn text(&self) -> String {
        let mut text = format!("next {}\n", self.next);
        self.members.values().for_each(|member| put_line(&mut text, &RosterLine::Joined(*member)));
        text
    }

    /// The first number that no peer has had.
    pub(crate) fn first_id(&self) -> u32 {
        self.next
    }

    /// Who may come back, by number.
    pub(crate) fn into_members(self) -> Vec<Member> {
        self.members.into_values().collect()
    }
}

fn put_line(text: &mut String, line: &RosterLine) {
    let put = match line {
        RosterLine::Joined(Member { id, token, is_worker }) => {
            let role = if *is_worker { "worker" } else { "client" };
            writeln!(text, "+ {role} {id} {}", encode_hex(&token.0))
        }
        RosterLine::Left { id } => writeln!(text, "- {id}"),
    };
    put.expect("a text takes what is written to it");
}

/// The thread's: what stands in the file, and the file.
struct Writer {
    path: PathBuf,
    file: File,
    book: Book,
    /// Lines added since it was written anew.
    added: usize,
}

impl Writer {
    fn begin(path: PathBuf, book: Book) -> Result<Self, AccessError> {
        let file = write_anew(&path, &book)?;
        Ok(Self { path, file, book, added: 0 })
    }

    fn start(self) -> Roster {
        let (lines, receive) = channel();
        let (end, ended) = channel();
        let write = move || {
            self.write_all(&receive);
            drop(end);
        };
        if let Err(error) = thread::Builder::new().name("cw-roster".to_owned()).spawn(write) {
            tracing::warn!("cannot note who joins, which the next master will miss: {error}");
        }
        Roster { lines: Some(lines), ended }
    }

    /// Writes what comes, all that waits at once, until nothing more can come.
    fn write_all(mut self, lines: &Receiver<RosterLine>) {
        while let Ok(first) = lines.recv() {
            let mut text = String::new();
            for line in std::iter::once(first).chain(lines.try_iter()) {
                put_line(&mut text, &line);
                self.book.note(line);
                self.added += 1;
            }
            if let Err(error) = self.write(&text) {
                tracing::warn!("cannot note who joins, which the next master will miss: {error}");
                return;
            }
        }
    }

    fn write(&mut self, text: &str) -> Result<(), AccessError> {
        if self.added > self.book.members.len() + SPARE_LINES {
            self.file = write_anew(&self.path, &self.book)?;
            self.added = 0;
            return Ok(());
        }
        self.file.write_all(text.as_bytes()).map_err(AccessError::io(&self.path, "write it"))
    }
}

/// Replaces the file, and opens it to add to its end.
fn write_anew(path: &Path, book: &Book) -> Result<File, AccessError> {
    files::write_bytes(path, book.text().as_bytes())?;
    let mut file = files::open_private(path)?;
    file.seek(SeekFrom::End(0)).map_err(AccessError::io(path, "write it"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn cluster() -> (tempfile::TempDir, ClusterDir) {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "test").unwrap();
        files::private_dir(dir.path()).unwrap();
        (home, dir)
    }

    fn member(id: u32, is_worker: bool) -> Member {
        Member { id, token: Token([u8::try_from(id % 251).unwrap(); 16]), is_worker }
    }

    fn reopened(dir: &ClusterDir) -> (u32, Vec<Member>) {
        let (_roster, book) = dir.open_roster().unwrap();
        (book.first_id(), book.into_members())
    }

    #[test]
    fn the_next_master_knows_who_is_left() {
        let (_home, dir) = cluster();
        assert_eq!(reopened(&dir), (0, vec![]));
        let (roster, _) = dir.open_roster().unwrap();
        for id in 0..4 {
            roster.note(RosterLine::Joined(member(id, id % 2 == 0)));
        }
        roster.note(RosterLine::Left { id: 1 });
        roster.note(RosterLine::Left { id: 3 });
        drop(roster);
        assert_eq!(reopened(&dir), (4, vec![member(0, true), member(2, true)]));
        // Also when those who had the highest numbers are no longer in the file.
        assert_eq!(reopened(&dir), (4, vec![member(0, true), member(2, true)]));
        let text = fs::read_to_string(dir.roster_file()).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let (_home, dir) = cluster();
        drop(dir.open_roster().unwrap());
        let mode = fs::metadata(dir.roster_file()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::set_permissions(dir.roster_file(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(dir.open_roster().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_torn_or_garbage_is_skipped() {
        let good = "+ worker 5 05050505050505050505050505050505\n";
        let garbage = [
            "",
            "+ worker 6 0505",
            "+ king 7 05050505050505050505050505050505",
            "+ client -8 05050505050505050505050505050505",
            "+ client 9 zz050505050505050505050505050505",
            "- x",
            "next",
            "next -1",
            "\u{fffd}\u{0}",
            "- 5 5",
        ];
        let whole = format!("{}\n{good}{}\n", garbage.join("\n"), garbage.join("\n"));
        // A line that was cut short may look like another: this was about 57.
        let torn = format!("{whole}- 5");
        for text in [&whole, &torn] {
            let book = Book::read(text);
            assert_eq!((book.first_id(), book.into_members()), (6, vec![member(5, true)]), "{text:?}");
        }
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let (_home, dir) = cluster();
        drop(dir.open_roster().unwrap());
        let mut file = files::open_private(&dir.roster_file()).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"+ worker 7 0707").unwrap();
        let (roster, _) = dir.open_roster().unwrap();
        roster.note(RosterLine::Joined(member(8, false)));
        drop(roster);
        assert_eq!(reopened(&dir), (9, vec![member(8, false)]));
    }

    #[test]
    fn a_long_life_does_not_make_a_long_file() {
        let (_home, dir) = cluster();
        let (roster, _) = dir.open_roster().unwrap();
        let peers = u32::try_from(SPARE_LINES).unwrap();
        for id in 0..peers {
            roster.note(RosterLine::Joined(member(id, false)));
            roster.note(RosterLine::Left { id });
        }
        roster.note(RosterLine::Joined(member(peers, true)));
        drop(roster);
        let text = fs::read_to_string(dir.roster_file()).unwrap();
        assert!(text.lines().count() <= SPARE_LINES + 3, "{}", text.lines().count());
        assert_eq!(reopened(&dir), (peers + 1, vec![member(peers, true)]));
    }
}
