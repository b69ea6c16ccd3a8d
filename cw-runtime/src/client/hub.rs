//! Between the program's threads and the client's own: calls in, in order; answers out.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use cw_core::{
    Payload, TaskMap, Time,
    client::{self, Action, Client, Common, Completion, Event},
    ids::{SpecIndex, TaskId},
    wire::{APART_WEIGHT, Class, Counts, FromClient, Session, Spec, Stretch},
};
use tokio::sync::Notify;

use super::{
    apart,
    asked::Asked,
    backlog::Backlog,
    callbacks,
    notice::Notices,
    progress::Progress,
    ready::{Answer, Came, Many},
    session,
    shown::Shown,
    sink::{Answers, Callback, Sink, StreamQueue},
    together::{Calls, Together},
};
use crate::store::Ticket;

/// What a program's thread wants of the client's.
pub(crate) enum Command {
    /// A new combination of job and options; it takes the next index.
    Declare(Spec),
    /// A call.
    Submit {
        task: TaskId,
        spec: SpecIndex,
        args: Payload,
        /// How many bytes they are, wherever they lie.
        bytes: u64,
        sink: Sink,
        /// Where its end is recorded before the caller has it.
        ticket: Option<Box<Ticket>>,
    },
    /// Calls of one map.
    Calls { stream: Arc<StreamQueue>, calls: Vec<StreamCall> },
    /// Calls of one map that stay together.
    Together(Calls),
    /// What there is of a call of an earlier process, whose session this is.
    Claim { task: TaskId, spec: SpecIndex, ticket: Box<Ticket> },
    /// Something that a thread of the client's own has done.
    Event(Box<Event>),
    /// The ends of these tasks are on the disk.
    Recorded(Vec<TaskId>),
    /// An answer that needs no cluster, such as a refusal.
    Answer { task: TaskId, sink: Sink, completion: Completion },
    /// The result is not wanted.
    Cancel(TaskId),
    /// No result of this map is wanted.
    CancelStream(Arc<StreamQueue>),
    /// Somebody looks at a map's progress.
    Watch(Arc<Progress>),
    /// The program ends.
    Close,
}

/// A call of a map. Many of them go to the client's thread together, as all of them share the map's queue.
pub(crate) struct StreamCall {
    pub(crate) task: TaskId,
    pub(crate) spec: SpecIndex,
    pub(crate) args: Payload,
    /// How many bytes they are, wherever they lie.
    pub(crate) bytes: u64,
    /// The map's input, and what its arguments count there.
    pub(crate) index: u64,
    pub(crate) args_bytes: u32,
}

/// The door between the program's threads and the client's.
pub(crate) struct Hub {
    /// No other hub of the process has it.
    number: u64,
    inbox: Mutex<Inbox>,
    pub(crate) wake: Notify,
    specs: Mutex<Specs>,
    /// By what a master of its cluster knows this client, once one has let it in.
    session: Mutex<Option<Session>>,
    submitted: Mutex<Submitted>,
    backlog: Backlog,
    /// Whether there is a client's thread that reads the commands.
    served: AtomicBool,
    /// Whether the tasks run on a cluster.
    is_remote: AtomicBool,
    /// Whether a signal is about to end the program.
    interrupted: AtomicBool,
    closed: (Mutex<bool>, Condvar),
}

/// All combinations of job and options.
#[derive(Default)]
struct Specs {
    indices: HashMap<Spec, SpecIndex>,
    /// In the order of those.
    all: Vec<Spec>,
}

#[derive(Default)]
struct Inbox {
    commands: Vec<Command>,
    /// Whether the client's thread is to be woken by the next command.
    asleep: bool,
}

/// Tasks of `submit` whose callbacks have not returned, and who waits for that.
#[derive(Default)]
struct Submitted {
    open: u64,
    waiting: Vec<Waker>,
}

thread_local! {
    /// What this thread called last, and the number of the hub that it called: its next call is most likely of the same.
    static LAST_SPEC: RefCell<Option<(u64, Spec, SpecIndex)>> = const { RefCell::new(None) };
}

impl Hub {
    pub(crate) fn new() -> Self {
        static HUBS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: HUBS.fetch_add(1, Ordering::Relaxed),
            inbox: Mutex::default(),
            wake: Notify::new(),
            specs: Mutex::default(),
            session: Mutex::default(),
            submitted: Mutex::default(),
            backlog: Backlog::default(),
            served: AtomicBool::new(false),
            is_remote: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            closed: (Mutex::new(false), Condvar::new()),
        }
    }

    /// A name for a new task.
    pub(crate) fn new_task(&self) -> TaskId {
        self.new_tasks(1)
    }

    /// Names for so many new tasks, one after the other; the first of them.
    pub(crate) fn new_tasks(&self, tasks: u32) -> TaskId {
        // One count for the process, so that the name of a call that was refused is no other's.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        TaskId(NEXT.fetch_add(tasks.into(), Ordering::Relaxed))
    }

    /// The index of a combination of job and options; a new one is declared.
    pub(crate) fn spec(&self, what: &Spec) -> SpecIndex {
        LAST_SPEC.with_borrow_mut(|last| match last {
            Some((hub, known, index)) if *hub == self.number && known == what => *index,
            _ => {
                let index = self.look_up(what);
                *last = Some((self.number, what.clone(), index));
                index
            }
        })
    }

    fn look_up(&self, what: &Spec) -> SpecIndex {
        let mut specs = self.specs.lock().expect("no holder panics");
        if let Some(index) = specs.indices.get(what) {
            return *index;
        }
        let index = SpecIndex(u32::try_from(specs.all.len()).expect("a program has far fewer specs"));
        specs.all.push(what.clone());
        specs.indices.insert(what.clone(), index);
        // Under the lock, so that declarations arrive in the order of their indices.
        self.push([Command::Declare(what.clone())]);
        index
    }

    /// A call as a command. On a cluster, arguments that are too big to be sent about are kept apart.
    pub(crate) fn call(
        &self,
        task: TaskId,
        spec: SpecIndex,
        args: Payload,
        sink: Sink,
        ticket: Option<Box<Ticket>>,
    ) -> Command {
        let bytes = args.len() as u64;
        let (spec, args) = self.part(spec, args);
        Command::Submit { task, spec, args, bytes, sink, ticket }
    }

    /// What is sent for a call.
    pub(crate) fn part(&self, spec: SpecIndex, args: Payload) -> (SpecIndex, Payload) {
        if !self.lies_apart(args.len()) {
            return (spec, args);
        }
        let args = Payload::shared(apart::keep(args.into()));
        (self.spec(&Spec { apart: true, ..self.spec_at(spec) }), args)
    }

    /// The same arguments, which can be had by the cluster as long as there is this: another process handed them in.
    pub(crate) fn offer(&self, args: Payload) -> Payload {
        if self.lies_apart(args.len()) { Payload::shared(apart::offered(args.into())) } else { args }
    }

    /// What arguments of so many bytes count against the cluster's window.
    pub(crate) fn weight(&self, bytes: usize) -> usize {
        if self.lies_apart(bytes) { bytes / APART_WEIGHT } else { bytes }
    }

    fn lies_apart(&self, bytes: usize) -> bool {
        bytes > apart::ABOVE_BYTES && self.is_remote.load(Ordering::Relaxed)
    }

    fn spec_at(&self, index: SpecIndex) -> Spec {
        self.specs.lock().expect("no holder panics").all[index.0 as usize].clone()
    }

    /// All combinations of job and options, in the order of their indices.
    pub(crate) fn specs(&self) -> Vec<Spec> {
        self.specs.lock().expect("no holder panics").all.clone()
    }

    pub(crate) fn note_session(&self, session: Session) {
        *self.session.lock().expect("no holder panics") = Some(session);
    }

    /// By what the cluster's masters know this client; none where there is no cluster.
    pub(crate) fn session(&self) -> Option<Session> {
        *self.session.lock().expect("no holder panics")
    }

    /// Hands commands over, waking the client's thread if it sleeps. They are made before: no iterator may call the hub.
    pub(crate) fn push(&self, commands: impl IntoIterator<Item = Command>) {
        let (mut tasks, mut bytes) = (0, 0);
        let count = |command: &Command| match command {
            Command::Submit { bytes: more, .. } => (tasks, bytes) = (tasks + 1, bytes + more),
            Command::Calls { calls, .. } => {
                let more = calls.iter().map(|call| call.bytes).sum::<u64>();
                (tasks, bytes) = (tasks + calls.len(), bytes + more);
            }
            Command::Together(calls) => {
                (tasks, bytes) = (tasks + calls.args.tasks() as usize, bytes + calls.bytes);
            }
            _ => {}
        };
        let mut inbox = self.inbox.lock().expect("no holder panics");
        inbox.commands.extend(commands.into_iter().inspect(count));
        if tasks > 0 {
            self.backlog.add(tasks, bytes);
        }
        let wake = std::mem::take(&mut inbox.asleep);
        drop(inbox);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Takes all commands into `into`, which is empty. The next push wakes, whether or not there were any: a
    /// wake-up while the client's thread is at work costs no system call, and is not lost.
    fn take(&self, into: &mut Vec<Command>) {
        let mut inbox = self.inbox.lock().expect("no holder panics");
        std::mem::swap(&mut inbox.commands, into);
        inbox.asleep = true;
    }

    /// The oldest command that nobody has taken.
    #[cfg(test)]
    pub(crate) fn take_one(&self) -> Option<Command> {
        let mut inbox = self.inbox.lock().expect("no holder panics");
        (!inbox.commands.is_empty()).then(|| inbox.commands.remove(0))
    }

    pub(crate) fn submitted(&self) {
        self.submitted.lock().expect("no holder panics").open += 1;
    }

    /// A callback has returned.
    pub(super) fn called_back(&self) {
        let mut submitted = self.submitted.lock().expect("no holder panics");
        submitted.open -= 1;
        if submitted.open == 0 {
            submitted.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether no callback is outstanding; else has `waker` called when none is.
    pub(crate) fn poll_all_called(&self, waker: &Waker) -> bool {
        let mut submitted = self.submitted.lock().expect("no holder panics");
        let all = submitted.open == 0;
        if !all && !submitted.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            submitted.waiting.push(waker.clone());
        }
        all
    }

    /// Whether a task submitted now would soon be sent; else has `waker` called when it would.
    pub(crate) fn poll_ready(&self, waker: &Waker) -> bool {
        self.backlog.poll_ready(waker)
    }

    /// So much was submitted to a store, which has not passed it on.
    pub(crate) fn store_takes(&self, (tasks, bytes): (usize, u64)) {
        self.backlog.add(tasks, bytes);
    }

    /// The store has passed so much on, or answered it.
    pub(crate) fn store_passed(&self, calls: (usize, u64)) {
        self.backlog.correct(calls, (0, 0));
    }

    /// Notes that the tasks run on a cluster. Comes before the first call.
    pub(crate) fn note_remote(&self) {
        self.is_remote.store(true, Ordering::Relaxed);
    }

    /// Notes that a signal is about to end the program.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    /// Whether it is, so that nobody need say what else goes wrong.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Says that there is, or is about to be, a client's thread.
    pub(crate) fn note_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Says that the client's thread is done.
    pub(crate) fn note_closed(&self) {
        *self.closed.0.lock().expect("no holder panics") = true;
        self.closed.1.notify_all();
    }

    /// Ends the client's thread: its tasks are dropped, its connection closed. Waits for that, at most so long.
    pub(crate) fn close(&self, at_most: std::time::Duration) {
        if !self.served.load(Ordering::Relaxed) {
            return;
        }
        self.push([Command::Close]);
        let closed = self.closed.0.lock().expect("no holder panics");
        drop(self.closed.1.wait_timeout_while(closed, at_most, |closed| !*closed));
    }
}

/// The client's end of the hub: the machine, the sinks, the thread for callbacks.
pub(crate) struct Desk {
    hub: Arc<Hub>,
    pub(crate) machine: Client,
    pub(super) sinks: TaskMap<Sink>,
    pub(super) together: Together,
    pub(super) tickets: TaskMap<Box<Ticket>>,
    pub(super) asked: Asked,
    commands: Vec<Command>,
    answers: Answers,
    callbacks: Option<callbacks::Sender>,
    notices: Notices,
    shown: Shown,
    pub(super) watching: Vec<Weak<Progress>>,
    /// What the master said last of where the tasks are.
    pub(super) counts: Option<Counts>,
    /// What waited in the machine when it was last looked at.
    waited: (usize, u64),
    pub(crate) closing: bool,
}

impl Desk {
    pub(crate) fn new(hub: Arc<Hub>, config: client::Config) -> Self {
        hub.note_served();
        Self {
            hub,
            machine: Client::new(config),
            sinks: TaskMap::default(),
            together: Together::default(),
            tickets: TaskMap::default(),
            asked: Asked::new(),
            commands: Vec::new(),
            answers: Answers::default(),
            callbacks: None,
            notices: Notices::default(),
            shown: Shown::new(session::shows()),
            watching: Vec::new(),
            counts: None,
            waited: (0, 0),
            closing: false,
        }
    }

    /// One that is not the process's only client: how that ends is not its business.
    pub(crate) fn beside_another(mut self) -> Self {
        self.notices = Notices::beside_another();
        self
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Passes the program's commands to the machine.
    pub(crate) fn take_commands(&mut self, now: Time) {
        let mut commands = std::mem::take(&mut self.commands);
        self.hub.take(&mut commands);
        for command in commands.drain(..) {
            self.on_command(now, command);
        }
        self.commands = commands;
    }

    fn on_command(&mut self, now: Time, command: Command) {
        match command {
            Command::Declare(what) => self.machine.handle(now, Event::Declare { what }),
            Command::Submit { task, spec, args, bytes, sink, ticket } => {
                self.waited = (self.waited.0 + 1, self.waited.1 + bytes);
                self.sinks.insert(task, sink);
                let durable = ticket.is_some();
                if let Some(ticket) = ticket {
                    self.tickets.insert(task, ticket);
                }
                self.machine.handle(now, Event::Submit { task, spec, durable, args });
            }
            Command::Calls { stream, calls } => {
                for StreamCall { task, spec, args, bytes, index, args_bytes } in calls {
                    self.waited = (self.waited.0 + 1, self.waited.1 + bytes);
                    self.sinks.insert(task, Sink::Stream(Arc::clone(&stream), index, args_bytes));
                    self.machine.handle(now, Event::Submit { task, spec, durable: false, args });
                }
            }
            Command::Together(calls) => {
                self.waited.0 += calls.args.tasks() as usize;
                self.waited.1 += calls.bytes;
                let (spec, args) = (calls.spec, calls.args.clone());
                self.together.insert(calls);
                self.machine.handle(now, Event::Submits { spec, args });
            }
            Command::Claim { task, spec, ticket } => {
                self.tickets.insert(task, ticket);
                self.machine.handle(now, Event::Claim { task, spec });
            }
            Command::Recorded(tasks) => {
                tasks.into_iter().for_each(|task| self.machine.handle(now, Event::Recorded { task }));
            }
            Command::Event(event) => self.machine.handle(now, *event),
            Command::Answer { task, sink, completion } => self.answer(task, sink, completion),
            Command::Cancel(task) => self.machine.handle(now, Event::Cancel { task }),
            Command::CancelStream(stream) => self.cancel_stream(now, &stream),
            Command::Watch(progress) => self.watch(now, &progress),
            Command::Close => self.closing = true,
        }
    }

    /// Tells whoever waits for room how much is left of what was submitted.
    fn tell_backlog(&mut self) {
        let waits = self.machine.waiting();
        if waits != self.waited {
            self.hub.backlog.correct(self.waited, waits);
            self.waited = waits;
        }
        self.notices.backlog(waits);
    }

    fn cancel_stream(&mut self, now: Time, stream: &Arc<StreamQueue>) {
        let of_stream = |sink: &Sink| matches!(sink, Sink::Stream(known, ..) if Arc::ptr_eq(known, stream));
        for task in self.sinks.sorted_keys(of_stream) {
            self.sinks.remove(task);
            self.machine.handle(now, Event::Cancel { task });
        }
        self.together.remove(stream).for_each(|task| self.machine.handle(now, Event::Cancel { task }));
    }

    /// Carries out what the machine wants, passing messages for the master to `tell`.
    pub(crate) fn drain(&mut self, now: Time, mut tell: impl FnMut(FromClient, Payload)) -> bool {
        let mut any = false;
        while let Some(action) = self.machine.poll_action() {
            any = true;
            match action {
                Action::Tell { message, body } => tell(message, body),
                Action::Complete { task, completion } => self.complete(task, completion),
                Action::Completes { of, ends, args_bytes } => self.complete_many(of, &ends, args_bytes),
                Action::Record { task, completion } => self.record(task, completion),
                Action::Output { task, from, body } => self.shown.add(task, from, &body),
                Action::Ask { task, attempt, number, ask, body } => {
                    self.ask((task, attempt, number), ask, body)
                }
                Action::Remark { worker, what } => self.notices.remark(&worker, &what),
                Action::Stalled(why) => self.notices.stalled(&why),
                Action::Moving => self.notices.moving(),
                Action::SetAside { worker, why } => self.notices.set_aside(&worker, &why),
                Action::TooLong { job, p90_seconds, longest_seconds } => {
                    self.notices.too_long(job, p90_seconds, longest_seconds);
                }
                Action::Counts(counts) => self.show_counts(now, counts),
                Action::Progress { task, thousandths } => self.show_part(task, thousandths),
            }
        }
        self.shown.write();
        self.tell_backlog();
        any
    }

    fn complete(&mut self, task: TaskId, completion: Completion) {
        self.shown.end(task, completion.class, &completion.output);
        self.end_asked(task, completion.class);
        if !self.tickets.is_empty() {
            self.end_ticket(task, &completion);
        }
        // Without a sink nobody wants it: its map was dropped.
        if let Some(sink) = self.sinks.remove(task).or_else(|| self.together.end_one(task)) {
            self.answer(task, sink, completion);
        }
    }

    /// Calls that were handed in together have ended together.
    fn complete_many(&mut self, of: Common, ends: &Stretch, args_bytes: u64) {
        self.shown.end_many(ends.first().0..ends.end().0);
        if let Some((stream, index)) = self.together.end_many(ends.first(), ends.tasks()) {
            self.answers.add(stream, Came::Many(Many::new(index, args_bytes, of, ends)));
        }
    }

    /// A task ended without a record, which its store has to know of what another process or nobody goes on with.
    fn end_ticket(&mut self, task: TaskId, completion: &Completion) {
        let ticket = self.tickets.remove(task);
        let is_over = |ticket: &Ticket| ticket.is_claim() || completion.class == Class::Cancelled;
        if let Some(ticket) = ticket.filter(|ticket| is_over(ticket)) {
            ticket.record(task, completion.clone());
        }
    }

    fn record(&mut self, task: TaskId, completion: Completion) {
        self.tickets.remove(task).expect("what is durable came with a ticket").record(task, completion);
    }

    fn answer(&mut self, task: TaskId, sink: Sink, completion: Completion) {
        match sink {
            Sink::Slot(slot) => slot.put(completion),
            Sink::Stream(stream, index, args_bytes) => {
                self.answers.add(stream, Came::One(Answer { index, args_bytes, task, completion }));
            }
            Sink::Callback(callback) => self.call_back(task, completion, callback),
        }
    }

    /// Wakes the maps that got answers since the last time.
    pub(crate) fn deliver(&mut self) {
        self.answers.deliver();
    }

    fn call_back(&mut self, task: TaskId, completion: Completion, callback: Callback) {
        let hub = &self.hub;
        let sender = self.callbacks.get_or_insert_with(|| callbacks::start(Arc::clone(hub)));
        sender.send((task, completion, callback)).expect("the thread for callbacks catches every panic");
    }
}
