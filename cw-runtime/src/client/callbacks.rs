//! The thread that callbacks run on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
};

use cw_core::{client::Completion, ids::TaskId};

use super::{hub::Hub, notice::say, sink::Callback};

/// The way to that thread.
pub(super) type Sender = mpsc::Sender<(TaskId, Completion, Callback)>;

/// Starts it. Callbacks run one after the other.
pub(super) fn start(hub: Arc<Hub>) -> Sender {
    let (send, receive) = mpsc::channel::<(TaskId, Completion, Callback)>();
    let body = move || {
        for (task, completion, callback) in receive {
            if catch_unwind(AssertUnwindSafe(|| callback(task, completion))).is_err() {
                say(&format!("the callback of {task} panicked; the others go on"));
            }
            hub.called_back();
        }
    };
    let named = thread::Builder::new().name("cw-callbacks".to_owned());
    named.spawn(body).expect("a process that runs a client can start one more thread");
    send
}
