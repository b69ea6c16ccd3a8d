//! Ctrl-C and its like in a client: cancel, tidy up, end with the code the shell expects.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{hub::Hub, notice::say, progress};
use crate::{checkpoints, start::step, store, worker};

/// How long the end of the client is waited for. The program must be gone within five seconds.
const CLOSE_WAIT: Duration = Duration::from_secs(4);

/// What comes within this of the first may be the same signal, by two ways, in a step of Slurm's.
const TWICE_IN_STEP: Duration = Duration::from_secs(1);

/// And elsewhere: `timeout` signals its child and then its process group. Nobody presses a key twice as fast.
const TWICE: Duration = Duration::from_millis(200);

/// The client that a signal closes: the last that was started.
static CURRENT: Mutex<Option<Arc<Hub>>> = Mutex::new(None);

/// Ends the program at a signal, once this client is closed: at the first in order, at the second at once.
///
/// A signal that was ignored when the program started stays ignored, as `nohup` and shells without job control want it.
pub(super) fn watch(hub: &Arc<Hub>) {
    let before = CURRENT.lock().expect("no holder panics").replace(Arc::clone(hub));
    if before.is_some() {
        // The thread is there already; the client before this one could not connect.
        return;
    }
    let body = move || {
        // Where they cannot be watched they do what they do in any program.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::watch() else { return };
            let number = signals.next().await;
            let at = Instant::now();
            say("interrupted: tasks are cancelled (once more: ends at once)");
            let hub = CURRENT.lock().expect("no holder panics").clone().expect("set before the thread began");
            hub.interrupt();
            progress::end_all();
            let close = tokio::task::spawn_blocking(move || {
                let until = Instant::now() + CLOSE_WAIT;
                hub.close(CLOSE_WAIT);
                store::close_all(until.saturating_duration_since(Instant::now()));
                checkpoints::close(false, until.saturating_duration_since(Instant::now()));
            });
            let twice = if step::has_parent() { TWICE_IN_STEP } else { TWICE };
            let next = async || {
                signals.next().await;
                at.elapsed()
            };
            // Both end the program.
            tokio::select! {
                _ = close => {}
                () = again(next, twice) => worker::kill_all(),
            }
            crate::executor::scratch::finish_removals();
            crate::stderr::flush();
            std::process::exit(128 + number);
        });
    };
    let _ = thread::Builder::new().name("cw-signals".to_owned()).spawn(body);
}

/// Waits for a second signal; it is told of each how long after the first it came. Slurm sends one to all processes of a
/// step, and the one that started this passes it on: that is one signal. So is what `timeout` sends.
async fn again(mut next: impl AsyncFnMut() -> Duration, twice: Duration) {
    while next().await < twice {}
}

struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        let ignored = ignored();
        let one = |kind: SignalKind| match ignored >> (kind.as_raw_value() - 1) & 1 {
            1 => Ok(None),
            _ => signal(kind).map(Some),
        };
        Ok(Self {
            interrupt: one(SignalKind::interrupt())?,
            terminate: one(SignalKind::terminate())?,
            hang_up: one(SignalKind::hangup())?,
        })
    }

    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            () = received(&mut self.interrupt) => SignalKind::interrupt().as_raw_value(),
            () = received(&mut self.terminate) => SignalKind::terminate().as_raw_value(),
            () = received(&mut self.hang_up) => SignalKind::hangup().as_raw_value(),
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The signals this process was started to ignore, a bit each, where the system tells.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    /// Whether signals that come so many milliseconds after the first have a second among them, and how many were needed.
    fn second(times: &[u64]) -> (bool, usize) {
        let mut taken = 0;
        let next = async || match times.get(taken) {
            Some(time) => {
                taken += 1;
                Duration::from_millis(*time)
            }
            None => std::future::pending().await,
        };
        let has_come = pin!(again(next, TWICE)).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        (has_come, taken)
    }

    #[test]
    fn what_comes_at_once_is_the_first_signal_and_what_comes_later_is_the_second() {
        assert_eq!(second(&[]), (false, 0));
        assert_eq!(second(&[0, 1, 199]), (false, 3), "`timeout` signals twice");
        assert_eq!(second(&[200]), (true, 1));
        assert_eq!(second(&[1, 150, 900, 901]), (true, 3));
    }
}
