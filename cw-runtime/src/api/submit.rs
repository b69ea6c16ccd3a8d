//! Waiting for all submitted tasks.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::block::block_on;
use crate::client::session;

/// Waits until all tasks given to [`submit`](super::submit) have ended and their callbacks have returned.
///
/// Handles and maps are not waited for. A callback that submits prolongs the wait.
pub fn wait_all() -> WaitAll {
    WaitAll(())
}

/// A future made by [`wait_all`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct WaitAll(());

impl WaitAll {
    /// Blocks this thread instead: for code that is not async.
    pub fn wait(self) {
        block_on(self);
    }
}

impl Future for WaitAll {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Without a client nothing was submitted.
        match session::hub() {
            Ok(hub) if !hub.poll_all_called(context.waker()) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
