//! Seeing that another master has followed: its epoch, which is higher, in a file.

use std::{
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::role::epoch_in;

/// How often a peer that is connected looks into its access file.
const PEER_PAUSE: Duration = Duration::from_secs(5);

/// Waits until `read` gives an epoch above this one, and gives that. It is called now and then on a thread of its own,
/// which ends with the future: a file system may take its time, or hang.
pub(crate) fn successor(
    epoch: u64,
    every: Duration,
    read: impl Fn() -> Option<u64> + Send + 'static,
) -> impl Future<Output = u64> + Send + 'static {
    let (found, seen) = oneshot::channel();
    let (alive, ended) = channel::<()>();
    let look = move || {
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            if let Some(newer) = read().filter(|newer| *newer > epoch) {
                // Nobody may want to know any more.
                let _ = found.send(newer);
                return;
            }
        }
    };
    let started = thread::Builder::new().name("cw-epoch".to_owned()).spawn(look);
    if let Err(error) = started {
        tracing::warn!("cannot look out for other masters: {error}");
    }
    async move {
        let _alive = alive;
        match seen.await {
            Ok(newer) => newer,
            // The thread could not be started, or `read` panicked: there is nothing to wait for.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Waits until the access file at `path` tells of a master of a higher epoch, and gives that.
pub(crate) fn successor_of(epoch: u64, path: &Path) -> impl Future<Output = u64> + Send + 'static {
    let path = path.to_owned();
    successor(epoch, PEER_PAUSE, move || epoch_in(&path))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    const OFTEN: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn only_a_higher_epoch_is_a_successors() {
        let epoch = Arc::new(AtomicU64::new(3));
        let read = Arc::clone(&epoch);
        let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let look = move || {
            let _ = looked.send(());
            // A file that is being replaced on some file systems is not there for a moment.
            Some(read.load(Ordering::SeqCst)).filter(|epoch| *epoch != 0)
        };
        let successor = tokio::spawn(successor(3, OFTEN, look));
        for seen in [3, 0, 2] {
            epoch.store(seen, Ordering::SeqCst);
            looks.recv().await.unwrap();
            looks.recv().await.unwrap();
            assert!(!successor.is_finished(), "{seen}");
        }
        epoch.store(5, Ordering::SeqCst);
        assert_eq!(successor.await.unwrap(), 5);
    }

    #[tokio::test]
    async fn nobody_looks_any_more_once_nobody_waits() {
        let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let look = move || {
            let _ = looked.send(());
            None
        };
        let successor = successor(1, OFTEN, look);
        looks.recv().await.unwrap();
        drop(successor);
        // The sender goes with the thread.
        while looks.recv().await.is_some() {}
    }
}
