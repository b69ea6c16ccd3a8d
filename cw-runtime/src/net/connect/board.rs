//! How the call to each of a master's addresses stands, in words a user can act on.

use std::{
    fmt::Write,
    io,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The name service is asked.
    Asked,
    /// Nothing has come back.
    Called,
    /// The handshake is done, and the master has not let this process in yet.
    Answered,
    /// A name; its addresses have rows of their own.
    Known,
    Failed {
        why: String,
        /// Whether another try cannot help.
        is_final: bool,
    },
}

struct Row {
    address: String,
    /// When it was called that has not answered since.
    since: Instant,
    state: State,
    /// What it failed of in the try before: most likely still true.
    before: Option<String>,
}

/// For so long an address that is called again is thought to be as it was.
const STILL: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    /// Where the addresses are from.
    source: String,
    /// Those of the try before.
    before: Vec<Row>,
}

/// All calls of a search.
#[derive(Default)]
pub(super) struct Board {
    rows: Mutex<Rows>,
    /// A call has failed.
    failed: Notify,
}

impl Board {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no holder panics")
    }

    /// A new try begins, with addresses from there. How long one has been silent is counted from its first call.
    pub(super) fn begin(&self, source: &str) {
        let mut rows = self.rows();
        source.clone_into(&mut rows.source);
        rows.before = std::mem::take(&mut rows.rows);
    }

    /// Notes a call; false if there is one to that address already.
    pub(super) fn call(&self, address: &str, state: State) -> bool {
        let mut rows = self.rows();
        if rows.rows.iter().any(|row| row.address == address) {
            return false;
        }
        let before = rows.before.iter().find(|row| row.address == address);
        let (since, before) = match before.map(|row| (row, &row.state)) {
            Some((_, State::Failed { why, .. })) => (Instant::now(), Some(why.clone())),
            Some((row, _)) => (row.since, row.before.clone()),
            None => (Instant::now(), None),
        };
        rows.rows.push(Row { address: address.to_owned(), since, state, before });
        true
    }

    pub(super) fn set(&self, address: &str, state: State) {
        let is_failed = matches!(state, State::Failed { .. });
        if let Some(row) = self.rows().rows.iter_mut().find(|row| row.address == address) {
            row.state = state;
        }
        if is_failed {
            self.failed.notify_one();
        }
    }

    /// Waits until no call is left that may still succeed by itself.
    pub(super) async fn all_failed(&self) {
        loop {
            let next = self.failed.notified();
            if self.pending().is_none() {
                return;
            }
            next.await;
        }
    }

    fn pending(&self) -> Option<String> {
        let rows = self.rows();
        let pending = rows.rows.iter().find(|row| !matches!(row.state, State::Failed { .. } | State::Known));
        pending.map(|row| row.address.clone())
    }

    /// Whether each address has failed in a way that another try cannot change.
    pub(super) fn is_final(&self) -> bool {
        let rows = self.rows();
        let mut states = rows.rows.iter().map(|row| &row.state).filter(|state| **state != State::Known);
        states.all(|state| matches!(state, State::Failed { is_final: true, .. }))
    }

    /// How all calls stand, and where the addresses are from; empty before there are any.
    pub(super) fn words(&self) -> String {
        let source = self.rows().source.clone();
        if source.is_empty() { self.calls() } else { format!("{}; addresses from {source}", self.calls()) }
    }

    /// How all calls stand: addresses of which the same is to be said stand together.
    pub(super) fn calls(&self) -> String {
        let rows = self.rows();
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        for row in rows.rows.iter().filter(|row| row.state != State::Known) {
            let what = in_words(row);
            match groups.iter_mut().find(|(said, _)| *said == what) {
                Some((_, addresses)) => addresses.push(&row.address),
                None => groups.push((what, vec![&row.address])),
            }
        }
        let mut text = String::new();
        for (what, addresses) in &groups {
            let separator = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{separator}{}: {what}", addresses.join(", "));
        }
        text
    }
}

fn in_words(row: &Row) -> String {
    let time = match row.since.elapsed().as_secs() {
        0 => "yet".to_owned(),
        seconds => format!("in {seconds} s"),
    };
    let before = row.before.as_ref().filter(|_| row.since.elapsed() < STILL);
    match (&row.state, before) {
        (State::Asked | State::Called, Some(before)) => before.clone(),
        (State::Asked, _) => format!("no answer from the name service {time}"),
        (State::Called, _) => format!("no answer {time} (is a firewall between?)"),
        (State::Answered, _) => format!("it answers, and has not let this process in {time}"),
        (State::Known, _) => String::new(),
        (State::Failed { why, .. }, _) => why.clone(),
    }
}

/// A text without how long it took: what only takes longer is nothing new.
pub(super) fn gist(text: &str) -> String {
    let mut words = text.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let is_time =
            word == "in" && words.next_if(|next| next.bytes().all(|c| c.is_ascii_digit())).is_some();
        if is_time {
            words.next_if(|unit| *unit == "s");
        } else if word != "yet" {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// What the system says of an address, without its number for it.
pub(super) fn in_system_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "nothing listens there (connection refused)".to_owned();
    }
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// How long a silent address is tried before the user hears of it.
pub(super) const QUIET: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(why: &str, is_final: bool) -> State {
        State::Failed { why: why.to_owned(), is_final }
    }

    #[test]
    fn each_address_is_told_with_its_cause() {
        let board = Board::default();
        board.begin("");
        assert!(board.call("login1:5494", State::Asked));
        assert!(board.call("10.0.0.5:5494", State::Called));
        assert!(board.call("10.0.0.6:5494", State::Called));
        assert!(!board.call("10.0.0.6:5494", State::Called), "it is called already");
        let words = "login1:5494: no answer from the name service yet; \
                     10.0.0.5:5494, 10.0.0.6:5494: no answer yet (is a firewall between?)";
        assert_eq!(board.words(), words);
        board.set("login1:5494", failed("the name cannot be resolved: no such host", false));
        board.set("10.0.0.6:5494", failed("network is unreachable", false));
        let words = "login1:5494: the name cannot be resolved: no such host; \
                     10.0.0.5:5494: no answer yet (is a firewall between?); 10.0.0.6:5494: network is unreachable";
        assert_eq!(board.words(), words);
        board.set("10.0.0.5:5494", State::Answered);
        board.begin("worker.json");
        board.call("10.0.0.5:5494", State::Answered);
        assert!(board.words().ends_with(" yet; addresses from worker.json"), "{}", board.words());
        assert!(board.words().contains("it answers"), "{}", board.words());
    }

    #[test]
    fn a_try_is_over_once_all_have_failed_and_hopeless_if_all_are() {
        let board = Board::default();
        board.begin("");
        board.call("login1:5494", State::Asked);
        assert!(board.pending().is_some());
        board.call("10.0.0.5:5494", State::Called);
        board.set("login1:5494", State::Known);
        assert!(board.pending().is_some());
        board.set("10.0.0.5:5494", failed("it is another cluster's", true));
        assert!(board.pending().is_none() && board.is_final());
        board.begin("");
        board.call("10.0.0.5:5494", failed("it is another cluster's", true));
        board.call("10.0.0.6:5494", failed("nothing listens there", false));
        assert!(board.pending().is_none() && !board.is_final());
    }

    #[test]
    fn an_address_that_is_called_again_is_told_as_it_was() {
        let board = Board::default();
        board.begin("");
        board.call("a:1", State::Called);
        board.set("a:1", failed("nothing listens there", false));
        for _ in 0..2 {
            board.begin("");
            board.call("a:1", State::Called);
            assert_eq!(board.words(), "a:1: nothing listens there");
        }
        board.set("a:1", State::Answered);
        assert!(board.words().starts_with("a:1: it answers"), "{}", board.words());
    }

    #[test]
    fn what_only_takes_longer_is_nothing_new() {
        let early = "a:1: no answer yet (is a firewall between?); b:1: network is unreachable";
        let late = "a:1: no answer in 12 s (is a firewall between?); b:1: network is unreachable";
        assert_eq!(gist(early), gist(late));
        assert_ne!(gist(late), gist("a:1: no answer in 12 s (is a firewall between?)"));
        assert_eq!(gist("it is in use in 3 places"), "it is in use places");
    }

    #[test]
    fn what_the_system_says_is_a_fragment_of_a_line() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(in_system_words(&refused), "nothing listens there (connection refused)");
        let unreachable = io::Error::from_raw_os_error(rustix::io::Errno::NETUNREACH.raw_os_error());
        assert_eq!(in_system_words(&unreachable), "network is unreachable");
        assert_eq!(in_system_words(&io::Error::other("")), "");
    }
}
