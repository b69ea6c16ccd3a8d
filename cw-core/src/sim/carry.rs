//! Carrying out what the machines want, and what reaches clients and workers.

use std::time::Duration;

use super::{
    hosts::{Given, Input},
    net::Word,
    programs,
    world::{Happening, World, short},
};
use crate::{
    Payload, Time, client,
    ids::{Attempt, ClientId, ExecutorId, TaskId, WorkerId},
    master::{self, RosterLine},
    wire::{Entry, FromClient, FromWorker, ToClient, ToExecutor, ToWorker, singles},
    worker,
};

/// What a result counts beside its bytes.
const RESULT_OVERHEAD: u64 = 64;

impl World {
    pub(super) fn drain_master(&mut self) {
        while let Some(action) = self.master.machine.as_mut().and_then(master::Master::poll_action) {
            self.master_does(action);
        }
    }

    fn master_does(&mut self, action: master::Action) {
        match action {
            master::Action::TellClient { client, message, body } => {
                self.say(|| format!("the master tells {client} {}", short(&message, &body)));
                if let Some(peer) = self.master.peers.get(&client.0).copied() {
                    self.send(peer, false, Word::ToClient(message, body));
                }
            }
            master::Action::TellWorker { worker, message, body } => {
                if !matches!(message, ToWorker::Beat { .. }) {
                    self.say(|| format!("the master tells {worker} {}", short(&message, &body)));
                }
                if let ToWorker::Cancel { client, task, attempt } = message {
                    self.ledger.note_called_back(client.0, task, attempt);
                }
                if let ToWorker::Forget { .. } = message {
                    self.unfit.clear();
                }
                for (message, _) in singles(&message, &body) {
                    if let ToWorker::Run { client, task, attempt, .. } = message {
                        self.check_sent(worker, client, task, attempt);
                    }
                }
                if let Some(peer) = self.master.peers.get(&worker.0).copied() {
                    self.send(peer, false, Word::ToWorker(message, body));
                }
            }
            master::Action::Disconnect { client, why } => {
                let peer = self.master.peers.get(&client.0).copied();
                let owner = self.ledger.owner(client.0);
                let is_rogue = owner.is_some_and(|peer| self.hosts[peer].is_rogue());
                self.ledger
                    .rule(is_rogue, "an honest client is not shown out", || format!("{client}: {why}"));
                self.hang_up(peer);
            }
            master::Action::DisconnectWorker { worker, why, .. } => {
                self.say(|| format!("the master gives {worker} up: {why}"));
                let now = self.master.node.clock.local(self.now);
                let silence = now.since(self.master.heard.get(&worker.0).copied().unwrap_or_default());
                let least = self.knobs.master.lost_after;
                self.ledger.rule(silence >= least, "who was heard is not given up", || {
                    format!("{worker} was heard {silence:?} ago")
                });
                self.ledger.note_given_up(worker.0);
                self.unfit.retain(|(of, _), _| *of != worker);
                let peer = self.master.peers.get(&worker.0).copied();
                self.hang_up(peer);
            }
            master::Action::Note(RosterLine::Joined(member)) => {
                self.master.first_id = self.master.first_id.max(member.id + 1);
                self.master.roster.insert(member.id, member);
            }
            master::Action::Note(RosterLine::Left { id }) => drop(self.master.roster.remove(&id)),
        }
    }

    fn check_sent(&mut self, worker: WorkerId, client: ClientId, task: TaskId, attempt: Attempt) {
        self.check_unfit(worker, client);
        self.check_sent_in_time(worker, client, task);
        self.ledger.note_sent(client.0, task, worker.0);
        if self.ledger.owner(worker.0).is_some_and(|peer| self.hosts[peer].is_rogue()) {
            self.ledger.note_lied_to(client.0);
        }
        let newest = self.master.attempts.insert((client.0, worker.0, task), attempt);
        let is_rogue = self.ledger.owner(client.0).is_some_and(|peer| self.hosts[peer].is_rogue());
        self.ledger.rule(
            newest < Some(attempt) || is_rogue,
            "attempts of a task grow at each worker",
            || format!("{client} {task}: {attempt} after {newest:?}"),
        );
    }

    fn hang_up(&mut self, peer: Option<usize>) {
        if let Some(peer) = peer {
            self.hosts[peer].link.at_master = None;
            self.master.peers.retain(|_, other| *other != peer);
            self.on_half_ended(peer);
        }
    }

    pub(super) fn drain_worker(&mut self, host: usize) {
        loop {
            let Some(worker) = self.hosts[host].worker() else { return };
            if worker.left {
                return;
            }
            let Some(action) = worker.machine.poll_action() else {
                worker.credit.values_mut().for_each(|(now, highest)| *highest = *now);
                return;
            };
            self.worker_does(host, action);
        }
    }

    fn worker_does(&mut self, host: usize, action: worker::Action) {
        match action {
            worker::Action::Tell { message, body } => {
                self.say(|| format!("worker host {host} tells {}", short(&message, &body)));
                for (message, body) in singles(&message, &body) {
                    self.note_end_told(host, &message);
                    if let FromWorker::Finished { client, task, attempt, .. } = message {
                        self.check_credit(host, client, (task, attempt), body.len() as u64 + RESULT_OVERHEAD);
                    }
                }
                self.send(host, true, Word::FromWorker(message, body));
            }
            worker::Action::Start { executor, program, body } => {
                let setting = programs::setting_of(&body);
                self.start_executor(host, executor, worker::Origin { program, setting });
            }
            worker::Action::Fetch { program, .. } => self.fetch(host, program),
            worker::Action::FetchShare { share, .. } => self.fetch_share(host, share),
            worker::Action::DropShare { share, .. } => self.drop_share(host, share),
            worker::Action::Drop { program } => self.drop_program(host, program),
            worker::Action::Feed { executor, message, body } => {
                for (message, body) in singles(&message, &body) {
                    self.feed(host, executor, message, body);
                }
            }
            worker::Action::Kill { executor } => self.kill_executor(host, executor),
            worker::Action::Broken { why } => {
                self.ledger.rule(false, "a worker whose executors start is not broken", || why);
            }
            worker::Action::Idle => {
                let is_quiet = self.hosts[host].worker().is_some_and(|worker| worker.machine.is_quiet());
                self.ledger
                    .rule(is_quiet, "a worker with something to do is not idle", || format!("host {host}"));
            }
            worker::Action::Over => self.end_worker(host),
            worker::Action::Left => {
                let worker = self.hosts[host].worker().expect("it has just said so");
                worker.left = true;
                self.say(|| format!("worker host {host} has left"));
                self.retire(host);
            }
        }
    }

    fn feed(&mut self, host: usize, executor: ExecutorId, message: ToExecutor, body: Payload) {
        match message {
            ToExecutor::Run { task, attempt, .. } | ToExecutor::RunApart { task, attempt, .. } => {
                self.feed_executor(host, executor, task, attempt, body);
            }
            ToExecutor::Share { share } => self.tell_share(host, executor, share),
            ToExecutor::Answers { number, answer } => {
                self.task_is_answered(host, executor, (number, answer), &body);
            }
            ToExecutor::Runs { .. } => unreachable!("taken apart by the caller"),
        }
    }

    /// Results on their way to a client stay within its credit, but for one.
    fn check_credit(&mut self, host: usize, client: ClientId, result: (TaskId, Attempt), bytes: u64) {
        let Some(worker) = self.hosts[host].worker() else { return };
        let (_, credit) = worker.credit.get(&client.0).copied().unwrap_or_default();
        let is_overtaken = worker.overtaken.contains(&(client.0, result.0, result.1));
        let sent = worker.unacknowledged.entry(client.0).or_default();
        sent.remove(&result);
        if is_overtaken {
            return;
        }
        let before: u64 = sent.values().sum();
        let fits = sent.is_empty() || before + bytes <= credit;
        sent.insert(result, bytes);
        self.ledger.rule(fits, "results stay within the client's credit", || {
            format!("host {host}, {client}: {bytes} bytes beside {before} of {credit}")
        });
    }

    pub(super) fn worker_hears(&mut self, peer: usize, message: ToWorker, body: Payload, sent: Time) {
        if message == ToWorker::Leave {
            self.note_let_go(peer);
        }
        let host = &mut self.hosts[peer];
        let local = host.node.clock.local(self.now);
        let Some(worker) = host.worker() else { return };
        for (message, _) in singles(&message, &body) {
            if let ToWorker::Run { client, task, attempt, .. } = message
                && let Some(owner) = self.ledger.owner(client.0)
            {
                let epoch = self.ledger.epoch_of(peer);
                let given = Given { client_id: client.0, epoch, sent, came: 0, fed: 0 };
                let entry = worker.given.entry((owner, task, attempt)).or_insert(given);
                *entry = Given { came: entry.came + 1, fed: entry.fed, ..given };
            }
        }
        match &message {
            ToWorker::Credit { client, bytes } => {
                let (now, highest) = worker.credit.entry(client.0).or_default();
                (*now, *highest) = (*bytes, (*highest).max(*bytes));
            }
            ToWorker::Received { client, first, tasks, attempt } => {
                let sent = worker.unacknowledged.entry(client.0).or_default();
                for task in (first.0..first.0.saturating_add(u64::from((*tasks).min(1_000)))).map(TaskId) {
                    if sent.remove(&(task, *attempt)).is_none() {
                        worker.overtaken.insert((client.0, task, *attempt));
                    }
                }
            }
            ToWorker::Account { client } | ToWorker::Forget { client } => {
                worker.unacknowledged.remove(&client.0);
                if let Some(endings) =
                    self.endings.as_mut().filter(|_| matches!(message, ToWorker::Forget { .. }))
                {
                    endings.forget_client(peer, Some(*client));
                }
            }
            _ => {}
        }
        worker.machine.handle(local, worker::Event::MasterSaid { message, body });
    }

    pub(super) fn drain_client(&mut self, host: usize) {
        while let Some(action) = self.hosts[host].client().and_then(|client| client.machine.poll_action()) {
            self.client_does(host, action);
        }
    }

    fn client_does(&mut self, host: usize, action: client::Action) {
        match action {
            client::Action::Tell { message, body } => {
                self.say(|| format!("client host {host} tells {}", short(&message, &body)));
                for (message, _) in singles(&message, &body) {
                    self.check_words_of_client(host, &message);
                }
                self.send(host, true, Word::FromClient(message, body));
            }
            client::Action::Complete { task, completion } => self.complete(host, task, completion),
            client::Action::Completes { of, ends, .. } => {
                for Entry { task, micros, bytes } in ends.entries() {
                    self.complete(host, task, of.completion(micros, bytes));
                }
            }
            client::Action::Record { task, completion } => {
                if self.keep_ended(host, task, &completion) {
                    return;
                }
                let disk = self.chance.time(Duration::from_micros(100), Duration::from_millis(20));
                let input = Input::Recorded { task };
                self.after(disk, Happening::Input { who: Some(host), input });
            }
            client::Action::Stalled(why) => {
                self.say(|| format!("client host {host} stalls: {why}"));
                self.check_standstill(host, &why);
                self.ledger.note_stalled(host, true);
            }
            client::Action::Moving => self.ledger.note_stalled(host, false),
            client::Action::Ask { task, attempt, number, ask, body } => {
                self.client_is_asked(host, (task, attempt, number), ask, &body);
            }
            client::Action::Progress { .. }
            | client::Action::Counts(_)
            | client::Action::Remark { .. }
            | client::Action::Output { .. }
            | client::Action::TooLong { .. }
            | client::Action::SetAside { .. } => {}
        }
    }

    /// What a client says is within its window, and acknowledges only what it has.
    fn check_words_of_client(&mut self, host: usize, message: &FromClient) {
        let lies = self.ledger.is_lied_to(host);
        let client = self.hosts[host].client().expect("it has just said so");
        match message {
            FromClient::Submit { task, .. }
            | FromClient::Resubmit { task, .. }
            | FromClient::Claim { task, .. } => {
                client.in_flight.insert(*task);
                let (count, most) = (client.in_flight.len(), client.window as usize);
                self.ledger.rule(count <= most + most / 2, "a client stays within its window", || {
                    format!("host {host}: {count} of {most}")
                });
            }
            FromClient::Received { first, tasks, .. } => {
                for task in (first.0..first.0 + u64::from(*tasks)).map(TaskId) {
                    // Of what it does not claim, the process before may have had it.
                    let is_others = client.claimed.as_ref().is_some_and(|claimed| !claimed.contains(&task));
                    let is_done = client.done.contains_key(&task) || is_others;
                    self.ledger.rule(is_done || lies, "what is acknowledged is complete", || {
                        format!("{task} is not")
                    });
                }
            }
            _ => {}
        }
    }

    pub(super) fn client_hears(&mut self, peer: usize, message: ToClient, body: Payload) {
        let host = &mut self.hosts[peer];
        let local = host.node.clock.local(self.now);
        let Some(client) = host.client() else { return };
        for (message, _) in singles(&message, &body) {
            if let ToClient::Finished { task, .. } = message {
                client.in_flight.remove(&task);
            }
        }
        match &message {
            ToClient::DispatchedOnce { spec, below } => self.ledger.note_dispatched(peer, *spec, *below),
            // What is on its way may go by the older word.
            ToClient::Window(window) => client.window = window.tasks,
            _ => {}
        }
        client.machine.handle(local, client::Event::MasterSaid { message, body });
    }
}
