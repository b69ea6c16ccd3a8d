//! A cluster in one thread: client, master and worker machine, and the executors' sockets between them.
//!
//! No network, no keys, and no message is encoded on its way; the rules are the machines' and so the same.

use std::{os::unix::ffi::OsStringExt, sync::Arc, time::Duration};

use cw_core::{
    Payload, Time,
    client::{self, Event as ClientEvent, Resumed},
    ids::{ClientId, ProgramId, ShareId, WorkerId},
    master::{self, Master},
    wire::{FromWorker, Programs},
    worker::{self, ExecutorSaid, Worker},
};
use tokio::sync::mpsc;

use super::hub::{Desk, Hub};
use crate::{
    clock::Clock,
    shared,
    worker::pool::{Kind, Pool, Said},
};

const CLIENT: ClientId = ClientId(0);
const WORKER: WorkerId = WorkerId(0);

/// Serves a hub until it is closed.
pub(crate) async fn serve(hub: Arc<Hub>, config: client::Config, slots: u32, kind: Kind) {
    let (pool, said) = Pool::new(kind);
    let mut house = House::new(Desk::new(hub, config), slots, pool);
    house.run(said).await;
}

struct House {
    clock: Clock,
    desk: Desk,
    master: Master,
    worker: Worker,
    pool: Pool,
    /// Whether all executors have ended after the worker was told to leave.
    left: bool,
}

impl House {
    fn new(desk: Desk, slots: u32, pool: Pool) -> Self {
        let config = worker::Config {
            slots,
            programs: Programs::Own,
            start_early: false,
            idle_time: None,
            alone: true,
            ..worker::Config::default()
        };
        let mut house = Self {
            clock: Clock::start(),
            desk,
            // Nobody here can fall silent without all others.
            master: Master::new(master::Config { liveness: false, ..master::Config::default() }),
            worker: Worker::new(config),
            pool,
            left: false,
        };
        house.join(slots);
        house
    }

    fn join(&mut self, slots: u32) {
        let (now, program) = (self.clock.now(), ProgramId::default());
        let (program_name, name) = (crate::program::file_name(), crate::program::process_name());
        let (programs, returned) = (Programs::Own, false);
        let joined = master::Event::WorkerJoined {
            worker: WORKER,
            program,
            programs,
            program_name,
            name,
            slots,
            returned,
        };
        self.master.handle(now, joined);
        self.worker.handle(now, worker::Event::Joined { returned });
        self.master.handle(now, master::Event::ClientJoined { client: CLIENT, program, returned });
        let window = self.master.window();
        self.desk.machine.handle(now, ClientEvent::Connected { window, session: Resumed::No });
    }

    async fn run(&mut self, mut said: mpsc::Receiver<Said>) {
        loop {
            let now = self.clock.now();
            self.desk.take_commands(now);
            while let Ok(words) = said.try_recv() {
                self.hear(now, words);
            }
            self.settle(now);
            if self.desk.closing {
                break;
            }
            let due = self.due();
            // All three lose nothing when another comes first: a notification is kept, a message stays queued.
            tokio::select! {
                () = self.desk.hub().wake.notified() => {}
                Some(words) = said.recv() => { let now = self.clock.now(); self.hear(now, words); }
                () = self.clock.sleep_until(due) => {
                    // What was said before the time was up comes first.
                    while let Ok(words) = said.try_recv() {
                        self.hear(self.clock.now(), words);
                    }
                    self.on_time();
                }
            }
        }
        self.leave(said).await;
    }

    /// When the first of the machines wants to be woken.
    fn due(&self) -> Option<Time> {
        let Self { desk, master, worker, .. } = self;
        let all = [desk.machine.poll_timeout(), master.poll_timeout(), worker.poll_timeout()];
        all.into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        let now = self.clock.now();
        if self.desk.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.desk.machine.handle_timeout(now);
        }
        if self.master.poll_timeout().is_some_and(|due| due <= now) {
            self.master.handle_timeout(now);
        }
        if self.worker.poll_timeout().is_some_and(|due| due <= now) {
            self.worker.handle_timeout(now);
        }
    }

    fn hear(&mut self, now: Time, (executor, words): Said) {
        for said in words {
            if matches!(said, ExecutorSaid::Ended { .. }) {
                self.pool.forget(executor);
            }
            self.worker.handle(now, worker::Event::ExecutorSaid { executor, said });
        }
    }

    /// Passes messages among the machines until none has any.
    fn settle(&mut self, now: Time) {
        loop {
            let Self { desk, master, .. } = self;
            let mut any = desk.drain(now, |message, body| {
                master.handle(now, master::Event::ClientSaid { client: CLIENT, message, body });
            });
            while let Some(action) = self.master.poll_action() {
                any = true;
                self.on_master(now, action);
            }
            while let Some(action) = self.worker.poll_action() {
                any = true;
                self.on_worker(now, action);
            }
            if !any {
                break;
            }
        }
        self.pool.flush();
        self.desk.deliver();
    }

    fn on_master(&mut self, now: Time, action: master::Action) {
        match action {
            master::Action::TellClient { message, body, .. } => {
                self.desk.machine.handle(now, ClientEvent::MasterSaid { message, body });
            }
            master::Action::TellWorker { message, body, .. } => {
                self.worker.handle(now, worker::Event::MasterSaid { message, body });
            }
            master::Action::Disconnect { why, .. } => {
                unreachable!("this process's own client broke the rules: it {why}")
            }
            master::Action::DisconnectWorker { why, .. } => {
                unreachable!("this process's own worker was given up: {why}")
            }
            // A house has no next master.
            master::Action::Note(_) => {}
        }
    }

    fn on_worker(&mut self, now: Time, action: worker::Action) {
        match action {
            worker::Action::Tell { message, body } => self.tell_master(now, message, body),
            worker::Action::Start { executor, program, body } => self.pool.start(executor, program, &body),
            worker::Action::Feed { executor, message, body } => self.pool.feed(executor, &message, body),
            worker::Action::Kill { executor } => self.pool.kill(executor),
            worker::Action::FetchShare { share, .. } => self.tell_share(now, share),
            // A worker that is alone has one program and no end of its own, and does not leave by itself: it refuses what it cannot run.
            worker::Action::Broken { .. }
            | worker::Action::Idle
            | worker::Action::Fetch { .. }
            | worker::Action::Drop { .. }
            | worker::Action::Over
            | worker::Action::DropShare { .. } => {}
            worker::Action::Left => self.left = true,
        }
    }

    /// What tasks share here is this process's own.
    fn tell_share(&mut self, now: Time, share: ShareId) {
        let path = shared::kept_at(share).map(|(path, _)| Payload::from(path.into_os_string().into_vec()));
        let result = path.ok_or(worker::NoShare::There("this program does not have it".to_owned()));
        self.worker.handle(now, worker::Event::Shared { share, result });
    }

    fn tell_master(&mut self, now: Time, message: FromWorker, body: Payload) {
        self.master.handle(now, master::Event::WorkerSaid { worker: WORKER, message, body });
    }

    /// Kills the executors, and waits until they are dead, but not for ever.
    async fn leave(&mut self, mut said: mpsc::Receiver<Said>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        self.worker.handle(self.clock.now(), worker::Event::Leave);
        loop {
            self.settle(self.clock.now());
            if self.left {
                return;
            }
            match tokio::time::timeout_at(deadline, said.recv()).await {
                Ok(Some(words)) => self.hear(self.clock.now(), words),
                _ => return,
            }
        }
    }
}
