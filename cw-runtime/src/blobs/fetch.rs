//! Getting a blob into this node's cache, from one that has it.

use std::{fs::File, net::SocketAddr};

use bytes::BytesMut;
use tokio::sync::watch;

use super::{
    Outline,
    cache::{Begin, Cache, CacheError, Part},
    on_disk,
    talk::{self, Answer, Ask, Start, Wish},
};

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// It has come, and was verified as it came.
    File(File, Outline),
    /// It was here already, as somebody left it.
    Here(File, Outline),
    /// Another process of this node fetches it.
    Busy,
    /// These have it.
    At(Vec<SocketAddr>),
}

/// Why a blob did not come.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The other side does not have it, or sends something else: asking it again is of no use.
    There(String),
    /// Nobody is there who could give it: later there may be.
    Away(String),
    /// This node cannot keep it.
    Here(String),
    /// This node could not keep it if there were nothing else.
    TooBig(String),
    /// The connection broke: what has come is kept.
    Broken(String),
}

impl Failed {
    pub(crate) fn into_words(self) -> String {
        match self {
            Self::There(why) | Self::Away(why) | Self::Here(why) | Self::TooBig(why) | Self::Broken(why) => {
                why
            }
        }
    }
}

/// A download as others see it, who want the same blob: its outline and a handle on the growing file, then how many
/// chunks are there.
pub(crate) trait Follower {
    /// It has begun.
    fn begun(&mut self, outline: &Outline, reader: File) -> watch::Sender<u64>;
}

/// Nobody follows.
pub(crate) struct Alone;

impl Follower for Alone {
    fn begun(&mut self, _: &Outline, _: File) -> watch::Sender<u64> {
        watch::Sender::new(0)
    }
}

/// Asks the other side of a connection for a blob that clients of a program have, and takes it into the cache.
///
/// # Errors
/// See [`Failed`].
pub(crate) async fn fetch(
    connection: &quinn::Connection,
    cache: &Cache,
    wish: Wish,
    follower: &mut impl Follower,
) -> Result<Fetched, Failed> {
    let id = wish.id;
    let broken = |error: quinn::ConnectionError| Failed::Broken(error.to_string());
    let (mut send, mut receive) = connection.open_bi().await.map_err(broken)?;
    let mut buffer = BytesMut::new();
    talk::say(&mut send, &Ask::Blob(wish)).await.map_err(Failed::Broken)?;
    let outline = match talk::hear(&mut receive, &mut buffer).await.map_err(Failed::Broken)? {
        Answer::Here(outline) => outline,
        Answer::At(others) => return Ok(Fetched::At(others)),
        Answer::Gone(why) => return Err(Failed::There(why)),
        Answer::Away(why) => return Err(Failed::Away(why)),
    };
    if !outline.is_of(id) {
        return Err(Failed::There("what is offered is not what was asked for".to_owned()));
    }
    let (begins, wanted) = (cache.clone(), outline.clone());
    let begun = on_disk(move || Ok(begins.begin(id, &wanted))).await.map_err(Failed::Here)?;
    let begun = begun.map_err(|error| match error {
        CacheError::TooBig { .. } => Failed::TooBig(format!("cannot {error}")),
        other => Failed::Here(format!("cannot {other}")),
    });
    let mut part = match begun? {
        Begin::Here(file) => return Ok(Fetched::Here(file, outline)),
        Begin::Busy => return Ok(Fetched::Busy),
        Begin::Part(part) => part,
    };
    let reader =
        part.reader().map_err(|error| Failed::Here(format!("cannot read what has come: {error}")))?;
    let ready = follower.begun(&outline, reader);
    ready.send_replace(part.next_chunk());
    talk::say(&mut send, &Start { chunk: part.next_chunk() }).await.map_err(Failed::Broken)?;
    for index in part.next_chunk()..outline.chunk_count() {
        let bytes = chunk(&mut receive, &mut buffer, outline.chunk_len(index)).await?;
        part = put(part, bytes).await?;
        ready.send_replace(index + 1);
    }
    let file = on_disk(move || part.finish().map_err(|error| format!("cannot {error}"))).await;
    Ok(Fetched::File(file.map_err(Failed::Here)?, outline))
}

/// The next bytes of the stream.
async fn chunk(
    receive: &mut quinn::RecvStream,
    buffer: &mut BytesMut,
    length: usize,
) -> Result<Vec<u8>, Failed> {
    let mut bytes = buffer.split_to(length.min(buffer.len())).to_vec();
    let had = bytes.len();
    bytes.resize(length, 0);
    let read = async { receive.read_exact(&mut bytes[had..]).await.map_err(|error| error.to_string()) };
    let read = talk::in_time(read).await;
    read.map_err(|why| Failed::Broken(format!("it broke off: {why}")))?;
    Ok(bytes)
}

async fn put(mut part: Part, bytes: Vec<u8>) -> Result<Part, Failed> {
    let put = move || {
        Ok(match part.put(&bytes) {
            Ok(()) => Ok(part),
            Err(error @ (CacheError::Mismatch { .. } | CacheError::BadOutline { .. })) => {
                Err(Failed::There(format!("what came is not what was asked for: cannot {error}")))
            }
            Err(error) => Err(Failed::Here(format!("cannot {error}"))),
        })
    };
    on_disk(put).await.map_err(Failed::Here)?
}
