//! What a task costs a machine alone, in instructions, which valgrind counts: `.ci/cost` does that, and prints a table.
//!
//! `cost master --workers 100 --open 10000 --tasks 50000` runs so many tasks that do nothing through a master with so many
//! workers of one slot each and, at any time, so many tasks that have not ended, of as many clients as it takes to have them
//! within their windows. `cost client` and `cost worker` do the same with those machines, which have one of each.
//!
//! `--words 64` is how many tasks a wake-up brings word of: a pass of placement comes once for each wake-up. What is said of
//! consecutive tasks is said in one burst, as it is of short ones; with `--alone` peers speak of each by itself, as they do of
//! long ones. `--clients 1` has the window of each widened, so that so few can have all tasks; `--micros 1` is what a task
//! takes.

#[path = "cost/client.rs"]
mod client;
#[path = "cost/master.rs"]
mod master;
#[path = "cost/worker.rs"]
mod worker;

use std::process::exit;

use bytes::BytesMut;
use cw_core::{
    Payload,
    ids::JobIndex,
    wire::{Spec, Window, put_done},
};

/// What is to be driven.
#[derive(Clone, Copy)]
struct Options {
    workers: usize,
    clients: Option<usize>,
    open: usize,
    tasks: usize,
    words: usize,
    micros: u64,
    /// Whether peers speak of each task by itself.
    alone: bool,
}

impl Options {
    /// Of how many tasks a peer says something at once, if it could of so many.
    fn parts(&self, tasks: usize) -> impl Iterator<Item = usize> + use<> {
        let most = if self.alone { 1 } else { self.words };
        (0..tasks).step_by(most).map(move |said| most.min(tasks - said))
    }
}

/// What a master gives a client by itself.
const WINDOW: Window = Window { tasks: 16_384, bytes: 64 << 20 };

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = read_options(&words).and_then(|(machine, options)| match machine {
        "master" => Ok(master::run(options)),
        "client" => Ok(client::run(options)),
        "worker" => Ok(worker::run(options)),
        other => Err(format!("no machine {other}, but master, client and worker")),
    });
    match done {
        Ok(done) => println!("{done}"),
        Err(why) => {
            eprintln!("{why}");
            exit(2);
        }
    }
}

fn read_options(words: &[String]) -> Result<(&str, Options), String> {
    let (machine, flags) = words.split_first().ok_or("which machine?")?;
    let mut options =
        Options { workers: 1, clients: None, open: 1_000, tasks: 10_000, words: 64, micros: 1, alone: false };
    let mut flags = flags.iter();
    while let Some(name) = flags.next() {
        if name == "--alone" {
            options.alone = true;
            continue;
        }
        let value = flags.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number: usize = value.parse().map_err(|why| format!("{name} {value}: {why}"))?;
        let number = number.max(1);
        match name.as_str() {
            "--workers" => options.workers = number,
            "--clients" => options.clients = Some(number),
            "--open" => options.open = number,
            "--tasks" => options.tasks = number,
            "--words" => options.words = number,
            "--micros" => options.micros = number as u64,
            _ => return Err(format!("unknown: {name}")),
        }
    }
    Ok((machine, options))
}

/// A job that is called without any options.
fn spec() -> Spec {
    Spec {
        job: JobIndex(0),
        retries: 0,
        crash_limit: 3,
        timeout: None,
        priority: 0,
        loss_limit: 3,
        speculate: true,
        rerun: true,
        shares: Vec::new(),
        apart: false,
    }
}

/// The body of a message, or a burst, that brings the arguments of so many tasks.
fn args(tasks: usize) -> Payload {
    if tasks == 1 { Payload::from_static(&[7]) } else { [1, 7].repeat(tasks).into() }
}

/// The body of a burst that brings the results of so many tasks.
fn ends(tasks: usize, micros: u64) -> Payload {
    let mut body = BytesMut::new();
    (0..tasks).for_each(|_| put_done(micros, &[7], &mut body));
    body.freeze().into()
}

/// A call whose instructions count. A function of its own, so that valgrind can tell it from what drives the machines:
/// `--toggle-collect='*counted*'`.
#[inline(never)]
fn counted<T>(call: impl FnOnce() -> T) -> T {
    call()
}
