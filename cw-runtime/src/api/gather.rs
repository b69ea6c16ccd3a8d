//! Calls of a map on their way to the client's thread: short ones stay together.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cw_core::{
    Payload,
    client::Completion,
    ids::{SpecIndex, TaskId},
    wire::{BURST_BYTES_MAX, Entry, Stretch, put_args},
};

use crate::client::{
    hub::{Command, Hub, StreamCall},
    sink::{Sink, StreamQueue},
    together::Calls,
};

/// Fewer calls are not worth being kept together.
const TASKS_MIN: u32 = 8;

/// Calls wait no longer for others.
const GATHER_TIME: Duration = Duration::from_millis(1);

/// Calls of one map, in order.
pub(super) struct Gathering {
    hub: Arc<Hub>,
    stream: Arc<StreamQueue>,
    commands: Vec<Command>,
    /// Calls that go alone, after those commands.
    alone: Vec<StreamCall>,
    run: Run,
}

/// Consecutive calls that are alike, after those that go alone. They have their names when there are no more.
struct Run {
    spec: SpecIndex,
    index: u64,
    tasks: u32,
    bytes: u64,
    body: BytesMut,
}

impl Gathering {
    /// None yet. `body` is empty; its memory is used again.
    pub(super) fn new(hub: Arc<Hub>, stream: Arc<StreamQueue>, body: BytesMut) -> Self {
        let run = Run { spec: SpecIndex(0), index: 0, tasks: 0, bytes: 0, body };
        Self { hub, stream, commands: Vec::new(), alone: Vec::new(), run }
    }

    /// Something else is to come first.
    pub(super) fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// A call with short arguments.
    pub(super) fn call(&mut self, spec: SpecIndex, index: u64, args: &[u8]) {
        let run = &self.run;
        if run.tasks > 0 && (run.spec != spec || run.body.len() > BURST_BYTES_MAX) {
            self.close();
        }
        let run = &mut self.run;
        if run.tasks == 0 {
            (run.spec, run.index) = (spec, index);
        }
        put_args(args, &mut run.body);
        (run.tasks, run.bytes) = (run.tasks + 1, run.bytes + args.len() as u64);
    }

    /// A call with longer ones, which count so much for the map.
    pub(super) fn call_alone(&mut self, spec: SpecIndex, index: u64, args: Payload, args_bytes: u32) {
        self.close();
        let bytes = args.len() as u64;
        let (spec, args) = self.hub.part(spec, args);
        let task = self.hub.new_task();
        self.alone.push(StreamCall { task, spec, args, bytes, index, args_bytes });
    }

    /// A call that is answered at once.
    pub(super) fn answer(&mut self, index: u64, completion: Completion) {
        self.close();
        let (task, sink) = (self.hub.new_task(), Sink::Stream(Arc::clone(&self.stream), index, 0));
        self.commands.push(Command::Answer { task, sink, completion });
    }

    /// No more calls are alike.
    fn close(&mut self) {
        let Run { spec, index, tasks, bytes, .. } = self.run;
        if tasks == 0 {
            return;
        }
        (self.run.tasks, self.run.bytes) = (0, 0);
        let first: TaskId = self.hub.new_tasks(tasks);
        let body = self.run.body.split().freeze();
        let args = Stretch::of_args(first, tasks, body.into()).expect("it was put together just so");
        if tasks < TASKS_MIN {
            let calls = args.entries().zip(index..);
            return self.alone.extend(calls.map(|(Entry { task, bytes: args, .. }, index)| {
                let bytes = args.len() as u64;
                StreamCall { task, spec, args, bytes, index, args_bytes: bytes as u32 }
            }));
        }
        self.close_alone();
        let stream = Arc::clone(&self.stream);
        self.commands.push(Command::Together(Calls { stream, spec, index, args, bytes }));
    }

    fn close_alone(&mut self) {
        if !self.alone.is_empty() {
            let (stream, calls) = (Arc::clone(&self.stream), std::mem::take(&mut self.alone));
            self.commands.push(Command::Calls { stream, calls });
        }
    }

    /// Hands over what there is.
    pub(super) fn hand_over(&mut self) {
        self.close();
        self.close_alone();
        if !self.commands.is_empty() {
            self.hub.push(self.commands.drain(..));
        }
    }

    /// Hands all over. Gives the memory back.
    pub(super) fn finish(mut self) -> BytesMut {
        self.hand_over();
        self.run.body
    }
}

/// How fast inputs come. The clock is looked at after one, two, four and so on, at last after each 64, as it costs as much as a
/// short input does.
pub(super) struct Pace {
    since: Instant,
    inputs: u32,
    next_look: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), inputs: 0, next_look: 1 }
    }

    /// Counts an input; says whether those since the last time have taken so long that they are to wait for no more.
    pub(super) fn is_slow(&mut self) -> bool {
        self.inputs += 1;
        if self.inputs < self.next_look {
            return false;
        }
        let is_slow = self.since.elapsed() >= GATHER_TIME;
        match is_slow {
            true => *self = Self::new(),
            false => (self.inputs, self.next_look) = (0, (self.next_look * 2).min(64)),
        }
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use cw_core::wire::Failure;

    use super::*;
    use crate::api::options::refused;

    #[test]
    fn slow_inputs_are_seen_at_once_and_fast_ones_cost_few_looks() {
        let mut pace = Pace::new();
        pace.since -= GATHER_TIME;
        assert!(pace.is_slow());
        let mut looks = 0;
        for _ in 0..640 {
            pace.since = Instant::now();
            assert!(!pace.is_slow());
            looks += u32::from(pace.inputs == 0);
        }
        assert!(looks < 20, "{looks} looks");
    }

    fn drain(hub: &Hub) -> Vec<Command> {
        std::iter::from_fn(|| hub.take_one()).collect()
    }

    /// The first task of each command, its map's index, and how many tasks it has.
    fn in_short(command: &Command) -> (char, u64, u64, usize) {
        match command {
            Command::Together(it) => ('t', it.args.first().0, it.index, it.args.tasks() as usize),
            Command::Calls { calls, .. } => ('c', calls[0].task.0, calls[0].index, calls.len()),
            Command::Answer { task, sink: Sink::Stream(_, index, 0), .. } => ('a', task.0, *index, 1),
            _ => panic!("no other is made"),
        }
    }

    #[test]
    fn short_calls_go_together_and_all_in_order() {
        let (hub, stream) = (Arc::new(Hub::new()), Arc::default());
        let mut all = Gathering::new(Arc::clone(&hub), stream, BytesMut::new());
        let (one, other) = (SpecIndex(0), SpecIndex(1));
        (0..20).for_each(|index| all.call(one, index, &[7; 5]));
        (20..30).for_each(|index| all.call(other, index, b"x"));
        (30..32).for_each(|index| all.call(one, index, b""));
        all.call_alone(one, 32, vec![1; 5_000].into(), 5_000);
        (33..50).for_each(|index| all.call(one, index, &[3; 200]));
        all.answer(50, refused(&Failure::Cancelled));
        let memory = all.finish();
        assert!(memory.is_empty());
        let commands = drain(&hub);
        let short: Vec<_> = commands.iter().map(in_short).collect();
        // Other tests of this process name tasks too.
        assert!(short.is_sorted_by_key(|it| it.1), "{short:?}");
        let wanted = [('t', 0, 20), ('t', 20, 10), ('c', 30, 3), ('t', 33, 17), ('a', 50, 1)];
        assert_eq!(short.iter().map(|it| (it.0, it.2, it.3)).collect::<Vec<_>>(), wanted);
        let Command::Together(calls) = &commands[3] else { unreachable!() };
        assert_eq!((calls.bytes, calls.spec), (17 * 200, one));
        let Command::Calls { calls, .. } = &commands[2] else { unreachable!() };
        assert_eq!(
            calls.iter().map(|it| (it.bytes, it.args_bytes)).collect::<Vec<_>>(),
            [(0, 0), (0, 0), (5_000, 5_000)]
        );
    }

    #[test]
    fn what_goes_together_has_an_end() {
        let (hub, stream) = (Arc::new(Hub::new()), Arc::default());
        let mut all = Gathering::new(Arc::clone(&hub), stream, BytesMut::new());
        (0..200).for_each(|index| all.call(SpecIndex(0), index, &[1; 1_000]));
        all.finish();
        let commands = drain(&hub);
        let tasks: Vec<usize> = commands.iter().map(|command| in_short(command).3).collect();
        assert_eq!(tasks.iter().sum::<usize>(), 200);
        assert!(tasks.iter().all(|tasks| *tasks <= 34), "{tasks:?}");
    }
}
