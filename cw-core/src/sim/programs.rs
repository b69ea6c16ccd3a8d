//! Programs that come to workers, or do not; and what their executors are started with.

use std::time::Duration;

use super::{
    checks::Ledger,
    hosts::{Host, Input, Role},
    truth::named,
    world::{Happening, World},
};
use crate::{
    Payload, client,
    ids::{ClientId, ExecutorId, ProgramId, SettingId, ShareId, TaskId, WorkerId},
    wire::{Class, FromWorker, Output, Printed, Programs},
    worker::NoShare,
};

/// Of all fetches while there is trouble, so many fail.
const BAD_PERMILLE: u64 = 300;

/// A worker is left alone for so long at least.
const UNFIT_AT_LEAST: Duration = Duration::from_secs(14);

/// What is in what a client says of itself. Those that say nothing have the first setting.
pub(super) fn setting_of(body: &Payload) -> SettingId {
    SettingId(body.first().copied().map_or(0, u64::from))
}

/// What clients of a setting want of what their tasks print.
fn wish_of(setting: SettingId) -> Output {
    if setting.0 == 0 { Output::Live } else { Output::None }
}

/// What a task prints: one in three does, and several that follow each other do not.
pub(super) fn prints(task: TaskId) -> Payload {
    if task.0 / 4 % 3 != 1 {
        return Payload::new();
    }
    let head = Payload::from(format!("of {task}"));
    Printed { total: head.len() as u64, head, tail: Payload::new() }.encode()
}

/// Where a value lies that was fetched.
fn path_of(share: ShareId) -> Payload {
    Payload::copy_from_slice(&share.0)
}

impl World {
    /// What a client has of what a task printed is that, if it wants it.
    pub(super) fn check_output(&mut self, host: usize, task: TaskId, it: &client::Completion) {
        let client = self.hosts[host].client().expect("it has just said so");
        let wanted = if wish_of(client.setting) == Output::None { Payload::new() } else { prints(task) };
        let is_right = it.class != Class::Ok || it.output == wanted || self.ledger.is_lied_to(host);
        self.ledger
            .rule(is_right, "what a task printed comes with its result", || format!("{task} of host {host}"));
    }

    pub(super) fn draw_programs(&mut self) -> Programs {
        match self.knobs.open_permille {
            0 => Programs::Own,
            permille if self.chance.permille(permille) => {
                self.chance.pick(&[Programs::Any, Programs::Shared])
            }
            _ => Programs::Own,
        }
    }

    pub(super) fn draw_setting(&mut self) -> SettingId {
        SettingId(self.chance.below(self.knobs.settings))
    }

    pub(super) fn client_config(&self, setting: SettingId) -> client::Config {
        let body = Payload::copy_from_slice(&[u8::try_from(setting.0).expect("few settings")]);
        let output = wish_of(setting);
        let introduction = Some(client::Introduction { setting, output, body });
        client::Config { introduction, ..self.knobs.client.clone() }
    }

    pub(super) fn programs_of(&self, peer: usize) -> Programs {
        match &self.hosts[peer].role {
            Role::Worker(worker) => worker.programs,
            _ => Programs::Own,
        }
    }

    pub(super) fn fetch(&mut self, host: usize, program: ProgramId) {
        let is_trouble = self.knobs.faults.bad_fetch && self.now.since_start() < self.knobs.trouble_for;
        let fails = is_trouble && self.chance.permille(BAD_PERMILLE);
        let takes = self.chance.time(Duration::from_millis(1), Duration::from_secs(3));
        let result = if fails { Err("it is out of reach".to_owned()) } else { Ok(()) };
        self.say(|| format!("worker host {host} fetches {program}"));
        self.after(takes, Happening::Input { who: Some(host), input: Input::Fetched { program, result } });
    }

    pub(super) fn fetch_share(&mut self, host: usize, share: ShareId) {
        let is_trouble = self.knobs.faults.bad_fetch && self.now.since_start() < self.knobs.trouble_for;
        let fails = is_trouble && self.chance.permille(BAD_PERMILLE);
        let takes = self.chance.time(Duration::from_millis(1), Duration::from_secs(3));
        let why = "it is out of reach".to_owned();
        let no_share = match self.chance.below(4) {
            0 => NoShare::There(why),
            1 => NoShare::Here(why),
            2 => NoShare::TooBig(why),
            _ => NoShare::Away(why),
        };
        let result = if fails { Err(no_share) } else { Ok(path_of(share)) };
        self.after(takes, Happening::Input { who: Some(host), input: Input::Shared { share, result } });
    }

    /// A worker forgets what it had fetched.
    pub(super) fn drop_share(&mut self, host: usize, share: ShareId) {
        self.say(|| format!("worker host {host} forgets {share}"));
        let worker = self.hosts[host].worker().expect("only workers keep shares");
        let living = worker.processes.values().filter(|process| !process.dying);
        let tasks: Vec<Payload> =
            living.flat_map(|process| &process.queue).map(|(.., args)| args.clone()).collect();
        let needs = |args: &Payload| {
            let truth = named(args).and_then(|(owner, task)| self.ledger.truth(owner, task));
            *args == path_of(share) || truth.is_some_and(|truth| truth.spec.shares.contains(&share))
        };
        let is_used = tasks.iter().any(needs);
        self.ledger.rule(!is_used, "what a task needs stays until it has ended", || {
            format!("{share} on host {host}")
        });
    }

    pub(super) fn tell_share(&mut self, host: usize, executor: ExecutorId, share: ShareId) {
        let worker = self.hosts[host].worker().expect("only workers feed");
        if let Some(process) = worker.processes.get_mut(&executor) {
            process.told.insert(share);
        }
    }

    /// The master hears that a worker cannot run a program.
    pub(super) fn note_unfit(&mut self, worker: WorkerId, message: &FromWorker) {
        let is_honest = self.ledger.owner(worker.0).is_some_and(|peer| !self.hosts[peer].is_rogue());
        let machine = self.master.machine.as_ref();
        if let FromWorker::Unfit { program, .. } = message
            && is_honest
            && machine.is_some_and(|machine| machine.has_clients_of(*program))
        {
            self.unfit.insert((worker, *program), self.now);
        }
    }

    /// Until the last client of the program is gone, such a worker is not sent its tasks again at once.
    pub(super) fn check_unfit(&mut self, worker: WorkerId, client: ClientId) {
        let Some(owner) = self.ledger.owner(client.0) else { return };
        let program = self.hosts[owner].program;
        let since = self.unfit.get(&(worker, program)).copied();
        // The master's clock may run at twice the speed.
        let is_soon = since.is_some_and(|since| self.now < since + UNFIT_AT_LEAST);
        self.ledger.rule(!is_soon, "what cannot run a program is not asked to at once", || {
            format!("{program} at {worker}")
        });
    }

    pub(super) fn drop_program(&mut self, host: usize, program: ProgramId) {
        let Some(worker) = self.hosts[host].worker() else { return };
        worker.fetched.remove(&program);
        let is_used = worker.processes.values().any(|process| process.program == program && !process.dying);
        self.ledger.rule(!is_used, "what runs is not dropped", || format!("{program} on host {host}"));
    }
}

impl Ledger {
    /// A task runs in an executor of its own program, started as its client said.
    pub(super) fn check_program(
        &mut self,
        hosts: &[Host],
        at: (usize, ExecutorId),
        owner: usize,
        (task, shares): (TaskId, &[ShareId]),
    ) {
        let (host, executor) = at;
        let (Role::Worker(worker), Role::Client(client)) = (&hosts[host].role, &hosts[owner].role) else {
            return;
        };
        let Some(process) = worker.processes.get(&executor) else { return };
        self.rule(process.program == hosts[owner].program, "a task runs on its own program", || {
            format!("{task} of host {owner} on host {host}")
        });
        let is_told = shares.iter().all(|share| process.told.contains(share));
        self.rule(is_told, "what a task shares is there", || {
            format!("{task} of host {owner} on host {host}")
        });
        // What a liar said first in somebody's name is what a worker knows of it.
        let is_right = process.setting == client.setting || self.is_lied_to(owner);
        self.rule(is_right, "a task runs where its client wants it to", || {
            format!("{task} of host {owner} on host {host}, {} and not {}", process.setting, client.setting)
        });
    }
}
