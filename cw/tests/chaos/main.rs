//! A run through which processes of all three roles are killed, stopped and cut off at random, and nothing is lost.
//!
//! A client, a master and eight workers, each of them behind a proxy that drops, delays and repeats datagrams; and clients
//! of other builds, one after the other, whose executables workers have to fetch. Faults go on
//! until twenty processes were killed; with `CW_CHAOS_SECONDS`, for so long. `CW_CHAOS_SEED` draws the same faults again,
//! though not at the same moments. In the end each task must have been reported, once in each life of the client, and
//! with the right result.

// Not all of what the other tests share is of use here.
#[allow(dead_code, unused_imports)]
#[path = "../it/support/mod.rs"]
mod support;

mod house;
mod proxy;

use std::{
    collections::BTreeMap,
    env, fs,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use house::House;
use proxy::Weather;

const WORKERS: usize = 8;

/// Without another word the faults end with this many kills, at least two of them of the master and two of the client.
const KILLS: usize = 20;

/// What was done.
#[derive(Debug, Default)]
struct Tally {
    workers: usize,
    masters: usize,
    clients: usize,
    executors: usize,
    stops: usize,
    cuts: usize,
    visits: usize,
}

impl Tally {
    fn kills(&self) -> usize {
        self.workers + self.masters + self.clients
    }

    fn is_enough(&self) -> bool {
        self.kills() >= KILLS && self.masters >= 2 && self.clients >= 2
    }
}

/// What ends a fault.
enum Cure {
    StartMaster,
    StartWorker(usize),
    StartClient,
    Continue(Who),
    Join(usize),
}

#[derive(Clone, Copy)]
enum Who {
    Master,
    Worker(usize),
    Client,
}

#[test]
fn nothing_is_lost_whatever_dies() {
    assert!(house::is_built(), "build the programs of these tests: `cargo build --examples`");
    let seed = number("CW_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("CW_CHAOS_SEED={seed}");
    fastrand::seed(seed);
    let percent = |most: u8| if fastrand::bool() { fastrand::u8(1..=most) } else { 0 };
    let weather = Weather { dropped: percent(3), repeated: percent(3), delayed: percent(20) };
    println!("{weather:?}");
    let mut house = House::start(WORKERS, weather);
    let start = Instant::now();
    let tally = wreak(&mut house);
    house.heal();
    let faulty = start.elapsed();
    fs::write(house.dir().join("stop"), "").expect("the folder is there");
    let client = house.finish();
    house.see_off(true);
    assert!(client.status.success(), "{client:?}");
    let (total, runs) = check(&house);
    println!(
        "{tally:?}: {total} tasks, {runs} runs, faults for {:.0} s, all over after {:.0} s",
        faulty.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
}

/// Does harm until it is enough.
fn wreak(house: &mut House) -> Tally {
    let until = number("CW_CHAOS_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut tally = Tally::default();
    let mut cures: Vec<(Instant, Cure)> = Vec::new();
    loop {
        let is_over = match until {
            Some(until) => Instant::now() >= until,
            None => tally.is_enough(),
        };
        if is_over {
            return tally;
        }
        cures.extend(harm(house, &mut tally));
        // The pace of the faults is what is tested, and not a wait for anything.
        thread::sleep(Duration::from_millis(fastrand::u64(50..500)));
        let now = Instant::now();
        for (_, cure) in cures.extract_if(.., |(due, _)| *due <= now) {
            apply(house, cure);
        }
        house.assert_alive();
        house.see_off(false);
    }
}

fn apply(house: &mut House, cure: Cure) {
    match cure {
        Cure::StartMaster if house.master.is_down() => house.start_master(),
        Cure::StartWorker(worker) if house.workers[worker].is_down() => house.start_worker(worker),
        Cure::StartClient if house.client.is_down() => house.start_client(),
        Cure::Continue(Who::Master) => house.master.go_on(),
        Cure::Continue(Who::Worker(worker)) => house.workers[worker].go_on(),
        Cure::Continue(Who::Client) => house.client.go_on(),
        Cure::Join(worker) => {
            house.cuts[worker].to_master.store(false, Ordering::Relaxed);
            house.cuts[worker].to_worker.store(false, Ordering::Relaxed);
        }
        _ => {}
    }
}

/// One fault, and what is to end it, when.
fn harm(house: &mut House, tally: &mut Tally) -> Option<(Instant, Cure)> {
    let worker = fastrand::usize(..WORKERS);
    let after = |millis: u64| Instant::now() + Duration::from_millis(fastrand::u64(0..millis));
    match fastrand::u8(..100) {
        0..35 if house.workers[worker].is_up() => {
            house.workers[worker].kill();
            tally.workers += 1;
            Some((after(1_000), Cure::StartWorker(worker)))
        }
        35..43 if house.master.is_up() => {
            house.master.kill();
            tally.masters += 1;
            Some((after(1_500), Cure::StartMaster))
        }
        43..51 if house.client.is_up() => {
            house.client.kill();
            tally.clients += 1;
            Some((after(1_000), Cure::StartClient))
        }
        51..66 if house.workers[worker].is_up() => {
            house.workers[worker].stop();
            tally.stops += 1;
            Some((after(4_000), Cure::Continue(Who::Worker(worker))))
        }
        66..71 if house.master.is_up() => {
            house.master.stop();
            tally.stops += 1;
            Some((after(1_000), Cure::Continue(Who::Master)))
        }
        71..75 if house.client.is_up() => {
            house.client.stop();
            tally.stops += 1;
            Some((after(1_500), Cure::Continue(Who::Client)))
        }
        75..90 => {
            let way = fastrand::u8(0..3);
            house.cuts[worker].to_master.store(way != 1, Ordering::Relaxed);
            house.cuts[worker].to_worker.store(way != 2, Ordering::Relaxed);
            tally.cuts += 1;
            Some((after(3_500), Cure::Join(worker)))
        }
        90..94 => {
            tally.executors += usize::from(house.kill_executor());
            None
        }
        94.. => {
            tally.visits += usize::from(house.invite());
            None
        }
        _ => None,
    }
}

/// Compares what the client wrote down with what it must be; gives the number of tasks, and of runs.
fn check(house: &House) -> (u64, usize) {
    let read = |name: &str| fs::read_to_string(house.dir().join(name)).unwrap_or_default();
    let total: u64 = read("total").trim().parse().expect("the client leaves the number of its tasks");
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    for line in read("results").lines() {
        let (index, value) = line.split_once(' ').unwrap_or_else(|| panic!("not a result: {line}"));
        let (index, value): (u64, u64) = (index.parse().expect("a number"), value.parse().expect("a number"));
        assert_eq!(value, index.wrapping_mul(index) ^ 0x5bd1, "unexpected: the result of {index}");
        *seen.entry(index).or_default() += 1;
    }
    let lost: Vec<u64> = (0..total).filter(|index| !seen.contains_key(index)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    (total, read("runs").lines().count())
}
