//! Passing a blob on from one connection to another as it comes: it is neither looked at nor kept. Who gets it verifies it.
//!
//! It is read as fast as it comes, however slowly it goes out: what is left unread would be missing from the room that the
//! client's connection has for all it says. So it may pile up here. Where [too much](PASSING_BYTES_MAX) does, passing ends early;
//! who wants the blob asks again, and has it by way of the cache.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    Outline,
    serve::{PRIORITY, wait_for_end},
    talk::{self, Answer, Ask, Start, Wish},
};

/// So many pieces of a stream are taken at once, each about a packet's.
const PIECES: usize = 64;

/// So many bytes of all blobs that are passed on may wait to go out.
const PASSING_BYTES_MAX: usize = 64 << 20;

/// How much of all blobs waits to go out.
#[derive(Clone, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

/// Pieces that wait to go out.
struct Waiting {
    pieces: Vec<Bytes>,
    bytes: usize,
    budget: Budget,
}

impl Budget {
    /// Takes pieces in; none if too much waits.
    fn take(&self, pieces: &mut [Bytes]) -> Option<Waiting> {
        let pieces: Vec<Bytes> = pieces.iter_mut().map(std::mem::take).collect();
        let bytes = pieces.iter().map(Bytes::len).sum();
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        // What is dropped is counted out again.
        Some(Waiting { pieces, bytes, budget: self.clone() }).filter(|_| before + bytes <= PASSING_BYTES_MAX)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A blob that a client is about to send.
pub(crate) struct Passing {
    outline: Outline,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    /// What was read beyond the answer.
    read: BytesMut,
}

impl Passing {
    /// Asks a client for it.
    ///
    /// # Errors
    /// The answer for whoever wants it.
    pub(crate) async fn from(client: &quinn::Connection, wish: Wish) -> Result<Self, Answer> {
        let answered = async {
            let (mut send, mut receive) = client.open_bi().await.map_err(|error| error.to_string())?;
            let mut read = BytesMut::new();
            talk::say(&mut send, &Ask::Blob(wish)).await?;
            let answer = talk::hear(&mut receive, &mut read).await?;
            Ok::<_, String>((answer, send, receive, read))
        };
        match answered.await {
            Ok((Answer::Here(outline), send, receive, read)) => Ok(Self { outline, send, receive, read }),
            Ok((Answer::Gone(why), ..)) => Err(Answer::Gone(format!("the client does not send it: {why}"))),
            Ok((Answer::Away(_) | Answer::At(_), ..)) => {
                Err(Answer::Gone("the client sends others in its place".to_owned()))
            }
            Err(_) if client.close_reason().is_some() => {
                Err(Answer::Away("the client went away while it was asked".to_owned()))
            }
            Err(why) => Err(Answer::Gone(format!("the client does not send it: {why}"))),
        }
    }

    /// Offers it on a stream where it was asked for, and passes on what is wanted of it.
    ///
    /// # Errors
    /// Either stream broke. Whoever wants it sees that its own has ended early.
    pub(crate) async fn to(
        mut self,
        send: &mut quinn::SendStream,
        receive: &mut quinn::RecvStream,
        budget: &Budget,
    ) -> Result<(), String> {
        talk::say(send, &Answer::Here(self.outline)).await?;
        let start: Start = talk::hear(receive, &mut BytesMut::new()).await?;
        talk::say(&mut self.send, &start).await?;
        let _ = send.set_priority(PRIORITY);
        let (come, mut goes) = mpsc::unbounded_channel::<Waiting>();
        let read = async move {
            let mut pieces = [const { Bytes::new() }; PIECES];
            pieces[0] = self.read.freeze();
            let mut count = 1;
            loop {
                let waiting = budget.take(&mut pieces[..count]).ok_or("it goes out too slowly")?;
                if come.send(waiting).is_err() {
                    // The other half says why.
                    return Ok(());
                }
                let more = async { self.receive.read_chunks(&mut pieces).await.map_err(|it| it.to_string()) };
                match talk::in_time(more).await? {
                    Some(more) => count = more,
                    None => return Ok(()),
                }
            }
        };
        let write = async {
            while let Some(mut waiting) = goes.recv().await {
                let written =
                    async { send.write_all_chunks(&mut waiting.pieces).await.map_err(|it| it.to_string()) };
                talk::in_time(written).await?;
            }
            Ok::<_, String>(())
        };
        tokio::try_join!(read, write)?;
        wait_for_end(send).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_out_makes_room_for_more() {
        let budget = Budget::default();
        let most = || [Bytes::from(vec![0; PASSING_BYTES_MAX - 1])];
        let waiting = budget.take(&mut most()).expect("nothing waits");
        let byte = budget.take(&mut [Bytes::from_static(b"1")]).expect("there is room for one");
        assert!(budget.take(&mut [Bytes::from_static(b"2")]).is_none());
        drop((waiting, byte));
        assert!(budget.take(&mut most()).is_some());
    }
}
