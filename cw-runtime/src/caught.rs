//! Keeping a fault where it is: a panic in what serves one peer is that peer's end, and nobody else's.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// What comes of a future; or, where it panics, a word on that. The panic itself is on stderr.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // After a panic the future is not polled again, so nobody sees what that left behind.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err("a fault in cw: what serves it panicked".to_owned())),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[tokio::test]
    async fn a_panic_becomes_a_word_and_all_else_passes() {
        let waits = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(caught(waits).await, Ok(7));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("a fault that a test made")
        };
        let why: Result<(), String> = caught(panics).await;
        assert!(why.unwrap_err().contains("panicked"));
    }
}
