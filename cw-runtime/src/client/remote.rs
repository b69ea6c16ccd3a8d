//! A client of a cluster: the machine beside a connection to a master.
//!
//! Shutdown, in this order:
//! 1. the program closes the hub; whatever is open is dropped;
//! 2. what was said is sent, the last acknowledgements among it, and `Leave` after it;
//! 3. the master closes the connection once it has read that, at most [`CLOSE_WAIT`] later.

use std::{sync::Arc, time::Duration};

use cw_core::{
    client::Event,
    wire::{FromClient, Hello, ToClient, Welcome, Window},
};
use tokio::sync::mpsc;

use super::{
    hub::{Desk, Hub},
    notice::say,
};
use crate::{
    clock::Clock,
    exit::{self, Trouble},
    net::{
        connect::{self, Joined, Wanted},
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
    wanted: Wanted,
    hello: Hello,
    first: std::sync::mpsc::SyncSender<Result<(), Trouble>>,
) {
    let mut shell = Shell { clock: Clock::start(), desk: Desk::new(hub) };
    let mut joined = match shell.join(&wanted, &hello).await {
        Some(Ok(joined)) => joined,
        Some(Err(trouble)) => return drop(first.send(Err(trouble))),
        None => return,
    };
    let _ = first.send(Ok(()));
    loop {
        let Some(why) = shell.serve(joined).await else { return };
        say(&format!("lost the master ({why}); what has no result is handed in again when it is back"));
        joined = match shell.join(&wanted, &hello).await {
            Some(Ok(joined)) => joined,
            Some(Err(trouble)) => return shell.give_up(&trouble).await,
            None => return,
        };
    }
}

struct Shell {
    clock: Clock,
    desk: Desk,
}

impl Shell {
    /// Serves one connection; gives the reason if it broke, none if the hub was closed.
    async fn serve(&mut self, joined: Joined) -> Option<String> {
        let (deliver, mut from_master) = mpsc::channel::<((), Incoming<ToClient>)>(INBOX_MAX);
        let mut link = Link::over(joined.lanes, joined.read, (), &deliver);
        self.desk.machine.handle(self.clock.now(), Event::Connected { window: window_of(&joined.welcome) });
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
            // A notification is kept and a message stays queued when the other comes first.
            tokio::select! {
                () = self.desk.hub().wake.notified() => {}
                Some(((), incoming)) = from_master.recv() => lost = self.on_master(incoming),
            }
        }
        if let Some(why) = lost {
            self.desk.lose_master(self.clock.now());
            return Some(why_closed(&joined.connection, why));
        }
        link.send(&FromClient::Leave, &[]);
        link.flush();
        // The master closes the connection when it has read the client's last word.
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.connection.closed()).await;
        joined.connection.close(0u32.into(), b"the program has ended");
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.endpoint.wait_idle()).await;
        None
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

    /// Looks for a master while the program goes on calling; none if the hub is closed meanwhile.
    async fn join(&mut self, wanted: &Wanted, hello: &Hello) -> Option<Result<Joined, Trouble>> {
        let joining = connect::join(wanted, hello);
        tokio::pin!(joining);
        loop {
            let now = self.clock.now();
            self.desk.take_commands(now);
            self.desk.drain(now, |_, _| {});
            self.desk.deliver();
            if self.desk.closing {
                return None;
            }
            tokio::select! {
                joined = &mut joining => return Some(joined),
                () = self.desk.hub().wake.notified() => {}
            }
        }
    }

    /// Ends all that is open, and all that is still to come.
    async fn give_up(&mut self, trouble: &Trouble) {
        exit::note_fatal(trouble.code());
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

fn window_of(welcome: &Welcome) -> Window {
    match welcome {
        Welcome::Client { window, .. } => *window,
        // The master's answer to a client; anything else is a master that lost its mind: the least will do.
        Welcome::Worker { .. } => Window { tasks: 1, bytes: 0 },
    }
}
