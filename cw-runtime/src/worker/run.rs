//! The worker's one loop: joins a master, serves it, joins again when it is gone.
//!
//! Shutdown, in this order:
//! 1. `shutdown` ends; the machine is told to leave: it hands back what it has and kills what runs;
//! 2. the loop goes on until all executors are dead and the master was told, at most [`LEAVE_WAIT`];
//! 3. the master closes the connection once it has read all, at most [`CLOSE_WAIT`] later.

use std::{future::Future, time::Duration};

use cw_core::{
    wire::{FromWorker, Hello, ToWorker},
    worker::{Action, Config, Event, ExecutorSaid, Worker},
};
use tokio::sync::mpsc;

use super::pool::{Kind, Pool, Said};
use crate::{
    client::notice::say,
    clock::Clock,
    exit::{self, Trouble},
    net::{
        connect::{self, Joined, Wanted},
        link::{Incoming, Link},
        tls::why_closed,
    },
};

/// How long a leaving worker waits for its executors to die.
const LEAVE_WAIT: Duration = Duration::from_secs(3);

/// How long the end of a connection is waited for.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Batches of messages from the master that may wait for the loop.
const INBOX_MAX: usize = 256;

/// How the service of one master ended.
enum Served {
    /// `shutdown` was done, and the worker has left.
    Left,
    /// The connection broke.
    MasterLost(String),
}

/// Serves masters, one after the other, until `shutdown` is done.
///
/// # Errors
/// No master could be joined.
pub(crate) async fn run(
    wanted: &Wanted,
    hello: &Hello,
    slots: u32,
    kind: Kind,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Trouble> {
    tokio::pin!(shutdown);
    let (pool, said) = Pool::new(kind);
    let machine = Worker::new(Config { slots, ..Config::default() });
    let mut shell =
        Shell { clock: Clock::start(), machine, pool, said, link: Link::new(), left: false, broken: None };
    // Executors start while the master is looked for.
    shell.act();
    loop {
        let joined = tokio::select! {
            joined = connect::join(wanted, hello) => joined?,
            () = &mut shutdown => return Ok(()),
        };
        tracing::info!("joined the master at {} with {slots} slots", joined.address);
        match shell.serve(joined, shutdown.as_mut()).await {
            Served::Left => return shell.broken.map_or(Ok(()), |why| Err(Trouble::new(exit::SYSTEM, why))),
            Served::MasterLost(why) => {
                say(&format!("lost the master ({why}); its tasks were dropped; looking for it again"));
            }
        }
    }
}

struct Shell {
    clock: Clock,
    machine: Worker,
    pool: Pool,
    said: mpsc::Receiver<Said>,
    link: Link,
    left: bool,
    /// Why the worker leaves by itself, if it does.
    broken: Option<String>,
}

impl Shell {
    async fn serve(&mut self, joined: Joined, mut shutdown: impl Future<Output = ()> + Unpin) -> Served {
        let (deliver, mut from_master) = mpsc::channel::<((), Incoming<ToWorker>)>(INBOX_MAX);
        self.link = Link::over(joined.lanes, joined.read, (), &deliver);
        let deadline = tokio::time::sleep(Duration::MAX);
        tokio::pin!(deadline);
        let mut leaving = false;
        let mut lost = None;
        while lost.is_none() && !self.left {
            let due = self.machine.poll_timeout();
            // All of them lose nothing when another comes first.
            tokio::select! {
                Some(((), incoming)) = from_master.recv() => lost = self.on_master(incoming),
                Some(words) = self.said.recv() => self.hear(words),
                () = self.clock.sleep_until(due) => {
                    // What was said before the time was up comes first.
                    while let Ok(words) = self.said.try_recv() {
                        self.hear(words);
                    }
                    self.machine.handle_timeout(self.clock.now());
                }
                () = &mut shutdown, if !leaving => {
                    leaving = true;
                    deadline.as_mut().reset(tokio::time::Instant::now() + LEAVE_WAIT);
                    self.machine.handle(self.clock.now(), Event::Leave);
                }
                () = &mut deadline, if leaving => self.left = true,
            }
            while lost.is_none()
                && let Ok(((), incoming)) = from_master.try_recv()
            {
                lost = self.on_master(incoming);
            }
            while let Ok(words) = self.said.try_recv() {
                self.hear(words);
            }
            self.act();
        }
        if let Some(why) = lost {
            self.machine.handle(self.clock.now(), Event::MasterLost);
            self.act();
            let why = why_closed(&joined.connection, why);
            let leaves = leaving || self.left || self.broken.is_some();
            return if leaves { Served::Left } else { Served::MasterLost(why) };
        }
        // The master closes the connection when it has read the worker's last word.
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.connection.closed()).await;
        joined.connection.close(0u32.into(), b"the worker was stopped");
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.endpoint.wait_idle()).await;
        Served::Left
    }

    /// Takes in what the master said; gives the reason if it is gone.
    fn on_master(&mut self, incoming: Incoming<ToWorker>) -> Option<String> {
        match incoming {
            Incoming::Messages(messages) => {
                let now = self.clock.now();
                for (message, body) in messages {
                    self.machine.handle(now, Event::MasterSaid { message, body });
                }
                None
            }
            Incoming::Ended(why) => Some(why),
        }
    }

    fn hear(&mut self, (executor, words): Said) {
        let now = self.clock.now();
        for said in words {
            if let ExecutorSaid::Ended { ending, .. } = &said {
                tracing::debug!("{executor} ended: {ending:?}");
                self.pool.forget(executor);
            }
            self.machine.handle(now, Event::ExecutorSaid { executor, said });
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Tell { message, body } => self.tell(&message, &body),
                Action::Start { executor } => self.pool.start(executor),
                Action::Feed { executor, message, body } => self.pool.feed(executor, &message, body),
                Action::Kill { executor } => self.pool.kill(executor),
                Action::Broken { why } => self.broken = Some(why),
                Action::Left => self.left = true,
            }
        }
        self.pool.flush();
        self.link.flush();
    }

    fn tell(&mut self, message: &FromWorker, body: &[u8]) {
        if self.link.is_open() {
            self.link.send(message, body);
        }
    }
}
