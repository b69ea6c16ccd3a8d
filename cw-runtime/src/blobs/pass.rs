//! Passing a blob on from one connection to another as it comes: it is neither looked at nor kept. Who gets it verifies it.

use bytes::{Bytes, BytesMut};

use super::{
    Outline,
    serve::{PRIORITY, wait_for_end},
    talk::{self, Answer, Ask, Start, Wish},
};

/// So many pieces of a stream are taken at once, each about a packet's.
const PIECES: usize = 64;

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
    ) -> Result<(), String> {
        talk::say(send, &Answer::Here(self.outline)).await?;
        let start: Start = talk::hear(receive, &mut BytesMut::new()).await?;
        talk::say(&mut self.send, &start).await?;
        let _ = send.set_priority(PRIORITY);
        let mut pieces = [const { Bytes::new() }; PIECES];
        pieces[0] = self.read.freeze();
        let mut count = 1;
        loop {
            let written =
                async { send.write_all_chunks(&mut pieces[..count]).await.map_err(|it| it.to_string()) };
            talk::in_time(written).await?;
            let read = async { self.receive.read_chunks(&mut pieces).await.map_err(|it| it.to_string()) };
            match talk::in_time(read).await? {
                Some(more) => count = more,
                None => break,
            }
        }
        wait_for_end(send).await
    }
}
