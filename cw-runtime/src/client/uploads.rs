//! What a client gives to its cluster: its own executable, as the kernel has it open, the values that its tasks share, and
//! arguments that lie apart.

use std::{fs::File, sync::Arc};

use bytes::BytesMut;
use cw_core::ids::ShareId;
use tokio::sync::OnceCell;

use super::apart;
use crate::{
    blobs::{
        BlobId, Outline, on_disk,
        serve::{Source, serve},
        talk::{self, Answer, Ask, Wish},
    },
    program, shared,
};

/// Answers the master's wishes until the connection ends.
pub(super) async fn answer(connection: quinn::Connection) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(async move {
            if let Err(why) = answer_one(send, receive).await {
                tracing::debug!("the master did not get all it asked for: {why}");
            }
        });
    }
}

async fn answer_one(mut send: quinn::SendStream, mut receive: quinn::RecvStream) -> Result<(), String> {
    let Ask::Blob(Wish { id, .. }) = talk::hear(&mut receive, &mut BytesMut::new()).await? else {
        return Err("it asks what only masters are asked".to_owned());
    };
    let own = program::own_blob().map_err(|error| error.to_string())?;
    let found = match apart::find(id) {
        _ if id == own => own_executable().await,
        Some(arguments) => Ok(arguments),
        None => shared_value(id).await,
    };
    match found {
        Ok(source) => serve(source, &mut send, &mut receive).await.map_err(|why| format!("{why:?}")),
        Err(why) => talk::say(&mut send, &Answer::Gone(why)).await,
    }
}

/// A value that this process shares.
async fn shared_value(id: BlobId) -> Result<Source, String> {
    let (path, outline) = shared::kept_at(ShareId(id.0)).ok_or("it is not here")?;
    on_disk(move || {
        let file =
            File::open(path).map_err(|error| format!("the client cannot read what it shares: {error}"))?;
        Ok(Source::in_file(id, outline, file))
    })
    .await
}

/// This process's executable. Its outline is made when it is first asked for.
async fn own_executable() -> Result<Source, String> {
    static OWN: OnceCell<Source> = OnceCell::const_new();
    let read = || {
        on_disk(|| {
            let why = |error: std::io::Error| format!("the client cannot read its executable: {error}");
            let file = File::open(program::own_path().map_err(why)?).map_err(why)?;
            let (id, outline) = Outline::of(&file).map_err(why)?;
            Ok(Source::in_file(id, Arc::new(outline), file))
        })
    };
    OWN.get_or_try_init(read).await.cloned()
}
