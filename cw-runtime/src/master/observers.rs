//! Those who look at the cluster: each is served by a task of its own, which asks the loop one question at a time. So
//! the loop owes an observer at most one answer, however fast it asks and however slowly it reads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use cw_core::wire::{self, FromObserver, Reply, ToObserver, Welcome};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::greet::Caller;
use crate::net::link::read_frame;

/// So many are served at once.
const OBSERVERS_MAX: usize = 64;

/// One that asks nothing for so long is shown out: another may wait for its place.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One that does not take its answer for so long is shown out.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// Longest question.
const QUESTION_BYTES_MAX: usize = 1 << 10;

/// An answer is given to all who ask within this: many who look cost no more than one does.
const ANSWER_LIFE: Duration = Duration::from_millis(20);

/// A question, and where its answer goes: a frame.
pub(super) struct Question {
    pub(super) what: FromObserver,
    pub(super) answer: oneshot::Sender<Bytes>,
}

/// What the loop has of its observers.
pub(super) struct Observers {
    places: Arc<Semaphore>,
    ask: mpsc::Sender<Question>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) last: Last,
}

/// The last answer to those who looked.
#[derive(Default)]
pub(super) struct Last(Option<(Instant, Bytes)>);

impl Observers {
    pub(super) fn new() -> Self {
        let (ask, questions) = mpsc::channel(OBSERVERS_MAX);
        Self { places: Arc::new(Semaphore::new(OBSERVERS_MAX)), ask, questions, last: Last::default() }
    }

    /// Serves an observer until it goes, or has to.
    pub(super) fn let_in(&self, caller: Caller, epoch: u64) {
        tracing::debug!("{} looks", caller.hello.name);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return caller
                .connection
                .close(1u32.into(), b"too many look at this cluster just now; try again");
        };
        let ask = self.ask.clone();
        tokio::spawn(async move {
            let connection = caller.connection.clone();
            if let Err(why) = serve(caller, epoch, &ask).await {
                connection.close(1u32.into(), why.as_bytes());
            }
            drop(place);
        });
    }
}

impl Last {
    /// It, if it is as good as a new one.
    pub(super) fn young(&self) -> Option<Bytes> {
        let (at, answer) = self.0.as_ref()?;
        (at.elapsed() < ANSWER_LIFE).then(|| answer.clone())
    }

    pub(super) fn keep(&mut self, answer: Bytes) -> Bytes {
        self.0 = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// An answer as it is written.
pub(super) fn frame(answer: &ToObserver) -> Bytes {
    let mut out = BytesMut::new();
    wire::encode(answer, &[], &mut out);
    out.freeze()
}

/// Answers an observer's questions. It ends as well when the connection does.
async fn serve(caller: Caller, epoch: u64, ask: &mpsc::Sender<Question>) -> Result<(), String> {
    let Caller { lanes: [(mut send, mut receive), _other], mut read, .. } = caller;
    let welcome = wire::encode_reply(&Reply::Welcome(Welcome::Observer { epoch }));
    let length = u32::try_from(welcome.len()).expect("greetings are short").to_le_bytes();
    let mut next = Bytes::from([&length[..], &welcome].concat());
    loop {
        let written = tokio::time::timeout(WRITE_MAX, send.write_chunk(std::mem::take(&mut next))).await;
        written.map_err(|_| "it does not take what it asked for")?.map_err(|error| error.to_string())?;
        let question =
            tokio::time::timeout(SILENCE_MAX, read_frame(&mut receive, &mut read, QUESTION_BYTES_MAX)).await;
        let question = question.map_err(|_| "it asked nothing for a while")??;
        let (what, _) = wire::decode::<FromObserver>(&question).map_err(|error| error.to_string())?;
        let (answer, answered) = oneshot::channel();
        // Neither fails before the master ends.
        ask.send(Question { what, answer }).await.map_err(|error| error.to_string())?;
        next = answered.await.map_err(|error| error.to_string())?;
    }
}
