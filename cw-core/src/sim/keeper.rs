//! Programs with a store: a process is killed, another makes the same calls and goes on with what is on the disk and with
//! what the cluster has.
//!
//! The disk takes what is written in order, a batch at a time. What has not been synced when the process is killed is lost,
//! and of the batch that is being written nobody knows. A full disk takes nothing for a while, a bad one fails now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    checks::Ledger,
    hosts::{ClientHost, Input, Node, Role},
    net::Word,
    plan::TaskPlan,
    world::{Happening, World},
};
use crate::{
    Time,
    claims::{Claims, Ended, Found, Key},
    client::{self, Client, Completion},
    ids::{SpecIndex, TaskId},
    wire::{Class, FromClient, Spec},
};

/// A write that failed is tried again after this.
const RETRY: Duration = Duration::from_millis(500);

/// A program with a store, over the lives of its processes.
#[derive(Debug)]
pub(super) struct Keeper {
    /// A host for each of its sessions; the last is the present process's own.
    hosts: Vec<usize>,
    /// The how-manieth process it is.
    life: u32,
    pub(super) up: bool,
    /// Whether another process is to follow.
    pub(super) again: bool,
    specs: Vec<Spec>,
    /// All calls, which every process makes in this order.
    calls: Vec<TaskPlan>,
    /// Those that this process has the answer of.
    answered: BTreeSet<usize>,
    /// Which call a task is.
    calls_of: BTreeMap<(usize, TaskId), usize>,
    claims: Claims<usize>,
    /// The hosts of the claims' sessions, until they are over.
    sessions: Vec<Option<usize>>,
    disk: Disk,
}

#[derive(Debug, Default)]
struct Disk {
    /// Calls that have ended, and whether well.
    rows: BTreeMap<usize, bool>,
    sent: BTreeSet<(usize, TaskId)>,
    waiting: Vec<Write>,
    writing: Vec<Write>,
    full_until: Time,
}

#[derive(Clone, Debug)]
enum Write {
    Sent(usize, TaskId),
    Row {
        call: usize,
        is_ok: bool,
        of: Of,
    },
    /// A session is over.
    Forget(usize),
}

/// What is recorded with a row.
#[derive(Clone, Copy, Debug)]
enum Of {
    Own(TaskId),
    Claim(Key),
}

impl Keeper {
    pub(super) fn new(host: usize, specs: Vec<Spec>) -> Self {
        Self {
            hosts: vec![host],
            life: 0,
            up: true,
            again: false,
            specs,
            calls: Vec::new(),
            answered: BTreeSet::new(),
            calls_of: BTreeMap::new(),
            claims: Claims::default(),
            sessions: Vec::new(),
            disk: Disk::default(),
        }
    }

    pub(super) fn main(&self) -> usize {
        *self.hosts.last().expect("there is a first")
    }

    /// Calls without an answer.
    pub(super) fn open(&self) -> impl Iterator<Item = (&TaskPlan, &Spec)> {
        let open = self.calls.iter().enumerate().filter(|(call, _)| !self.answered.contains(call));
        open.map(|(_, plan)| (plan, &self.specs[plan.spec]))
    }

    /// Whether it is done, or will never be.
    pub(super) fn is_quiet(&self) -> bool {
        let is_done = self.answered.len() == self.calls.len() && self.sessions.iter().all(Option::is_none);
        if self.up { is_done } else { !self.again }
    }

    fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Sent(host, task) => drop(self.disk.sent.insert((*host, *task))),
                Write::Row { call, is_ok, .. } => drop(self.disk.rows.insert(*call, *is_ok)),
                Write::Forget(host) => self.disk.sent.retain(|(of, _)| of != host),
            }
        }
    }
}

impl World {
    /// The host of a client's present process.
    pub(super) fn present(&self, client: usize) -> usize {
        self.hosts[client].keeper.map_or(client, |keeper| self.keepers[keeper].main())
    }

    /// Which program's call a task is, and which.
    pub(super) fn call_of(&self, host: usize, task: TaskId) -> Option<(usize, usize)> {
        let keeper = self.hosts[host].keeper?;
        Some((keeper, *self.keepers[keeper].calls_of.get(&(host, task))?))
    }

    /// The program calls.
    pub(super) fn keep_calls(&mut self, keeper: usize, plans: &[TaskPlan]) {
        for plan in plans {
            self.keepers[keeper].calls.push(*plan);
            if self.keepers[keeper].up {
                self.keep_call(keeper, self.keepers[keeper].calls.len() - 1);
            }
        }
        self.settle_keeper(keeper);
    }

    fn settle_keeper(&mut self, keeper: usize) {
        let main = self.keepers[keeper].main();
        if self.hosts[main].node.runs() {
            self.settle(Some(main));
        }
    }

    /// A call has its row, or waits for what an earlier process has left, or runs.
    fn keep_call(&mut self, keeper: usize, call: usize) {
        let it = &mut self.keepers[keeper];
        if it.disk.rows.get(&call) == Some(&true) {
            return self.keep_answer(keeper, call);
        }
        match it.claims.find(what(call), call) {
            Found::Nothing(call) => self.keep_submit(keeper, call),
            Found::Waits(_) => {}
            Found::Result(key, call, _) => {
                self.keep_write(keeper, Write::Row { call, is_ok: true, of: Of::Claim(key) });
            }
        }
    }

    fn keep_answer(&mut self, keeper: usize, call: usize) {
        let is_new = self.keepers[keeper].answered.insert(call);
        self.ledger.rule(is_new, "a call is answered once", || format!("call {call} of program {keeper}"));
    }

    fn keep_submit(&mut self, keeper: usize, call: usize) {
        let (main, plan) = (self.keepers[keeper].main(), self.keepers[keeper].calls[call]);
        let specs = self.keepers[keeper].specs.clone();
        let client = self.hosts[main].client().expect("a program is a client");
        let task = TaskId(client.next_task);
        client.next_task += 1;
        self.ledger.note_planned(main, &[plan], &specs);
        self.keepers[keeper].calls_of.insert((main, task), call);
        self.keep_write(keeper, Write::Sent(main, task));
        self.input(Some(main), Input::Submit { first: task, tasks: 1 });
    }

    fn keep_write(&mut self, keeper: usize, write: Write) {
        self.keepers[keeper].disk.waiting.push(write);
        self.begin_write(keeper);
    }

    fn begin_write(&mut self, keeper: usize) {
        let disk = &mut self.keepers[keeper].disk;
        if !disk.writing.is_empty() || disk.waiting.is_empty() {
            return;
        }
        disk.writing = std::mem::take(&mut disk.waiting);
        let takes = self.chance.time(Duration::from_micros(100), Duration::from_millis(20));
        let life = self.keepers[keeper].life;
        self.after(takes, Happening::Written { keeper, life });
    }

    /// A batch is on the disk, unless that is full or failed.
    pub(super) fn written(&mut self, keeper: usize, life: u32) {
        if self.keepers[keeper].life != life || !self.keepers[keeper].up {
            return;
        }
        let fails = self.knobs.faults.bad_disk && !self.healed && self.chance.permille(100);
        if fails || self.keepers[keeper].disk.full_until > self.now {
            return self.after(RETRY, Happening::Written { keeper, life });
        }
        let it = &mut self.keepers[keeper];
        let writes = std::mem::take(&mut it.disk.writing);
        it.apply(&writes);
        for write in writes {
            if let Write::Row { call, of, .. } = write {
                self.keep_recorded(keeper, call, of);
            }
        }
        self.begin_write(keeper);
        self.close_sessions(keeper);
    }

    fn keep_recorded(&mut self, keeper: usize, call: usize, of: Of) {
        let (host, task) = match of {
            Of::Own(task) => (Some(self.keepers[keeper].main()), task),
            Of::Claim(key) => {
                self.keepers[keeper].claims.recorded(key);
                self.keep_answer(keeper, call);
                (self.keepers[keeper].sessions[key.0], key.1)
            }
        };
        self.input(host, Input::Recorded { task });
    }

    /// A task of a program with a store has ended; says whether it is one of its calls.
    pub(super) fn keep_ended(&mut self, host: usize, task: TaskId, completion: &Completion) -> bool {
        let Some(keeper) = self.hosts[host].keeper else { return false };
        let Some(call) = self.keepers[keeper].calls_of.get(&(host, task)).copied() else { return false };
        let it = &mut self.keepers[keeper];
        if host == it.main() {
            let is_ok = completion.class == Class::Ok;
            self.keep_write(keeper, Write::Row { call, is_ok, of: Of::Own(task) });
            return true;
        }
        let Some(session) = it.sessions.iter().position(|of| *of == Some(host)) else { return true };
        match it.claims.end((session, task), completion.clone()) {
            Ended::Kept => {}
            Ended::Result(call, _) => {
                let of = Of::Claim((session, task));
                self.keep_write(keeper, Write::Row { call, is_ok: true, of });
            }
            Ended::Runs(call) => {
                self.after(
                    Duration::ZERO,
                    Happening::Input { who: Some(host), input: Input::Recorded { task } },
                );
                self.keep_call(keeper, call);
            }
            Ended::Gone => {
                self.after(
                    Duration::ZERO,
                    Happening::Input { who: Some(host), input: Input::Recorded { task } },
                );
            }
        }
        let life = self.keepers[keeper].life;
        self.after(Duration::ZERO, Happening::SessionsEnd { keeper, life });
        true
    }

    /// A task of a program with a store has its answer.
    pub(super) fn keep_complete(&mut self, host: usize, task: TaskId, completion: &Completion) {
        let Some(keeper) = self.hosts[host].keeper else { return };
        let it = &self.keepers[keeper];
        let Some(call) = it.calls_of.get(&(host, task)).copied() else { return };
        let (row, is_own) = (it.disk.rows.get(&call).copied(), host == it.main());
        let is_kept = if is_own { row.is_some() } else { completion.class != Class::Ok || row == Some(true) };
        self.ledger.rule(is_kept, "what a program has is on its disk", || {
            format!("call {call} of program {keeper}, {task} of host {host}: {row:?}")
        });
        if is_own {
            self.keep_answer(keeper, call);
        }
    }

    pub(super) fn sessions_end(&mut self, keeper: usize, life: u32) {
        if self.keepers[keeper].life == life && self.keepers[keeper].up {
            self.close_sessions(keeper);
        }
    }

    /// Sessions of which all is taken, or nothing can be, end.
    fn close_sessions(&mut self, keeper: usize) {
        for session in 0..self.keepers[keeper].sessions.len() {
            let it = &mut self.keepers[keeper];
            if it.claims.is_over(session)
                && let Some(host) = it.sessions[session].take()
            {
                self.say(|| format!("-- the session of host {host} is over"));
                self.keep_write(keeper, Write::Forget(host));
                self.send(host, true, Word::FromClient(FromClient::Leave, crate::Payload::new()));
                self.ledger.note_client_gone(host);
                self.ledger.abandon(host);
                self.go_down(host);
            }
        }
    }

    /// The process dies, with all its connections.
    pub(super) fn kill_keeper(&mut self, keeper: usize, seen: bool, again_after: Option<Duration>) {
        let it = &mut self.keepers[keeper];
        it.disk.waiting.clear();
        let writing = std::mem::take(&mut it.disk.writing);
        let hosts = it.hosts.clone();
        (it.up, it.life) = (false, it.life + 1);
        it.again = again_after.is_some();
        // Nobody heard whether it got there.
        if self.chance.coin() {
            self.keepers[keeper].apply(&writing);
        }
        for host in hosts.into_iter().filter(|host| self.hosts[*host].node.up).collect::<Vec<_>>() {
            self.ledger.note_client_gone(host);
            self.ledger.abandon(host);
            self.kill_host(host, seen);
        }
        if let Some(pause) = again_after {
            self.after(pause, Happening::StartProcess { keeper });
        }
    }

    /// Another process of the program starts: it goes on with what sessions there are, and makes all calls.
    pub(super) fn start_process(&mut self, keeper: usize) {
        let it = &mut self.keepers[keeper];
        if it.up {
            return;
        }
        (it.up, it.again) = (true, false);
        it.answered.clear();
        it.claims = Claims::default();
        it.sessions.clear();
        let (old, specs, first) = (it.hosts.clone(), it.specs.clone(), it.hosts[0]);
        old.into_iter().for_each(|host| self.go_on_with(keeper, host));
        let program = self.hosts[first].program;
        let main = self.start_client_of(program, specs);
        self.say(|| format!("-- host {main} is the next process of program {keeper}"));
        self.hosts[main].keeper = Some(keeper);
        self.keepers[keeper].hosts.push(main);
        for call in 0..self.keepers[keeper].calls.len() {
            self.keep_call(keeper, call);
        }
        self.settle_keeper(keeper);
        self.close_sessions(keeper);
    }

    /// Goes on with a session, for the tasks of it that have no row.
    fn go_on_with(&mut self, keeper: usize, host: usize) {
        let it = &mut self.keepers[keeper];
        let of_host = it.disk.sent.range((host, TaskId(0))..=(host, TaskId(u64::MAX)));
        let calls: Vec<(TaskId, usize)> = of_host.map(|sent| (sent.1, it.calls_of[sent])).collect();
        let open: Vec<(TaskId, usize)> =
            calls.into_iter().filter(|(_, call)| it.disk.rows.get(call) != Some(&true)).collect();
        if open.is_empty() {
            return;
        }
        let session = it.claims.new_session();
        it.sessions.push(Some(host));
        for (task, call) in &open {
            it.claims.add((session, *task), what(*call));
        }
        self.say(|| {
            format!("-- program {keeper} goes on with the session of host {host}: {} tasks", open.len())
        });
        let tasks: Vec<TaskId> = open.iter().map(|(task, _)| *task).collect();
        self.ledger.revive(host, &tasks);
        let clock = self.clock();
        let local = clock.local(self.now);
        let revived = &mut self.hosts[host];
        revived.node = Node::new(clock);
        (revived.link.at_peer, revived.link.joining) = (None, false);
        let before = revived.client().expect("a program is a client");
        let (specs, next_task, setting) = (before.specs.clone(), before.next_task, before.setting);
        let config = self.client_config(setting);
        let mut client = ClientHost::new(Client::new(config), setting, specs.clone());
        client.next_task = next_task;
        client.claimed = Some(tasks.iter().copied().collect());
        for what in specs {
            client.machine.handle(local, client::Event::Declare { what });
        }
        for task in tasks {
            let spec = SpecIndex(u32::try_from(self.ledger.spec_of(host, task)).expect("few specs"));
            client.machine.handle(local, client::Event::Claim { task, spec });
        }
        self.hosts[host].role = Role::Client(Box::new(client));
        let soon = Duration::from_micros(self.chance.below(50_000));
        self.after(soon, Happening::TryJoin { peer: host });
        self.settle(Some(host));
        self.look_at_ways(host);
    }

    pub(super) fn fill_disk(&mut self, pick: u64, lasts: Duration) {
        let all = self.keepers.len();
        if all > 0 {
            let until = self.now + lasts;
            self.keepers[pick as usize % all].disk.full_until = until;
        }
    }

    /// Whether a program waits for its disk, which it says itself; or a result for its call, which waits for another.
    pub(super) fn waits_for_itself(&self, host: usize) -> bool {
        let Some(keeper) = self.hosts[host].keeper.map(|keeper| &self.keepers[keeper]) else { return false };
        let session = keeper.sessions.iter().position(|of| *of == Some(host));
        let is_here = |task: TaskId| session.is_some_and(|session| keeper.claims.is_here((session, task)));
        let open = self.ledger.open(|owner| owner == host).0;
        !keeper.disk.writing.is_empty() || open.into_iter().all(|(_, task)| is_here(task))
    }

    pub(super) fn heal_disks(&mut self) {
        self.keepers.iter_mut().for_each(|keeper| keeper.disk.full_until = Time::ZERO);
    }

    /// All that living programs have called has a row.
    pub(super) fn check_tables(&mut self) {
        for number in 0..self.keepers.len() {
            let it = &self.keepers[number];
            let missing: Vec<usize> =
                (0..it.calls.len()).filter(|call| it.up && !it.disk.rows.contains_key(call)).collect();
            self.ledger.rule(missing.is_empty(), "all that was called is recorded in the end", || {
                format!("program {number} lacks {missing:?}")
            });
        }
    }
}

impl Ledger {
    /// A process has ended: nobody waits for its answers.
    pub(super) fn abandon(&mut self, peer: usize) {
        self.truths.get_mut(&peer).into_iter().flatten().for_each(|truth| truth.is_abandoned = true);
    }

    /// Another process goes on with its session, and wants these.
    pub(super) fn revive(&mut self, peer: usize, tasks: &[TaskId]) {
        for task in tasks {
            let truth = self.truth(peer, *task).expect("it was submitted");
            (truth.done, truth.is_abandoned, truth.is_claimed) = (None, false, true);
        }
        self.note_revived(peer);
    }

    pub(super) fn spec_of(&mut self, peer: usize, task: TaskId) -> usize {
        self.truth(peer, task).expect("it was planned").plan.spec
    }

    pub(super) fn is_durable(&mut self, peer: usize, task: TaskId) -> bool {
        self.truth(peer, task).is_some_and(|truth| truth.plan.durable)
    }
}

/// What tells a call's arguments from others.
fn what(call: usize) -> (i64, [u8; 16]) {
    (0, (call as u128).to_le_bytes())
}
