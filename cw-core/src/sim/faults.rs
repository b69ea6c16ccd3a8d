//! What befalls the world: processes start and die, stop and go on; ways are cut and mended; rogues talk.

use std::time::Duration;

use super::{
    hosts::{ClientHost, Clock, Host, Input, Node, Role, WorkerHost},
    keeper::Keeper,
    net::{Link, Word},
    plan::Act,
    world::{Happening, World},
};
use crate::{
    Payload, Time,
    client::{self, Client},
    ids::{Attempt, ClientId, JobIndex, ProgramId, SettingId, SpecIndex, TaskId, WorkerId},
    master::{self, Master},
    wire::{Answer, Ask, Class, Doing, FromClient, FromWorker, Returned, Session, Spec, Token},
    worker::{self, Worker},
};

fn program(number: u32) -> ProgramId {
    ProgramId([u8::try_from(number + 1).expect("few programs"); 16])
}

impl World {
    pub(super) fn clock(&mut self) -> Clock {
        let rate = if self.knobs.faults.rates { self.chance.between(500, 2_000) } else { 1_000 };
        Clock::new(self.now, rate)
    }

    fn add_host(&mut self, program: ProgramId, role: Role) -> usize {
        let mut token = [0; 16];
        token[..8].copy_from_slice(&self.chance.next().to_le_bytes());
        let node = Node::new(self.clock());
        let session = Session { token: Token(token), known: None };
        self.hosts.push(Host { node, link: Link::default(), session, program, role, keeper: None });
        let peer = self.hosts.len() - 1;
        let soon = Duration::from_micros(self.chance.below(50_000));
        self.after(soon, Happening::TryJoin { peer });
        peer
    }

    pub(super) fn start_master(&mut self) {
        let clock = self.clock();
        let roster = self.master.roster.values().copied().collect();
        let (first_id, now) = (self.master.first_id, clock.local(self.now));
        let config = master::Config { roster, first_id, now, ..self.knobs.master.clone() };
        self.master.epoch += 1;
        self.master.node = Node::new(clock);
        self.master.machine = Some(Master::new(config));
        self.master.heard.clear();
        self.unfit.clear();
        self.master.attempts.clear();
        self.say(|| "a master starts".to_owned());
        self.settle(None);
        self.look_at_all_ways();
    }

    pub(super) fn start_client(&mut self, specs: Vec<Spec>) {
        let number = self.hosts.len() as u32;
        let peer = self.start_client_of(program(number % self.knobs.programs), specs.clone());
        if self.knobs.habits.stores {
            self.hosts[peer].keeper = Some(self.keepers.len());
            self.keepers.push(Keeper::new(peer, specs));
        }
    }

    pub(super) fn start_client_of(&mut self, program: ProgramId, specs: Vec<Spec>) -> usize {
        let setting = self.draw_setting();
        let machine = Client::new(self.client_config(setting));
        let host = ClientHost::new(machine, setting, specs.clone());
        let peer = self.add_host(program, Role::Client(Box::new(host)));
        let local = self.hosts[peer].node.clock.local(self.now);
        for what in specs {
            let client = self.hosts[peer].client().expect("it was just made");
            client.machine.handle(local, client::Event::Declare { what });
        }
        self.settle(Some(peer));
        peer
    }

    pub(super) fn start_first_workers(&mut self) {
        for number in 0..self.knobs.workers {
            let slots = self.chance.between(1, u64::from(self.knobs.slots)) as u32;
            let bad = (number == 1 && self.knobs.faults.black_hole)
                .then(|| self.chance.pick(&[Class::Failed, Class::Crashed]));
            self.start_worker(program(number % self.knobs.programs), slots, bad);
        }
        for is_worker in [true, false] {
            let wanted =
                if is_worker { self.knobs.faults.rogue_worker } else { self.knobs.faults.rogue_client };
            if wanted {
                let number = self.chance.below(2) as u32;
                let peer = self.add_host(program(number), Role::Rogue { is_worker });
                self.acts.push((Duration::ZERO, Act::Speak { rogue: peer }));
            }
        }
    }

    pub(super) fn start_worker(&mut self, program: ProgramId, slots: u32, bad: Option<Class>) {
        let programs = self.draw_programs();
        let own = worker::Origin { program, setting: SettingId::default() };
        let config = worker::Config { slots, own, programs, ..self.knobs.worker.clone() };
        let role = Role::Worker(Box::new(WorkerHost {
            machine: Worker::new(config),
            slots,
            programs,
            fetched: Default::default(),
            processes: Default::default(),
            freezes: false,
            thaw: Vec::new(),
            bad,
            left: false,
            is_let_go: false,
            given: Default::default(),
            credit: Default::default(),
            unacknowledged: Default::default(),
            overtaken: Default::default(),
        }));
        let peer = self.add_host(program, role);
        self.say(|| format!("host {peer} starts: a worker of {slots} slots for {programs:?}, bad: {bad:?}"));
        self.settle(Some(peer));
        self.draw_end(peer);
    }

    /// One of the hosts of a kind that are up, if there is any.
    fn choose(&self, pick: u64, fits: impl Fn(&Host) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.hosts.len())
            .filter(|index| self.hosts[*index].node.up && fits(&self.hosts[*index]))
            .collect();
        (!all.is_empty()).then(|| all[pick as usize % all.len()])
    }

    pub(super) fn act(&mut self, index: usize) {
        let act = self.acts[index].1.clone();
        if !matches!(act, Act::Speak { .. }) {
            self.say(|| format!("-- {act:?}").chars().take(160).collect());
        }
        let is_worker = |host: &Host| matches!(host.role, Role::Worker(_));
        let is_client = |host: &Host| matches!(host.role, Role::Client(_));
        match act {
            Act::Submit { client, tasks } => self.hand_in(client, &tasks),
            Act::Cancel { client, pick } => self.cancel(client, pick),
            Act::Watch { client } => {
                if let Some(peer) = self.choose(client as u64, is_client) {
                    self.input(Some(peer), Input::Watch);
                }
            }
            Act::Break { peer } => {
                if let Some(peer) = self.choose(peer, |_| true) {
                    self.break_link(peer);
                }
            }
            Act::Cut { peer, to_master, to_peer, lasts } => {
                if let Some(peer) = self.choose(peer, |_| true) {
                    self.cut(peer, to_master, to_peer, lasts);
                }
            }
            Act::KillWorker { pick, again_after, seen } => {
                let Some(peer) = self.choose(pick, is_worker) else { return };
                self.kill_host(peer, seen);
                self.replace(peer, again_after);
            }
            Act::KillClient { pick, seen, again_after } => {
                let clients = self.hosts.iter().filter(|host| host.node.up && is_client(host)).count();
                let Some(peer) = self.choose(pick, is_client) else { return };
                match self.hosts[peer].keeper {
                    Some(keeper) => self.kill_keeper(keeper, seen, Some(again_after)),
                    None if clients > 1 => {
                        self.ledger.note_client_gone(peer);
                        self.kill_host(peer, seen);
                    }
                    None => {}
                }
            }
            Act::FillDisk { pick, lasts } => self.fill_disk(pick, lasts),
            Act::KillMaster { down_for } => self.kill_master(down_for),
            Act::Pause { who, lasts, freezes } => self.pause(who, lasts, freezes),
            Act::Leave { pick, again_after } => {
                if let Some(peer) = self.choose(pick, is_worker) {
                    self.ledger.note_leaves(peer);
                    self.input(Some(peer), Input::Leave);
                    self.replace(peer, again_after);
                }
            }
            Act::StartWorker => {
                let slots = self.chance.between(1, u64::from(self.knobs.slots)) as u32;
                let number = self.chance.below(u64::from(self.knobs.programs)) as u32;
                self.start_worker(program(number), slots, None);
            }
            Act::Speak { rogue } => self.speak(rogue, index),
            Act::Heal => self.heal(),
        }
    }

    pub(super) fn hand_in(&mut self, client: usize, tasks: &[super::plan::TaskPlan]) {
        let peer = self.present(client);
        if let Some(keeper) = self.hosts[peer].keeper {
            let kept: Vec<super::plan::TaskPlan> =
                tasks.iter().filter(|plan| plan.durable).copied().collect();
            self.keep_calls(keeper, &kept);
        }
        let is_kept = self.hosts[peer].keeper.is_some();
        let tasks: Vec<super::plan::TaskPlan> =
            tasks.iter().filter(|plan| !(is_kept && plan.durable)).copied().collect();
        let tasks = tasks.as_slice();
        let host = &mut self.hosts[peer];
        if !host.node.up || tasks.is_empty() {
            return;
        }
        let Some(client) = host.client() else { return };
        let first = TaskId(client.next_task);
        client.next_task += tasks.len() as u64;
        let specs = client.specs.clone();
        self.ledger.note_planned(peer, tasks, &specs);
        let tasks = u32::try_from(tasks.len()).expect("few tasks");
        self.input(Some(peer), Input::Submit { first, tasks });
    }

    fn cancel(&mut self, client: usize, pick: u64) {
        let client = self.present(client);
        let host = &mut self.hosts[client];
        if !host.node.up {
            return;
        }
        let is_kept = host.keeper.is_some();
        let Some(it) = host.client() else { return };
        if it.next_task > 0 {
            let task = TaskId(pick % it.next_task);
            if is_kept && self.ledger.is_durable(client, task) {
                return;
            }
            self.ledger.note_cancelled(client, task);
            self.input(Some(client), Input::Cancel { task });
        }
    }

    fn cut(&mut self, peer: usize, to_master: bool, to_peer: bool, lasts: Duration) {
        let link = &mut self.hosts[peer].link;
        link.to_master.cuts += u32::from(to_master);
        link.to_peer.cuts += u32::from(to_peer);
        self.ledger.note_stuck(Some(peer));
        self.look_at_ways(peer);
        self.after(lasts, Happening::Uncut { peer, to_master, to_peer });
    }

    pub(super) fn uncut(&mut self, peer: usize, to_master: bool, to_peer: bool) {
        let link = &mut self.hosts[peer].link;
        // All may have been mended before.
        link.to_master.cuts = link.to_master.cuts.saturating_sub(u32::from(to_master));
        link.to_peer.cuts = link.to_peer.cuts.saturating_sub(u32::from(to_peer));
        self.say(|| format!("-- host {peer} is cut off no longer"));
        self.look_at_ways(peer);
    }

    /// A process dies, with all its children. Nobody says goodbye, but the network may tell.
    pub(super) fn kill_host(&mut self, peer: usize, seen: bool) {
        let now = self.now;
        self.say(|| format!("-- host {peer} dies"));
        let host = &mut self.hosts[peer];
        host.node.up = false;
        host.node.due = None;
        host.node.inbox.clear();
        (host.link.at_peer, host.link.joining) = (None, false);
        if let Some(worker) = host.worker() {
            worker.processes.clear();
            worker.thaw.clear();
            self.ledger.note_host_gone(peer);
        }
        self.ledger.time = now;
        if seen && let Some(conn) = self.hosts[peer].link.at_master {
            let soon = self.delay();
            self.after(soon, Happening::Input { who: None, input: Input::PeerEnds { peer, conn } });
        }
        self.look_at_ways(peer);
    }

    /// A worker that has left is gone once its last words have been said.
    pub(super) fn retire(&mut self, peer: usize) {
        self.ledger.note_host_gone(peer);
        self.go_down(peer);
    }

    /// A process ends in order.
    pub(super) fn go_down(&mut self, peer: usize) {
        let host = &mut self.hosts[peer];
        host.node.up = false;
        host.node.due = None;
        host.node.inbox.clear();
        (host.link.at_peer, host.link.joining) = (None, false);
        if let Some(conn) = self.hosts[peer].link.at_master {
            let late = self.knobs.delay * 2 + Duration::from_millis(10);
            self.after(late, Happening::Input { who: None, input: Input::PeerEnds { peer, conn } });
        }
        self.look_at_ways(peer);
    }

    /// A worker was idle, and its master lets it go: others are started while there is something to do.
    pub(super) fn note_let_go(&mut self, peer: usize) {
        let Some(worker) = self.hosts[peer].worker().filter(|worker| !worker.is_let_go) else { return };
        worker.is_let_go = true;
        self.ledger.note_leaves(peer);
        let pause = self.chance.time(Duration::from_millis(10), Duration::from_millis(2_000));
        self.replace(peer, Some(pause));
    }

    /// A worker's allocation is over, and it leaves by itself; another comes.
    pub(super) fn end_worker(&mut self, peer: usize) {
        self.ledger.note_leaves(peer);
        let pause = self.chance.time(Duration::from_millis(10), Duration::from_secs(5));
        self.replace(peer, Some(pause));
    }

    fn replace(&mut self, peer: usize, again_after: Option<Duration>) {
        if let Some(pause) = again_after {
            let program = self.hosts[peer].program;
            let slots = self.chance.between(1, u64::from(self.knobs.slots)) as u32;
            self.after(pause, Happening::StartWorker { program, slots });
        }
    }

    fn kill_master(&mut self, down_for: Duration) {
        if !self.master.node.up {
            return;
        }
        self.master.node.up = false;
        self.master.node.due = None;
        self.master.machine = None;
        self.master.peers.clear();
        self.hosts.iter_mut().for_each(|host| host.link.at_master = None);
        self.ledger.note_master_gone();
        if let Some(endings) = &mut self.endings {
            endings.forget_master();
        }
        self.look_at_all_ways();
        self.after(down_for, Happening::StartMaster);
    }

    fn pause(&mut self, who: Option<u64>, lasts: Duration, freezes: bool) {
        let who = match who {
            None => None,
            Some(pick) => match self.choose(pick, |host| !host.is_rogue()) {
                Some(peer) => Some(peer),
                None => return,
            },
        };
        let since = self.now;
        let node = who.map_or(&mut self.master.node, |peer| &mut self.hosts[peer].node);
        if !node.runs() {
            return;
        }
        node.paused = Some(since);
        self.ledger.note_stuck(who);
        self.say(|| format!("-- {who:?} stops"));
        let is_dazed = self.knobs.faults.dazes && !freezes;
        if let Some(peer) = who
            && let Some(worker) = self.hosts[peer].worker()
        {
            worker.freezes = freezes;
            self.hosts[peer].node.is_dazed = is_dazed;
        }
        self.look_at_all_ways();
        self.after(lasts, Happening::Resume { who, since });
    }

    pub(super) fn resume(&mut self, who: Option<usize>, since: Time) {
        let node = who.map_or(&mut self.master.node, |peer| &mut self.hosts[peer].node);
        if !node.up || node.paused != Some(since) {
            return;
        }
        (node.paused, node.is_dazed) = (None, false);
        let inbox = std::mem::take(&mut node.inbox);
        self.say(|| format!("-- {who:?} goes on"));
        if let Some(worker) = who.and_then(|peer| self.hosts[peer].worker()) {
            for (offset, happening) in std::mem::take(&mut worker.thaw) {
                self.after(offset, happening);
            }
        }
        // As a loop does that finds much to read: all of it, then what follows from it.
        for input in inbox {
            self.handle(who, input);
        }
        self.settle(who);
        self.look_at_all_ways();
    }

    /// All trouble ends: whoever is left must get all work done.
    fn heal(&mut self) {
        self.healed = true;
        self.heal_disks();
        for peer in 0..self.hosts.len() {
            let host = &mut self.hosts[peer];
            (host.link.to_master.cuts, host.link.to_peer.cuts) = (0, 0);
            let is_bad = matches!(&host.role, Role::Worker(worker) if worker.bad.is_some());
            if host.node.up && (is_bad || host.is_rogue()) {
                self.kill_host(peer, true);
            }
        }
        if !self.master.node.up {
            self.start_master();
        }
        let mut paused: Vec<Option<usize>> = (0..self.hosts.len()).map(Some).collect();
        paused.push(None);
        for who in paused {
            let node = who.map_or(&self.master.node, |peer| &self.hosts[peer].node);
            if let Some(since) = node.paused {
                self.resume(who, since);
            }
        }
        self.heal_ends();
        for number in 0..self.knobs.programs {
            self.start_worker(program(number), self.knobs.slots, None);
        }
        self.look_at_all_ways();
    }

    fn speak(&mut self, peer: usize, index: usize) {
        if !self.hosts[peer].node.up {
            return;
        }
        let message = if self.hosts[peer].is_worker() { self.worker_lies() } else { self.client_lies() };
        self.say(|| format!("rogue host {peer} says {message:?}"));
        if self.chance.permille(30)
            && let Some(conn) = self.hosts[peer].link.at_peer
        {
            // It comes again, and claims to be somebody else, or itself.
            self.hosts[peer].session.known = Some(self.number());
            self.input(Some(peer), Input::MasterEnds { conn });
        } else {
            self.send(peer, true, message);
        }
        let pause = Duration::from_millis(self.chance.spread(1, 1_000));
        self.after(pause, Happening::Act(index));
    }

    /// A number near the real ones.
    fn number(&mut self) -> u32 {
        self.chance.below(u64::from(self.master.first_id) + 2) as u32
    }

    fn worker_lies(&mut self) -> Word {
        let (client, task) = (ClientId(self.number()), TaskId(self.chance.below(60)));
        let attempt = Attempt(self.chance.below(4) as u32);
        let class = self.chance.pick(&[Class::Ok, Class::Failed, Class::Crashed, Class::Lost]);
        let why =
            self.chance.pick(&[Returned::Recalled, Returned::Suspect, Returned::Leaving, Returned::Killed]);
        let doing = self.chance.pick(&[Doing::Waiting, Doing::Running, Doing::Done]);
        let (number, ask) =
            (self.chance.below(3) as u32, self.chance.pick(&[Ask::Save, Ask::Load, Ask::Folder]));
        let message = match self.chance.below(17) {
            14 | 15 => FromWorker::Asks { client, task, attempt, number, ask },
            16 => FromWorker::AsksNothing { client, task, attempt },
            0..3 => {
                FromWorker::Finished { client, task, attempt, class, micros: self.chance.next(), output: 0 }
            }
            3 => FromWorker::Returned { client, task, attempt, why },
            4 => FromWorker::Recalled,
            5 => FromWorker::Waiting { client, task, attempt },
            6 => FromWorker::Held { client, held: self.chance.coin() },
            7 => FromWorker::Progress { client, task, attempt, thousandths: 77 },
            8 => FromWorker::Started { client, task, attempt },
            9 | 10 => FromWorker::Have { client, task, attempt, doing },
            11 => FromWorker::Unfit { program: program(self.chance.below(3) as u32), why: "a lie".into() },
            12 => FromWorker::Remark { client, what: "a lie".into() },
            _ => FromWorker::Accounted { client: self.chance.coin().then_some(client) },
        };
        let body = if matches!(message, FromWorker::Finished { .. } | FromWorker::Asks { .. }) {
            Payload::from_static(b"a lie")
        } else {
            Payload::new()
        };
        Word::FromWorker(message, body)
    }

    fn client_lies(&mut self) -> Word {
        let (task, spec) = (TaskId(self.chance.below(60)), SpecIndex(self.chance.below(3) as u32));
        let what = Box::new(Spec {
            job: JobIndex(0),
            retries: 1_000,
            crash_limit: u32::MAX,
            timeout: Some(Duration::ZERO),
            priority: i32::MAX,
            loss_limit: 0,
            speculate: true,
            rerun: self.chance.coin(),
            shares: Vec::new(),
            apart: false,
        });
        let (worker, attempt) = (WorkerId(self.number()), Attempt(self.chance.below(4) as u32));
        let tasks = if self.chance.coin() { 1 } else { self.chance.next() as u32 };
        let (number, answer) = (self.chance.below(3) as u32, Answer::Done);
        let message = match self.chance.below(15) {
            14 => FromClient::Answers { task, attempt, number, answer },
            12 => FromClient::Claim { task, spec },
            13 => FromClient::Keep { seconds: self.chance.below(60) as u32 },
            0..3 => FromClient::Declare { spec, what },
            3..5 => FromClient::Submit { task, spec },
            5 | 6 => FromClient::Received { first: task, tasks, attempt, worker },
            7 => FromClient::Cancel { task },
            8 => FromClient::Watch { on: self.chance.coin() },
            9 => FromClient::Resubmit { task, spec },
            10 => FromClient::Resubmitted { tasks: self.chance.below(3) },
            _ => FromClient::Leave,
        };
        Word::FromClient(message, Payload::new())
    }
}
