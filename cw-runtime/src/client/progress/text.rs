//! Progress in words.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use cw_core::wire::Counts;
use indicatif::HumanCount;

use super::Snapshot;

/// How far back the rate looks.
const WINDOW: Duration = Duration::from_secs(20);

/// The rate of the last while.
pub(super) struct Rate {
    start: Instant,
    seen: VecDeque<(Instant, f64)>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, seen: VecDeque::from([(now, 0.0)]) }
    }

    /// Takes in where it is now; gives tasks per second.
    pub(super) fn update(&mut self, now: Instant, position: f64) -> f64 {
        self.seen.push_back((now, position));
        // The oldest stays just beyond the window, so that it is always covered.
        while self.seen.len() > 2 && now - self.seen[1].0 > WINDOW {
            self.seen.pop_front();
        }
        let (then, before) = self.seen[0];
        per_second(position - before, now - then)
    }

    pub(super) fn overall(&self, now: Instant, done: u64) -> (f64, Duration) {
        let elapsed = now - self.start;
        (per_second(done as f64, elapsed), elapsed)
    }
}

fn per_second(tasks: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tasks.max(0.0) / time.as_secs_f64() }
}

/// The parts of a line, the most important first.
pub(super) fn parts(now: &Snapshot, rate: f64) -> Vec<String> {
    let mut parts = vec![match now.total {
        Some(total) => format!("{}/{}{}", HumanCount(now.done), HumanCount(total), percent(now, total)),
        None => format!("{} done", HumanCount(now.done)),
    }];
    if now.failed > 0 {
        parts.push(format!("{} failed", HumanCount(now.failed)));
    }
    if rate > 0.0 {
        parts.push(in_tasks(rate));
    }
    if let Some(left) = time_left(now, rate) {
        parts.push(format!("{} left", in_time(left)));
    }
    match now.counts {
        Some(Counts { workers: 0, .. }) => parts.push("no worker".to_owned()),
        Some(Counts { running, workers, .. }) => {
            parts.push(format!("{} running", HumanCount(running.into())));
            parts.push(format!("{workers} {}", if workers == 1 { "worker" } else { "workers" }));
        }
        None => {}
    }
    parts
}

/// What is said at the end.
pub(super) fn last(now: &Snapshot, rate: f64, elapsed: Duration) -> String {
    let done = HumanCount(now.done);
    let failed = if now.failed > 0 { format!(", {} failed", HumanCount(now.failed)) } else { String::new() };
    // A rate of less than a second says nothing.
    let rate =
        if elapsed.as_secs() > 0 && now.done > 0 { format!(" ({})", in_tasks(rate)) } else { String::new() };
    let time = format!("in {}{rate}", in_time(elapsed));
    match now.total {
        Some(total) if total == now.done => format!("{done} done {time}{failed}"),
        Some(total) => format!("stopped after {done} of {} {time}{failed}", HumanCount(total)),
        None => format!("stopped after {done} {time}{failed}"),
    }
}

/// Where tasks say how far they are, the numbers of those that are done do not say it all.
fn percent(now: &Snapshot, total: u64) -> String {
    let in_parts = now.position > now.done as f64 && total > 0;
    if in_parts { format!(" ({:.0} %)", now.position / total as f64 * 100.0) } else { String::new() }
}

fn time_left(now: &Snapshot, rate: f64) -> Option<Duration> {
    let left = now.total? as f64 - now.position;
    Duration::try_from_secs_f64(left.max(0.0) / rate).ok()
}

fn in_tasks(rate: f64) -> String {
    match rate {
        rate if rate >= 10.0 => format!("{}/s", HumanCount(rate as u64)),
        rate if rate >= 0.1 => format!("{rate:.1}/s"),
        rate if rate * 60.0 >= 0.1 => format!("{:.1}/min", rate * 60.0),
        rate => format!("{:.1}/h", rate * 3_600.0),
    }
}

/// The two greatest units.
fn in_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(total: Option<u64>, done: u64, failed: u64) -> Snapshot {
        let counts = Some(Counts { running: 8, workers: 2, slots: 8 });
        Snapshot { total, done, failed, position: done as f64, counts }
    }

    #[test]
    fn a_line_says_what_matters_first() {
        let line = parts(&snapshot(Some(10_000), 1_204, 2), 312.0).join(", ");
        assert_eq!(line, "1,204/10,000, 2 failed, 312/s, 28 s left, 8 running, 2 workers");
        let line = parts(&snapshot(None, 3, 0), 0.05).join(", ");
        assert_eq!(line, "3 done, 3.0/min, 8 running, 2 workers");
        let halves = Snapshot { position: 1.5, ..snapshot(Some(4), 1, 0) };
        assert_eq!(parts(&halves, 0.0)[0], "1/4 (38 %)");
        let none = Snapshot { counts: Some(Counts::default()), ..snapshot(Some(5), 0, 0) };
        assert_eq!(parts(&none, 0.0).join(", "), "0/5, no worker");
    }

    #[test]
    fn the_last_line_tells_an_end_from_a_stop() {
        let time = Duration::from_secs(3_700);
        assert_eq!(last(&snapshot(Some(3), 3, 1), 20.5, time), "3 done in 1 h 1 min (20/s), 1 failed");
        assert_eq!(last(&snapshot(Some(9), 3, 0), 0.5, time), "stopped after 3 of 9 in 1 h 1 min (0.5/s)");
        assert_eq!(last(&snapshot(None, 3, 0), 5.0, Duration::from_millis(250)), "stopped after 3 in 250 ms");
    }

    #[test]
    fn the_rate_is_that_of_the_last_while() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 1..=60 {
            rate.update(at(second), second as f64);
        }
        for second in 61..=90 {
            rate.update(at(second), 60.0 + (second - 60) as f64 * 10.0);
        }
        assert!((rate.update(at(90), 360.0) - 10.0).abs() < 0.6);
        assert_eq!(rate.overall(at(90), 360), (4.0, Duration::from_secs(90)));
    }
}
