//! What happens beside the master while `cw start` waits: the engine's view, asked for on a thread, and Ctrl-C.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::launch::{Launched, Launcher, Refused};

/// How often an engine is asked how things stand.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What has happened.
pub(super) enum News {
    /// The user wants no more of this.
    Interrupted,
    /// What the engine says.
    Looked(Result<Vec<Launched>, Refused>),
}

/// Where news come in.
pub(super) struct Inbox {
    news: Receiver<News>,
    send: Sender<News>,
    is_interrupted: bool,
    /// Held as long as the engine is to be asked.
    watch: Arc<()>,
    /// The latest that the engine said.
    pub(super) looked: Option<Result<Vec<Launched>, Refused>>,
}

impl Inbox {
    /// Watches for Ctrl-C and TERM from now on.
    pub(super) fn new() -> Self {
        let (send, news) = channel();
        let interrupted = send.clone();
        let watch = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
                return;
            };
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                // Whoever asks twice does not want to wait for a command that hangs.
                for _ in 0..2 {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    let _ = interrupted.send(News::Interrupted);
                }
                std::process::exit(super::INTERRUPTED.into());
            });
        };
        // Without the thread a signal ends this process as it does any other.
        let _ = thread::Builder::new().name("cw-signals".to_owned()).spawn(watch);
        Self { news, send, is_interrupted: false, watch: Arc::default(), looked: None }
    }

    /// Has this engine asked from now on, and no other.
    pub(super) fn watch(&mut self, mut launcher: Box<dyn Launcher>) {
        self.looked = None;
        self.watch = Arc::default();
        let (watch, send) = (Arc::downgrade(&self.watch), self.send.clone());
        let body = move || {
            while watch.strong_count() > 0 {
                let looked = launcher.look();
                if watch.strong_count() == 0 || send.send(News::Looked(looked)).is_err() {
                    return;
                }
                thread::sleep(LOOK_EVERY);
            }
        };
        let _ = thread::Builder::new().name("cw-look".to_owned()).spawn(body);
    }

    /// Takes in what there is, waiting for it at most so long. Whether the user has not had enough.
    pub(super) fn wait(&mut self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        while !self.is_interrupted {
            match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(News::Interrupted) => self.is_interrupted = true,
                Ok(News::Looked(looked)) => self.looked = Some(looked),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => unreachable!("we can send ourselves"),
            }
        }
        false
    }
}
