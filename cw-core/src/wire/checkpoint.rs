//! What a running task asks of its client: to keep a state, to give it back, and where its folder is.
//!
//! ```text
//!  executor --Asks--> worker --Asks--> master --Asks--> client: its disk
//!  executor <-Answers- worker <-Answers- master <-Answers- client
//! ```
//!
//! Nothing of this goes with a task that does not ask. One that does waits for its answer, and so asks one thing at a time.
//! A question names its task, its attempt, and a number that grows within that attempt.
//!
//! # Who keeps what
//!
//! - The worker keeps the question, with its body, until it is answered or its task has ended, and asks again when it has
//!   a master again, or is told to (`AskAgain`). It feeds nothing behind a task that asks.
//! - The master keeps which questions are with a client, at most 64 of each, and which are yet to be asked again; no body.
//!   A worker that is told to ask again says so if there is nothing to ask (`AsksNothing`), so that a place is never lost.
//! - The client keeps the states and folders, on its disk. What it has written is there when it answers.
//!
//! # What goes wrong
//!
//! - *The client is away.* The question is dropped, and noted; once the client is back the worker asks again.
//! - *The client was lost while it had the question.* The same.
//! - *The worker loses its master.* It asks again when it is back. An answer to the first asking is as good as one to the
//!   second: the first to come is taken, and the other finds no question.
//! - *The master is another.* It knows of no attempt until the client has handed its task in again; then it tells the worker
//!   to ask again.
//! - *The attempt is over* (timeout, cancellation, crash, loss of its worker). Its question goes with it, and an answer finds
//!   no attempt.
//! - *An attempt was given up and goes on.* It may ask; but once a later attempt has asked anything, what it saves is not
//!   kept: what the later one has counts. It is answered as if it were, as its result is still as good as any.
//! - *Words overtake each other.* States of 64 KiB and more take another lane than short ones, so the client keeps none that is
//!   older, by attempt and number, than what it was asked last. Attempts begin anew with a master that does not know the
//!   client; so does what it compares with.
//! - *The client cannot write.* The answer says why, and the job decides.
//! - *Somebody lies.* A worker is heard about attempts that it was sent, and once until that is answered; a client is heard
//!   about what it was asked. No body is longer than [`STATE_BYTES_MAX`].

use serde::{Deserialize, Serialize};

/// The longest encoded state.
pub const STATE_BYTES_MAX: usize = 1 << 20;

/// What a running task wants of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// To keep a state of it: the body. The latest counts.
    Save,
    /// What was kept of it last.
    Load,
    /// A folder of its own on the file system that client and workers share.
    Folder,
}

/// What a client has to say to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done; the body is what was asked for: the state, or the path of the folder.
    Done,
    /// There is no state.
    Nothing,
    /// It could not be done; the body says why, in one line.
    Failed,
}
