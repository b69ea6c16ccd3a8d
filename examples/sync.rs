//! Primes below ten million, without a word of async: every future of cw has a `wait`, every stream a `for`.
//!
//! Three ways to call: one task and its answer; many, each taken as it ends; many with callbacks.
//!
//! In one process tree, then on threads of one process, then on a cluster (three terminals):
//!
//! ```text
//! cargo run --release --example sync
//! cargo run --release --example sync -- --threads
//!
//! target/release/examples/sync --role master
//! target/release/examples/sync --role worker
//! target/release/examples/sync --cluster default
//! ```
//!
//! prints, each time,
//!
//! ```text
//! 25 primes below 100
//! 664579 primes below 10000000
//! 58980 of them, p, have p + 2 prime too
//! ```

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

const BELOW: u64 = 10_000_000;
const CHUNK: u64 = 250_000;

/// Pairs of primes that differ by two. A callback runs on a thread of cw's, so what it adds to outlives `main`.
static TWINS: AtomicU64 = AtomicU64::new(0);

/// How many primes there are in a range.
#[cw::job]
fn count_primes(range: Range<u64>) -> usize {
    sieve(range).filter(|is_prime| *is_prime).count()
}

/// How many primes p of a range have p + 2 prime too.
#[cw::job]
fn count_twins(range: Range<u64>) -> u64 {
    let prime: Vec<bool> = sieve(range.start..range.end + 2).collect();
    prime.windows(3).filter(|three| three[0] && three[2]).count() as u64
}

#[cw::main]
fn main() -> cw::Result<()> {
    let few = cw::spawn(count_primes, 0..100).wait()?;
    println!("{few} primes below 100");

    let mut primes = 0;
    for (_index, count) in cw::map(count_primes, chunks()).unordered() {
        primes += count?;
    }
    println!("{primes} primes below {BELOW}");

    for range in chunks() {
        cw::submit(count_twins, range, |task, result| match result {
            Ok(count) => drop(TWINS.fetch_add(count, Ordering::Relaxed)),
            Err(error) => eprintln!("{task}: {error}"),
        });
    }
    cw::wait_all().wait();
    let twins = TWINS.load(Ordering::Relaxed);
    println!("{twins} of them, p, have p + 2 prime too");

    // OEIS A006880 and A007508: these are known.
    match (few, primes, twins) {
        (25, 664_579, 58_980) => Ok(()),
        _ => Err(cw::Error::other("the true numbers are 25, 664579 and 58980")),
    }
}

/// The numbers below `BELOW`, in ranges that are some milliseconds of work.
fn chunks() -> impl Iterator<Item = Range<u64>> + Send {
    (0..BELOW).step_by(CHUNK as usize).map(|start| start..start + CHUNK)
}

/// For each number of a range, whether it is prime: what no smaller number divides.
fn sieve(range: Range<u64>) -> impl Iterator<Item = bool> {
    let mut prime: Vec<bool> = range.clone().map(|n| n >= 2).collect();
    for divisor in 2..=range.end.isqrt() {
        let first = range.start.next_multiple_of(divisor).max(divisor * divisor);
        for multiple in (first..range.end).step_by(divisor as usize) {
            prime[(multiple - range.start) as usize] = false;
        }
    }
    prime.into_iter()
}
