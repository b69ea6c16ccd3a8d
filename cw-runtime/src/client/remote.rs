//! A client of a cluster: the machine beside a connection to a master.
//!
//! Shutdown, in this order:
//! 1. the program closes the hub; whatever is open is dropped;
//! 2. what was said is sent, the last acknowledgements among it, and `Leave` after it;
//! 3. the master closes the connection once it has read that, at most [`CLOSE_WAIT`] later.

use std::{sync::Arc, time::Duration};

use cw_core::{
    Payload,
    client::{Config, Event, Resumed},
    wire::{FromClient, ToClient, Welcome, Window},
};
use tokio::sync::mpsc;

use super::{
    hub::{Desk, Hub},
    notice::say,
    uploads,
};
use crate::{
    access::succession::successor_of,
    clock::Clock,
    exit::{self, Trouble},
    net::{
        connect::{Joined, Search, followed, number_and_epoch},
        link::{Incoming, Link},
        tls::why_closed,
    },
};

/// How long the end of the connection is waited for.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Batches of messages from the master that may wait for the loop.
const INBOX_MAX: usize = 256;

/// Serves a hub until it is closed. `first` learns how the first connection went; later ones are tried as
/// long as the first was.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    mut search: Search,
    config: Config,
    first: std::sync::mpsc::SyncSender<Result<(), Trouble>>,
) {
    let mut shell = Shell { clock: Clock::start(), desk: Desk::new(hub, config), epoch: None };
    let mut joined = match shell.join(&mut search).await {
        Some(Ok(joined)) => joined,
        Some(Err(trouble)) => return drop(first.send(Err(trouble))),
        None => return,
    };
    let _ = first.send(Ok(()));
    loop {
        let Some(why) = shell.serve(joined).await else { return };
        say(&format!("lost the master ({why}); what runs goes on; looking for it again"));
        joined = match shell.join(&mut search).await {
            Some(Ok(joined)) => joined,
            Some(Err(trouble)) => return shell.give_up(&trouble).await,
            None => return,
        };
    }
}

/// Serves a hub that goes on with the session of an earlier process, until it is closed. What cannot be had is computed
/// again. Once it was connected it looks for a lost master as long as the process's own client does.
pub(crate) async fn serve_quietly(hub: Arc<Hub>, mut search: Search, config: Config, patience: Duration) {
    let mut shell =
        Shell { clock: Clock::start(), desk: Desk::new(hub, config).beside_another(), epoch: None };
    loop {
        let joined = match shell.join(&mut search).await {
            Some(Ok(joined)) => joined,
            Some(Err(trouble)) => return shell.end_all(&trouble).await,
            // Closed before it was connected: what runs of it must end.
            None => return shell.end_session(search).await,
        };
        search.be_patient(patience);
        if shell.serve(joined).await.is_none() {
            return;
        }
    }
}

/// Ends the session of an earlier process: what runs of it is in the way.
pub(crate) async fn end_session(hub: Arc<Hub>, search: Search) {
    Shell { clock: Clock::start(), desk: Desk::new(hub, Config::default()), epoch: None }
        .end_session(search)
        .await;
}

struct Shell {
    clock: Clock,
    desk: Desk,
    /// That of the last master.
    epoch: Option<u64>,
}

/// What comes from a connection.
enum FromMaster {
    Said(Incoming<ToClient>),
    /// The master's time is over: there is one of this epoch.
    Followed(u64),
}

impl Shell {
    /// Serves one connection; gives the reason if it broke, none if the hub was closed.
    async fn serve(&mut self, joined: Joined) -> Option<String> {
        let (deliver, mut from_master) = mpsc::channel::<((), Incoming<ToClient>)>(INBOX_MAX);
        let successor = successor_of(number_and_epoch(&joined.welcome).1, &joined.path);
        tokio::pin!(successor);
        let connected = self.connected(&joined.welcome);
        self.desk.hub().note_session(joined.session);
        tokio::spawn(uploads::answer(joined.connection.clone()));
        let mut link = Link::over(joined.lanes, joined.read, (), &deliver);
        self.desk.machine.handle(self.clock.now(), connected);
        let mut lost = None;
        loop {
            let now = self.clock.now();
            self.desk.take_commands(now);
            while lost.is_none()
                && let Ok(((), incoming)) = from_master.try_recv()
            {
                lost = self.on_master(incoming);
            }
            self.desk.drain(now, |message, body| link.send(&message, &body));
            link.flush();
            self.desk.deliver();
            if self.desk.closing || lost.is_some() {
                break;
            }
            // A message stays queued when the other comes first.
            let next = async {
                tokio::select! {
                    Some(((), incoming)) = from_master.recv() => FromMaster::Said(incoming),
                    epoch = &mut successor => FromMaster::Followed(epoch),
                }
            };
            lost = match self.wait(next).await {
                Some(FromMaster::Said(incoming)) => self.on_master(incoming),
                Some(FromMaster::Followed(epoch)) => Some(followed(epoch)),
                None => None,
            };
        }
        if let Some(why) = lost {
            self.desk.lose_master(self.clock.now());
            let why = why_closed(&joined.connection, why);
            // If it still stands, it was this side's choice.
            joined.connection.close(0u32.into(), b"it goes to a newer master");
            return Some(why);
        }
        link.send(&FromClient::Leave, &Payload::new());
        link.flush();
        // The master closes the connection when it has read the client's last word.
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.connection.closed()).await;
        joined.connection.close(0u32.into(), b"the program has ended");
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.endpoint.wait_idle()).await;
        None
    }

    /// What the machine has to know of a master that let this client in.
    fn connected(&mut self, welcome: &Welcome) -> Event {
        let (_, epoch) = number_and_epoch(welcome);
        let is_same = self.epoch.replace(epoch) == Some(epoch);
        match welcome {
            Welcome::Client { window, resumed, .. } => {
                let session = match resumed {
                    false => Resumed::No,
                    true if is_same => Resumed::SameMaster,
                    true => Resumed::NextMaster,
                };
                Event::Connected { window: *window, session }
            }
            // The master's answer to a client; anything else is a master that lost its mind: the least will do.
            Welcome::Worker { .. } | Welcome::Observer { .. } => {
                Event::Connected { window: Window { tasks: 1, bytes: 0 }, session: Resumed::No }
            }
        }
    }

    fn on_master(&mut self, incoming: Incoming<ToClient>) -> Option<String> {
        match incoming {
            Incoming::Messages(messages) => {
                let now = self.clock.now();
                for (message, body) in messages {
                    self.desk.machine.handle(now, Event::MasterSaid { message, body });
                }
                None
            }
            Incoming::Ended(why) => Some(why),
        }
    }

    /// Waits for the program, the time or the master; gives what the last brings.
    async fn wait<T>(&mut self, master: impl Future<Output = T>) -> Option<T> {
        let due = self.desk.machine.poll_timeout();
        // A notification is kept when another comes first.
        tokio::select! {
            came = master => Some(came),
            () = self.desk.hub().wake.notified() => None,
            () = self.clock.sleep_until(due) => {
                self.desk.machine.handle_timeout(self.clock.now());
                None
            }
        }
    }

    /// Looks for a master while the program goes on calling; none if the hub is closed meanwhile.
    async fn join(&mut self, search: &mut Search) -> Option<Result<Joined, Trouble>> {
        let joining = search.join(search.patience());
        tokio::pin!(joining);
        loop {
            let now = self.clock.now();
            self.desk.take_commands(now);
            self.desk.drain(now, |_, _| {});
            self.desk.deliver();
            if self.desk.closing {
                return None;
            }
            if let Some(joined) = self.wait(&mut joining).await {
                return Some(joined);
            }
        }
    }

    /// Ends all that is open, and all that is still to come.
    async fn give_up(&mut self, trouble: &Trouble) {
        exit::note_fatal(trouble.code());
        self.end_all(trouble).await;
    }

    /// Joins to say that it leaves.
    async fn end_session(&mut self, mut search: Search) {
        if let Ok(joined) = search.join(search.patience()).await {
            self.desk.closing = true;
            self.serve(joined).await;
        }
    }

    async fn end_all(&mut self, trouble: &Trouble) {
        while !self.desk.closing {
            let now = self.clock.now();
            self.desk.take_commands(now);
            self.desk.machine.handle(now, Event::GiveUp { why: format!("the cluster was lost: {trouble}") });
            self.desk.drain(now, |_, _| {});
            self.desk.deliver();
            if !self.desk.closing {
                self.desk.hub().wake.notified().await;
            }
        }
    }
}
