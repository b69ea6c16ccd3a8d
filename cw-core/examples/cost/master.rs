//! A master with workers that do at once what it wants, and clients that want more as soon as they have something.

use std::{collections::VecDeque, time::Duration};

use cw_core::{
    Payload, Time,
    ids::{Attempt, ClientId, ProgramId, SpecIndex, TaskId, WorkerId},
    master::{Action, Config, Event, Master},
    wire::{Class, FromClient, FromWorker, Programs, Session, ToClient, ToWorker, Token},
};

use super::{Options, WINDOW, args, counted, ends, spec};

/// What the cluster needs for a task, so that as many beats come with so many tasks as in a real one.
const PACE: Duration = Duration::from_micros(2);

struct Cluster {
    options: Options,
    now: Time,
    master: Master,
    clients: Vec<Client>,
    /// What workers have to say, and of how many tasks. They do at once what they are told, so it lies in the order of that.
    inbox: VecDeque<(Event, usize)>,
    /// What clients have been told since they last spoke.
    ended: Vec<(usize, Ended)>,
    done: usize,
}

struct Client {
    id: ClientId,
    next: u64,
}

/// A task that its client knows to have ended.
#[derive(Clone, Copy)]
struct Ended {
    task: TaskId,
    attempt: Attempt,
    worker: WorkerId,
}

/// Gives the number of tasks that were done.
pub(super) fn run(options: Options) -> usize {
    let mut cluster = Cluster::new(options);
    cluster.fill();
    while cluster.done < options.tasks {
        cluster.take_words();
        cluster.take_more();
    }
    cluster.done
}

impl Cluster {
    fn new(options: Options) -> Self {
        let clients = options.clients.unwrap_or(options.open.div_ceil(WINDOW.tasks as usize));
        let mut config = Config::default();
        config.window.tasks = config.window.tasks.max(options.open.div_ceil(clients) as u32);
        let mut cluster = Self {
            options,
            now: Time::ZERO,
            master: Master::new(config),
            clients: Vec::new(),
            inbox: VecDeque::new(),
            ended: Vec::new(),
            done: 0,
        };
        (0..options.workers).for_each(|_| cluster.add_worker());
        (0..clients).for_each(|_| cluster.add_client());
        cluster
    }

    fn admit(&mut self, is_worker: bool) -> u32 {
        self.master.admit(self.now, is_worker, &Session { token: Token::default(), known: None }).id
    }

    fn add_worker(&mut self) {
        let id = WorkerId(self.admit(true));
        self.hear(Event::WorkerJoined {
            worker: id,
            program: ProgramId::default(),
            programs: Programs::Own,
            program_name: "cost".to_owned(),
            name: format!("node:{}", id.0),
            slots: 1,
            returned: false,
        });
    }

    fn add_client(&mut self) {
        let client = ClientId(self.admit(false));
        self.clients.push(Client { id: client, next: 0 });
        self.hear(Event::ClientJoined { client, program: ProgramId::default(), returned: false });
        let message = FromClient::Declare { spec: SpecIndex(0), what: Box::new(spec()) };
        self.hear(Event::ClientSaid { client, message, body: Payload::new() });
    }

    /// All tasks that are to be open are handed in, by all clients at the same pace.
    fn fill(&mut self) {
        let Options { open, words, .. } = self.options;
        for from in (0..open).step_by(words) {
            self.submit(from / words % self.clients.len(), words.min(open - from));
            self.act();
        }
    }

    fn hear(&mut self, event: Event) {
        let (master, now) = (&mut self.master, self.now);
        counted(|| master.handle(now, event));
    }

    /// A client hands in so many tasks.
    fn submit(&mut self, client: usize, tasks: usize) {
        let Client { id: client, next } = self.clients[client];
        let mut first = TaskId(next);
        for tasks in self.options.parts(tasks) {
            let spec = SpecIndex(0);
            let message = if tasks == 1 {
                FromClient::Submit { task: first, spec }
            } else {
                FromClient::Submits { first, tasks: tasks as u32, spec }
            };
            self.hear(Event::ClientSaid { client, message, body: args(tasks) });
            first.0 += tasks as u64;
        }
        let place = self.place_of(client);
        self.clients[place].next = first.0;
    }

    /// A wake-up that brings words of workers.
    fn take_words(&mut self) {
        assert!(!self.inbox.is_empty(), "the master keeps all tasks to itself");
        let mut heard = 0;
        while heard < self.options.words
            && let Some((event, tasks)) = self.inbox.pop_front()
        {
            self.now = self.now + PACE * tasks as u32;
            heard += tasks;
            self.hear(event);
        }
        self.act();
    }

    /// A wake-up that brings what clients say to what they were told: acknowledgements, and the next tasks.
    fn take_more(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        ended.sort_by_key(|(client, _)| *client);
        self.done += ended.len();
        for of_client in ended.chunk_by(|(of, _), (client, _)| of == client) {
            of_client.chunk_by(|(_, a), (_, b)| a.is_before(b)).for_each(|run| self.acknowledge(run));
            self.submit(of_client[0].0, of_client.len());
        }
        self.act();
    }

    fn acknowledge(&mut self, run: &[(usize, Ended)]) {
        let (client, Ended { task, attempt, worker }) = run[0];
        let message = FromClient::Received { first: task, tasks: run.len() as u32, attempt, worker };
        let client = self.clients[client].id;
        self.hear(Event::ClientSaid { client, message, body: Payload::new() });
    }

    /// Looks whether the master was to be woken, and does what it wants.
    fn act(&mut self) {
        if counted(|| self.master.poll_timeout()).is_some_and(|due| due <= self.now) {
            counted(|| self.master.handle_timeout(self.now));
        }
        while let Some(action) = counted(|| self.master.poll_action()) {
            match action {
                Action::TellWorker { worker, message, .. } => self.tell_worker(worker, &message),
                Action::TellClient { client, message, .. } => self.tell_client(client, &message),
                Action::Disconnect { why, .. } | Action::DisconnectWorker { why, .. } => panic!("{why}"),
                Action::Note(_) => {}
            }
        }
    }

    fn tell_worker(&mut self, worker: WorkerId, message: &ToWorker) {
        match *message {
            ToWorker::Run { client, task, attempt, .. } => self.finish(worker, client, attempt, (task, 1)),
            ToWorker::Runs { client, first, tasks, attempt, .. } => {
                let mut task = first;
                for tasks in self.options.parts(tasks as usize) {
                    self.finish(worker, client, attempt, (task, tasks));
                    task.0 += tasks as u64;
                }
            }
            // It has nothing left that it could hand back.
            ToWorker::Recall { .. } | ToWorker::MakeWay { .. } => {
                let (message, body) = (FromWorker::Recalled, Payload::new());
                self.inbox.push_back((Event::WorkerSaid { worker, message, body }, 1));
            }
            ToWorker::Beat { .. } => self.inbox.push_back((Event::WorkerHeard { worker }, 1)),
            _ => {}
        }
    }

    /// A worker is about to say that it has done so many consecutive tasks.
    fn finish(
        &mut self,
        worker: WorkerId,
        client: ClientId,
        attempt: Attempt,
        (first, tasks): (TaskId, usize),
    ) {
        let micros = self.options.micros;
        let (message, body) = if tasks == 1 {
            let (task, class, output) = (first, Class::Ok, 0);
            let message = FromWorker::Finished { client, task, attempt, class, micros, output };
            (message, Payload::from_static(&[7]))
        } else {
            let message = FromWorker::Finishes { client, first, tasks: tasks as u32, attempt };
            (message, ends(tasks, micros))
        };
        self.inbox.push_back((Event::WorkerSaid { worker, message, body }, tasks));
    }

    fn tell_client(&mut self, client: ClientId, message: &ToClient) {
        let place = self.place_of(client);
        let ended = |task, attempt, worker| (place, Ended { task, attempt, worker });
        match *message {
            ToClient::Finished { task, attempt, worker: Some(worker), .. } => {
                self.ended.push(ended(task, attempt, worker));
            }
            ToClient::Finishes { first, tasks, attempt, worker, .. } => {
                let tasks = (first.0..).take(tasks as usize).map(TaskId);
                self.ended.extend(tasks.map(|task| ended(task, attempt, worker)));
            }
            _ => {}
        }
    }

    fn place_of(&self, client: ClientId) -> usize {
        self.clients.binary_search_by_key(&client, |it| it.id).expect("it has joined")
    }
}

impl Ended {
    /// Whether one word can acknowledge this one and that, which comes next.
    fn is_before(&self, next: &Self) -> bool {
        (self.worker, self.attempt, self.task.0 + 1) == (next.worker, next.attempt, next.task.0)
    }
}
