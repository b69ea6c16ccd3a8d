//! What is to happen: the clients' tasks, and the trouble. Two generators draw it, written apart, as one alone has habits
//! that hide faults: one scatters everything at random, the other tells stories.

use std::time::Duration;

use super::{
    knobs::{Faults, Knobs},
    rng::Rng,
};
use crate::{
    ids::{JobIndex, ShareId},
    wire::Spec,
};

/// What a task does when it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Does {
    Return,
    Fail,
    /// Fails so often, then returns.
    FailTimes(u32),
    Crash,
    CrashTimes(u32),
    /// Never returns; its job has a timeout.
    Hang,
    /// Takes its node with it.
    KillNode,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskPlan {
    pub(super) does: Does,
    pub(super) runs_for: Duration,
    pub(super) result_bytes: usize,
    pub(super) args_bytes: usize,
    pub(super) spec: usize,
    pub(super) durable: bool,
    /// How often it saves where it is, after it has asked where it was.
    pub(super) saves: u32,
}

/// Something done to the world. Indices are taken modulo what there is when the time comes.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Submit {
        client: usize,
        tasks: Vec<TaskPlan>,
    },
    Cancel {
        client: usize,
        pick: u64,
    },
    Watch {
        client: usize,
    },
    Break {
        peer: u64,
    },
    Cut {
        peer: u64,
        to_master: bool,
        to_peer: bool,
        lasts: Duration,
    },
    KillWorker {
        pick: u64,
        again_after: Option<Duration>,
        seen: bool,
    },
    KillClient {
        pick: u64,
        seen: bool,
        /// When the next process of its program starts, if that has a store.
        again_after: Duration,
    },
    /// A program's disk takes nothing for a while.
    FillDisk {
        pick: u64,
        lasts: Duration,
    },
    KillMaster {
        down_for: Duration,
    },
    Pause {
        who: Option<u64>,
        lasts: Duration,
        freezes: bool,
    },
    Leave {
        pick: u64,
        again_after: Option<Duration>,
    },
    StartWorker,
    Speak {
        rogue: usize,
    },
    /// All faults end.
    Heal,
}

/// A schedule, and the specs of each client.
pub(super) struct Plan {
    pub(super) acts: Vec<(Duration, Act)>,
    pub(super) specs: Vec<Vec<Spec>>,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn draw(knobs: &Knobs, rng: &mut Rng) -> Plan {
    let specs: Vec<Vec<Spec>> = (0..knobs.clients).map(|_| draw_specs(knobs, rng)).collect();
    let mut acts = if knobs.scripted { stories(knobs, &specs, rng) } else { scatter(knobs, &specs, rng) };
    acts.push((knobs.trouble_for, Act::Heal));
    Plan { acts, specs }
}

fn draw_specs(knobs: &Knobs, rng: &mut Rng) -> Vec<Spec> {
    let habits = &knobs.habits;
    let mut specs = Vec::new();
    for job in 0..rng.between(1, 4) as u32 {
        let rerun = !(habits.once && rng.coin());
        let crash_limit = if rng.permille(200) { rng.between(1, 4) as u32 } else { 3 };
        specs.push(Spec {
            job: JobIndex(job),
            retries: if habits.retries { rng.below(4) as u32 } else { 0 },
            // What must not run twice is declared so.
            crash_limit: if rerun { crash_limit } else { 1 },
            timeout: habits.hangs.then(|| rng.time(ms(25), ms(20_000))),
            priority: if habits.priorities { rng.below(3) as i32 - 1 } else { 0 },
            loss_limit: if rng.permille(200) { rng.between(1, 4) as u32 } else { 3 },
            speculate: habits.speculate && rng.coin(),
            rerun,
            shares: if habits.shares && rng.coin() {
                vec![ShareId([rng.below(3) as u8; 32])]
            } else {
                Vec::new()
            },
            apart: habits.shares && rng.coin(),
        });
    }
    specs
}

fn draw_task(knobs: &Knobs, specs: &[Spec], rng: &mut Rng) -> TaskPlan {
    let habits = &knobs.habits;
    let drawn = rng.below(specs.len() as u64) as usize;
    // Tasks of one spec that are handed in together may go all the way together.
    let spec = if knobs.floods && drawn + 1 < specs.len() { 0 } else { drawn };
    let does = match rng.below(20) {
        0 | 1 if habits.failures => Does::FailTimes(rng.between(1, 4) as u32),
        2 if habits.failures => Does::Fail,
        3 if habits.crashes => Does::CrashTimes(rng.between(1, 3) as u32),
        4 if habits.poison => Does::Crash,
        5 if habits.hangs && specs[spec].timeout.is_some() => Does::Hang,
        6 if habits.node_killers && knobs.workers > 1 && rng.permille(300) => Does::KillNode,
        _ => Does::Return,
    };
    // Where words take longer than suspicion, workers are given up before such a task can end.
    let is_long = habits.long && !knobs.is_suspiciously_slow() && rng.permille(100);
    let longest = if is_long { ms(600_000) } else { ms(8_000) };
    let runs_for = if habits.short && rng.permille(800) {
        rng.time(ms(1) / 50, ms(30))
    } else {
        rng.time(ms(1), longest)
    };
    let runs_for = if knobs.floods && !is_long { runs_for / 1_000 } else { runs_for };
    let runs_for = if habits.tiny { runs_for / 10_000 } else { runs_for };
    let result_bytes = if habits.big_results { rng.spread(16, 2 << 20) } else { rng.below(100) } as usize;
    let args_bytes =
        if habits.big_args && rng.permille(200) { rng.spread(1_000, 100_000) } else { 0 } as usize;
    let durable = habits.durable && rng.coin();
    let saves = if habits.saves && rng.permille(400) { rng.between(1, 4) as u32 } else { 0 };
    TaskPlan { does, runs_for, result_bytes, args_bytes, spec, durable, saves }
}

/// A task that shows that a slot can be used.
pub(super) fn probe(spec: usize) -> TaskPlan {
    TaskPlan {
        does: Does::Return,
        runs_for: ms(10_000),
        result_bytes: 10,
        args_bytes: 0,
        spec,
        durable: false,
        saves: 0,
    }
}

/// Everything at any time.
fn scatter(knobs: &Knobs, specs: &[Vec<Spec>], rng: &mut Rng) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let end = u64::try_from(knobs.trouble_for.as_millis()).expect("minutes");
    let when = |rng: &mut Rng| ms(rng.below(end));
    let mut left = knobs.tasks as usize;
    while left > 0 {
        let client = rng.below(specs.len() as u64) as usize;
        let count = (rng.spread(1, 40) as usize).min(left);
        left -= count;
        let tasks = (0..count).map(|_| draw_task(knobs, &specs[client], rng)).collect();
        let at = if rng.coin() { ms(rng.below(2_000)) } else { when(rng) };
        acts.push((at, Act::Submit { client, tasks }));
    }
    if knobs.habits.cancels {
        for _ in 0..rng.between(1, 8) {
            let client = rng.below(specs.len() as u64) as usize;
            acts.push((when(rng), Act::Cancel { client, pick: rng.next() }));
        }
    }
    if knobs.habits.watch {
        acts.push((when(rng), Act::Watch { client: 0 }));
    }
    for kind in 0..10 {
        for _ in 0..rng.between(1, 5) {
            if let Some(act) = trouble(knobs, kind, rng) {
                acts.push((when(rng), act));
            }
        }
    }
    acts
}

/// One fault of a kind, if the seed has that kind.
fn trouble(knobs: &Knobs, kind: u32, rng: &mut Rng) -> Option<Act> {
    let faults = &knobs.faults;
    let again = |rng: &mut Rng| rng.permille(800).then(|| rng.time(ms(10), ms(30_000)));
    match kind {
        0 if faults.breaks => Some(Act::Break { peer: rng.next() }),
        1 if faults.cuts => {
            let one_way = faults.one_way && rng.coin();
            let to_master = !one_way || rng.coin();
            let lasts = rng.time(ms(50), ms(40_000));
            Some(Act::Cut { peer: rng.next(), to_master, to_peer: !one_way || !to_master, lasts })
        }
        2 if faults.kill_workers => {
            Some(Act::KillWorker { pick: rng.next(), again_after: again(rng), seen: rng.permille(300) })
        }
        3 if faults.kill_clients && rng.coin() => Some(kill_client(knobs, rng.next(), rng)),
        4 if faults.kill_masters && rng.coin() => {
            Some(Act::KillMaster { down_for: rng.time(ms(1), ms(60_000)) })
        }
        5 if faults.pauses => {
            let who = rng.permille(800).then(|| rng.next());
            Some(Act::Pause { who, lasts: rng.time(ms(100), ms(90_000)), freezes: rng.coin() })
        }
        6 if faults.leaves && rng.coin() => Some(Act::Leave { pick: rng.next(), again_after: again(rng) }),
        7 if faults.late_workers && rng.coin() => Some(Act::StartWorker),
        8 if faults.bad_disk => Some(Act::FillDisk { pick: rng.next(), lasts: rng.time(ms(10), ms(30_000)) }),
        _ => None,
    }
}

/// The next process of a program with a store may come at once, or when nobody waits for it any more.
fn kill_client(knobs: &Knobs, pick: u64, rng: &mut Rng) -> Act {
    let kept = knobs.client.keep_for.unwrap_or_default().max(knobs.master.client_grace);
    let again_after =
        if rng.permille(700) { rng.time(ms(1), ms(3_000)) } else { rng.time(ms(1_000), kept * 2) };
    Act::KillClient { pick, seen: rng.coin(), again_after }
}

/// Stories: work under way, then one thing goes wrong, and what tends to follow it does.
fn stories(knobs: &Knobs, specs: &[Vec<Spec>], rng: &mut Rng) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let chapters = rng.between(1, 4) as u32;
    let share = (knobs.tasks / chapters).max(1);
    let length = knobs.trouble_for / chapters;
    for chapter in 0..chapters {
        let begin = length * chapter + ms(rng.below(50));
        let client = rng.below(specs.len() as u64) as usize;
        let like = draw_task(knobs, &specs[client], rng);
        let tasks = (0..share).map(|n| if n % 4 == 3 { draw_task(knobs, &specs[client], rng) } else { like });
        acts.push((begin, Act::Submit { client, tasks: tasks.collect() }));
        let trouble_at = begin + rng.time(ms(1), length);
        tell(knobs, trouble_at, rng, &mut acts);
        if knobs.habits.cancels && rng.coin() {
            acts.push((begin + rng.time(ms(1), length), Act::Cancel { client, pick: rng.next() }));
        }
    }
    let Faults { breaks, cuts, pauses, .. } = knobs.faults;
    if (breaks || cuts || pauses) && rng.permille(700) && !knobs.habits.tiny {
        doubted_while_busy(knobs, specs, rng, &mut acts);
    }
    acts.retain(|(at, _)| *at < knobs.trouble_for);
    acts
}

/// Workers fall silent for a while when they have more than they run: what waits there moves, and comes back to them.
fn doubted_while_busy(knobs: &Knobs, specs: &[Vec<Spec>], rng: &mut Rng, acts: &mut Vec<(Duration, Act)>) {
    let begin = ms(rng.below(2_000));
    let client = rng.below(specs.len() as u64) as usize;
    let one = draw_task(knobs, &specs[client], rng);
    let task = |rng: &mut Rng| TaskPlan {
        does: Does::Return,
        runs_for: ms(rng.between(300, 4_000)),
        args_bytes: 0,
        ..one
    };
    let tasks = (0..knobs.workers * knobs.slots * 3).map(|_| task(rng)).collect();
    acts.push((begin, Act::Submit { client, tasks }));
    for _ in 0..knobs.workers * 3 {
        let (at, peer) = (begin + ms(rng.between(200, 12_000)), rng.next());
        let lasts = knobs.master.suspect_after * rng.between(900, 3_000) as u32 / 1_000;
        let faults = &knobs.faults;
        match rng.below(3) {
            0 if faults.breaks => acts.push((at, Act::Break { peer })),
            1 if faults.cuts => {
                acts.push((at, Act::Cut { peer, to_master: true, to_peer: rng.coin(), lasts }))
            }
            2 if faults.pauses => acts.push((at, Act::Pause { who: Some(peer), lasts, freezes: rng.coin() })),
            _ => {}
        }
    }
}

fn tell(knobs: &Knobs, at: Duration, rng: &mut Rng, acts: &mut Vec<(Duration, Act)>) {
    let faults = &knobs.faults;
    let (one, soon) = (rng.next(), rng.time(ms(1), ms(3_000)));
    match rng.below(8) {
        // A program is started again and again, and killed each time; the master may go too.
        7 if faults.kill_clients => {
            for n in 0..rng.between(1, 4) as u32 {
                acts.push((at + soon * n, kill_client(knobs, one, rng)));
            }
            if faults.kill_masters {
                acts.push((at + soon / 2, Act::KillMaster { down_for: soon / 3 }));
            }
        }
        // A flapping link.
        0 if faults.breaks => {
            for n in 0..rng.between(2, 5) as u32 {
                acts.push((at + soon * n / 2, Act::Break { peer: one }));
            }
        }
        // The same node dies again and again.
        1 if faults.kill_workers => {
            for n in 0..rng.between(1, 3) as u32 {
                let again_after = Some(soon / 2);
                acts.push((at + soon * n, Act::KillWorker { pick: one, again_after, seen: rng.coin() }));
            }
        }
        // The master goes, and while it is away somebody else does.
        2 if faults.kill_masters => {
            acts.push((at, Act::KillMaster { down_for: soon }));
            acts.extend(trouble(knobs, rng.pick(&[0, 2, 3, 5]), rng).map(|act| (at + soon / 2, act)));
            if rng.coin() {
                acts.push((at + soon + ms(rng.below(3_000)), Act::KillMaster { down_for: ms(1) }));
            }
        }
        // Everybody loses the network for nearly as long as it takes to be given up, and a little more.
        3 if faults.cuts => {
            let lasts = knobs.master.lost_after * rng.between(700, 1_300) as u32 / 1_000;
            for peer in 0..u64::from(knobs.workers + knobs.clients) {
                let to_master = !faults.one_way || peer % 2 == 0;
                acts.push((at, Act::Cut { peer, to_master, to_peer: !faults.one_way || !to_master, lasts }));
            }
        }
        // A process stops about as long as it takes to be suspected, or to be lost.
        4 if faults.pauses => {
            let base = rng.pick(&[knobs.master.suspect_after, knobs.master.lost_after]);
            let lasts = base * rng.between(800, 1_400) as u32 / 1_000;
            let who = rng.permille(700).then_some(one);
            acts.push((at, Act::Pause { who, lasts, freezes: rng.coin() }));
        }
        // A client comes and goes around the end of its grace.
        5 if faults.cuts => {
            let lasts = knobs.master.client_grace + ms(rng.below(20_000));
            acts.push((at, Act::Cut { peer: rng.below(3), to_master: true, to_peer: true, lasts }));
        }
        _ => {
            for kind in 0..8 {
                acts.extend(trouble(knobs, kind, rng).map(|act| (at + soon, act)));
            }
        }
    }
}
