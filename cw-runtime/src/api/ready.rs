//! Waiting for room before a call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::block::block_on;
use crate::client::session;

/// Waits until a task submitted now would soon be sent to the cluster.
///
/// [`spawn`](super::spawn) and [`submit`](super::submit) return at once, so whatever the cluster has no room for
/// waits in this program, encoded. A loop of millions of calls awaits this before each, and stays small: it is ready
/// while fewer than 1,024 tasks and 16 MiB of arguments wait. [`map`](super::map) does the like by itself.
///
/// Where no call can be made it is ready at once: the call says why.
pub fn ready() -> Ready {
    Ready(())
}

/// A future made by [`ready`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Ready(());

impl Ready {
    /// Blocks this thread instead: for code that is not async.
    pub fn wait(self) {
        block_on(self);
    }
}

impl Future for Ready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        poll_ready(context)
    }
}

pub(super) fn poll_ready(context: &mut Context<'_>) -> Poll<()> {
    match session::hub_for_call() {
        Ok(hub) if !hub.poll_ready(context.waker()) => Poll::Pending,
        _ => Poll::Ready(()),
    }
}
