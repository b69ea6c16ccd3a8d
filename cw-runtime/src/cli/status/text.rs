//! What is known of a cluster, for people.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cw_core::{
    ids::WorkerId,
    wire::{ClientStanding, Standing, WorkerStanding, WorkerState},
};
use indicatif::HumanCount;

use super::{
    table::{Side, Table},
    view::{Found, Gone, View},
};
use crate::{
    access::notes::Note,
    launch::{
        End, Launched, State, What,
        fleet::{Fleet, How, MasterAt},
        keeper::STARTING,
    },
};

/// So many workers have a line each; of more, those that are not well have, and all others one together.
const WORKERS_MAX: usize = 40;

/// So many nodes, ends and notes are named.
const NAMED_MAX: usize = 8;

/// So many of the last lines of what ended badly.
const LAST_MAX: usize = 3;

pub(super) fn of(view: &View) -> String {
    let mut out = String::new();
    match &view.master {
        Ok(found) => master(&mut out, view, found),
        Err(gone) => no_master(&mut out, view, gone),
    }
    fleet(&mut out, view);
    notes(&mut out, &view.notes);
    out
}

fn master(out: &mut String, view: &View, Found { address, standing }: &Found) {
    let Standing { epoch, version, name, seconds, workers: all, clients: programs, outlook } = standing;
    let up = time(*seconds);
    line(out, format_args!("cluster `{}`: the master answers at {address}", view.cluster));
    line(out, format_args!("  {name}, up for {up}, epoch {epoch}, cw {version}"));
    line(out, "");
    workers(out, all);
    let is_said =
        |why: &String| programs.iter().filter_map(|it| it.stall.as_ref()).any(|stall| stall.contains(why));
    // Workers may have come since the keeper looked.
    let is_past = |why: &String| why == STARTING && !all.is_empty();
    if let Some(outlook) = outlook.as_ref().filter(|why| !is_said(why) && !is_past(why)) {
        line(out, format_args!("  {}", brief(outlook, view)));
    }
    line(out, "");
    clients(out, programs, view);
}

/// Of workers that ended badly the last is named, with its last words. Where all of them are listed, with all that, it is
/// enough that there are some.
fn brief<'a>(why: &'a str, view: &View) -> &'a str {
    let Some(Ok(jobs)) = &view.jobs else { return why };
    let is_listed = |job: &Launched| {
        matches!(&job.state, State::Ended(end) if !end.is_well)
            && why.contains(&format!("worker {}: ", job.id))
    };
    let marks = ["; the last: worker ", ": worker "];
    match marks.iter().find_map(|mark| why.find(mark)) {
        Some(at) if jobs.iter().any(is_listed) => &why[..at],
        _ => why,
    }
}

fn no_master(out: &mut String, view: &View, gone: &Gone) {
    let Gone { why, has_ended, last, log, .. } = gone;
    let cluster = &view.cluster;
    match last.as_ref().map(|(pid, host)| format!("{host}:{pid}")) {
        Some(last) if *has_ended => {
            line(out, format_args!("cluster `{cluster}`: the master has ended; the last was {last}"));
        }
        Some(last) => line(out, format_args!("cluster `{cluster}`: no master answers; the last was {last}")),
        None => line(out, format_args!("cluster `{cluster}`: no master answers")),
    }
    line(out, format_args!("  {why}"));
    if !log.is_empty() {
        let path = view.folder.join("log/master.log");
        line(out, format_args!("  the end of {}:", path.display()));
        log.iter().for_each(|it| line(out, format_args!("    {it}")));
    }
}

fn workers(out: &mut String, all: &[WorkerStanding]) {
    let sum = |of: fn(&WorkerStanding) -> u32| all.iter().map(|it| u64::from(of(it))).sum::<u64>();
    let (slots, running, ahead) = (sum(|it| it.slots), sum(|it| it.running), sum(|it| it.ahead));
    if all.is_empty() {
        return line(out, "no worker");
    }
    let ahead = if ahead > 0 { format!(", {} waiting", HumanCount(ahead)) } else { String::new() };
    let (workers, slots) = (number(all.len() as u64, "worker"), number(slots, "slot"));
    line(out, format_args!("{workers}{}, {slots}: {} running{ahead}", unwell(all), HumanCount(running)));
    let is_shown = |worker: &&WorkerStanding| all.len() <= WORKERS_MAX || worker.state != WorkerState::Well;
    let mut table = Table::new(&[
        ("worker", Side::Left),
        ("slots", Side::Right),
        ("running", Side::Right),
        ("waiting", Side::Right),
        ("state", Side::Left),
        ("time left", Side::Right),
        ("program", Side::Left),
        ("address", Side::Left),
    ]);
    let mut shown: Vec<&WorkerStanding> = all.iter().filter(is_shown).take(WORKERS_MAX).collect();
    shown.sort_unstable_by_key(|worker| by_host(worker));
    for worker in &shown {
        table.row(vec![
            worker.name.clone(),
            worker.slots.to_string(),
            HumanCount(worker.running.into()).to_string(),
            HumanCount(worker.ahead.into()).to_string(),
            state(worker.state).to_owned(),
            worker.left.map(|left| time(left.into())).unwrap_or_default(),
            worker.program_name.clone(),
            worker.address.clone(),
        ]);
    }
    if !shown.is_empty() {
        table.write(out);
    }
    if shown.len() < all.len() {
        let rest = number((all.len() - shown.len()) as u64, "worker");
        let well = all.iter().filter(|it| it.state == WorkerState::Well).count();
        let all_well = if well == all.len() - shown.len() { ", all well" } else { "" };
        let and = if shown.is_empty() { "" } else { "and " };
        line(out, format_args!("  {and}{rest}{all_well} (--json names each)"));
    }
}

/// Those of a host together, and `n9` before `n10`.
fn by_host(worker: &WorkerStanding) -> (usize, &str, WorkerId) {
    let host = worker.name.split(':').next().unwrap_or_default();
    (host.len(), host, worker.worker)
}

/// How many of them are not well, if any is not: ` (2 silent, 1 away)`.
fn unwell(all: &[WorkerStanding]) -> String {
    let mut counts = BTreeMap::<&str, u64>::new();
    for worker in all.iter().filter(|it| it.state != WorkerState::Well) {
        *counts.entry(state(worker.state)).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{} {state}", HumanCount(*count))).collect();
    if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
}

pub(super) fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Well => "well",
        WorkerState::Silent => "silent",
        WorkerState::SetAside => "set aside",
        WorkerState::Leaving => "leaving",
        WorkerState::Away => "away",
    }
}

/// What a client is called; of one that is not back yet only its number is known.
fn client_name(client: &ClientStanding) -> String {
    if client.name.is_empty() { client.client.to_string() } else { client.name.clone() }
}

fn clients(out: &mut String, all: &[ClientStanding], view: &View) {
    if all.is_empty() {
        return line(out, "no client");
    }
    line(out, number(all.len() as u64, "client"));
    let mut table = Table::new(&[
        ("client", Side::Left),
        ("program", Side::Left),
        ("done", Side::Right),
        ("failed", Side::Right),
        ("running", Side::Right),
        ("queued", Side::Right),
        ("", Side::Left),
    ]);
    for client in all {
        let count = |count: u64| HumanCount(count).to_string();
        table.row(vec![
            client_name(client),
            client.program_name.clone(),
            count(client.done),
            count(client.failed),
            count(client.running),
            count(client.queued),
            if client.is_away { "away".to_owned() } else { String::new() },
        ]);
    }
    table.write(out);
    for client in all {
        if let Some(why) = &client.stall {
            line(out, format_args!("  {}: nothing moves: {}", client_name(client), brief(why, view)));
        }
    }
}

fn fleet(out: &mut String, view: &View) {
    let fleet = match &view.fleet {
        Ok(Some(fleet)) => fleet,
        Ok(None) => return,
        Err(why) => return line(out, format_args!("\nwhat was started is not known: {why}")),
    };
    line(out, format_args!("\nstarted: {}", what(fleet)));
    match &view.jobs {
        Some(Ok(jobs)) => launched(out, jobs),
        Some(Err(why)) => line(out, format_args!("  what has become of it is not known: {why}")),
        None => line(out, format_args!("  asking {} what has become of it", engine(&fleet.how))),
    }
    if let Some(others) = &view.others {
        line(out, format_args!("  and {others}"));
    }
}

/// What was asked for, in a line.
fn what(fleet: &Fleet) -> String {
    let Fleet { workers, slots, min, max, idle, .. } = fleet;
    let how = match &fleet.how {
        How::Slurm(_) => "under Slurm".to_owned(),
        How::Local(local) => format!("on {}", local.host),
        How::Ssh(ssh) => format!("by SSH on {}", number(ssh.hosts.len() as u64, "host")),
    };
    let master = match &fleet.master {
        MasterAt::There => String::new(),
        MasterAt::Here { host, pid } => format!("; the master on {host} as process {pid}"),
        MasterAt::Job { id } => format!("; the master as job {id}"),
    };
    let workers = number(u64::from(*workers), "worker");
    let idle = idle.map(|idle| format!("; idle ones end after {}", time(idle.as_secs()))).unwrap_or_default();
    let slots = number(u64::from(*slots), "slot");
    format!("{workers} of {slots} {how}, kept between {min} and {max}{idle}{master}")
}

pub(super) fn engine(how: &How) -> &'static str {
    match how {
        How::Slurm(_) => "Slurm",
        How::Local(_) => "the system",
        How::Ssh(_) => "the hosts",
    }
}

fn launched(out: &mut String, jobs: &[Launched]) {
    for job in jobs.iter().filter(|it| it.what == What::Master) {
        let state = match &job.state {
            State::Pending { why, .. } => format!("pends: {why}"),
            State::Running { on } => format!("runs on {on}"),
            State::Ended(end) => format!("has ended: {}", ended(end)),
            State::Unknown { why } => format!("is not known of: {why}"),
        };
        line(out, format_args!("  the master, {}, {state}", job.id));
    }
    let workers: Vec<&Launched> = jobs.iter().filter(|it| it.what == What::Worker).collect();
    if workers.is_empty() {
        return line(out, "  no worker of it is left");
    }
    let [mut pending, mut nodes] = [(); 2].map(|()| BTreeMap::<&str, u64>::new());
    let (mut unknown, mut well, mut badly) = (BTreeMap::<&str, Vec<&str>>::new(), 0, Vec::new());
    for job in workers {
        match &job.state {
            State::Pending { why, .. } => *pending.entry(why).or_default() += 1,
            State::Running { on } => *nodes.entry(on).or_default() += 1,
            State::Ended(end) if end.is_well => well += 1,
            State::Ended(end) => badly.push((&job.id, end)),
            State::Unknown { why } => unknown.entry(why).or_default().push(&job.id),
        }
    }
    if !nodes.is_empty() {
        line(out, format_args!("  {} running on {}", HumanCount(nodes.values().sum()), counted(&nodes)));
    }
    for (why, count) in pending {
        line(
            out,
            format_args!("  {} {}: {why}", HumanCount(count), if count == 1 { "pends" } else { "pend" }),
        );
    }
    for (why, ids) in unknown {
        line(out, format_args!("  of {} nothing is known: {why}", named(&ids)));
    }
    if well > 0 {
        line(out, format_args!("  {} ended well", HumanCount(well)));
    }
    ends(out, &badly);
}

fn ends(out: &mut String, badly: &[(&String, &End)]) {
    for (id, end) in badly.iter().take(NAMED_MAX) {
        line(out, format_args!("  {id} ended badly: {}", ended(end)));
        let last = &end.last[end.last.len().saturating_sub(LAST_MAX)..];
        last.iter().for_each(|it| line(out, format_args!("    {it}")));
    }
    if let more @ 1.. = badly.len().saturating_sub(NAMED_MAX) {
        line(out, format_args!("  and {} more", HumanCount(more as u64)));
    }
}

fn ended(end: &End) -> String {
    match &end.on {
        Some(on) => format!("{} on {on}", end.how),
        None => end.how.clone(),
    }
}

/// Names, each with its count if that is not 1.
fn counted(names: &BTreeMap<&str, u64>) -> String {
    let one = |(name, count): (&&str, &u64)| {
        if *count == 1 { (*name).to_owned() } else { format!("{name} ({count})") }
    };
    named(&names.iter().map(one).collect::<Vec<_>>())
}

/// The first of them, and how many there are beside.
fn named(all: &[impl AsRef<str>]) -> String {
    let mut shown: Vec<String> = all.iter().take(NAMED_MAX).map(|it| it.as_ref().to_owned()).collect();
    if let more @ 1.. = all.len().saturating_sub(NAMED_MAX) {
        shown.push(format!("{} more", HumanCount(more as u64)));
    }
    shown.join(", ")
}

fn notes(out: &mut String, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    let processes = if notes.len() == 1 { "process is" } else { "processes are" };
    line(out, format_args!("\n{} {processes} not connected", notes.len()));
    // The newest say how it is now.
    for note in notes.iter().rev().take(NAMED_MAX) {
        let end = if note.has_ended { " (it has ended)" } else { "" };
        line(out, format_args!("  {}, {} ago{end}: {}", note.name, age(note.seconds), note.why));
    }
    if let more @ 1.. = notes.len().saturating_sub(NAMED_MAX) {
        line(out, format_args!("  and {more} more"));
    }
}

/// How long ago another host's clock showed this; nothing if it is ahead of ours.
fn age(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time(now.saturating_sub(Duration::from_secs(seconds)).as_secs())
}

/// `1 worker`, `2 workers`.
fn number(count: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// A time in its two greatest units.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn line(out: &mut String, text: impl Display) {
    writeln!(out, "{text}").expect("a text takes what is written to it");
}

#[cfg(test)]
mod tests;
