//! Rank 0: keeps a master, a worker and the program, and ends all of them once the program has ended.

use std::{
    env, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    signal::unix::{SignalKind, signal},
};

use super::{
    Step,
    parent::PARENT,
    place::{Place, TOUCH_EVERY},
};
use crate::{
    access::lock::FolderLock,
    client::notice::say,
    exit::{self, Trouble},
    flag::flag,
    program,
    start::{flags::ClusterFlags, slots},
};

/// How long its processes may take to end.
const END_WAIT: Duration = Duration::from_secs(5);

/// So often a master that has ended is replaced.
const RESTARTS_MAX: u32 = 5;

impl Step {
    pub(super) fn lead(&self, place: &Place, flags: &ClusterFlags) -> Result<u8, Trouble> {
        let lock = place.begin()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let led = runtime.block_on(async {
            let mut servants = match Servants::start(self, flags, &lock).await? {
                Ok(servants) => servants,
                Err(code) => return Ok(code),
            };
            let code = servants.see_through(self.start_client()?).await;
            servants.worker.dismiss();
            place.wait_for_late_ranks().await;
            servants.end().await;
            code
        });
        place.end(lock);
        led
    }

    fn master(&self, flags: &ClusterFlags) -> Command {
        let mut command = self.serving("master", flags);
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        for (name, value) in [
            ("suspect-after", millis(flags.suspect_after)),
            ("lost-after", millis(flags.lost_after)),
            ("client-grace", millis(flags.client_grace)),
        ] {
            command.arg(flag(name)).arg(value);
        }
        match &flags.interface {
            Some(interface) => command.arg(flag("interface")).arg(interface),
            // The usual port is for a master that people start.
            None => command.arg(flag("listen")).arg("0.0.0.0:0"),
        };
        command.stdout(Stdio::piped());
        command
    }

    fn worker(&self, flags: &ClusterFlags) -> Command {
        let mut command = self.serving("worker", flags);
        command
            .arg(flag("slots"))
            .arg(slots::detect(flags.cores_per_slot).to_string())
            .arg(flag("cores-per-slot"))
            .arg(flags.cores_per_slot.to_string())
            .args([flag("idle").as_str(), "never"])
            .stdout(Stdio::null());
        command
    }

    /// A command that ends when its standard input does.
    fn serving(&self, role: &str, flags: &ClusterFlags) -> Command {
        let mut command = this_program();
        command.args([flag("role").as_str(), role, &flag("cluster"), &self.cluster]);
        command.arg(flag("cache-size")).arg(format!("{}k", flags.cache_size.div_ceil(1 << 10)));
        command.stdin(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// The program itself, with its own words.
    fn start_client(&self) -> Result<Child, Trouble> {
        let mut command = this_program();
        command.args(env::args_os().skip(1)).env("CW_CLUSTER", &self.cluster);
        Ok(command.kill_on_drop(true).spawn()?)
    }
}

/// This very build, under the name it was started by.
fn this_program() -> Command {
    let path = program::own_path().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let mut command = Command::new(path);
    command.arg0(env::args_os().next().unwrap_or_default()).env(PARENT, std::process::id().to_string());
    command
}

/// A process that ends when its standard input does.
struct Servant {
    child: Child,
    /// Apart, as to wait for a child is to close its input.
    input: Option<ChildStdin>,
}

impl Servant {
    fn start(mut command: Command) -> Result<Self, Trouble> {
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Tells it to end.
    fn dismiss(&mut self) {
        self.input = None;
    }
}

/// Master and worker of rank 0.
struct Servants<'a> {
    step: &'a Step,
    flags: &'a ClusterFlags,
    /// That of the folder.
    lock: &'a FolderLock,
    master: Servant,
    worker: Servant,
    /// How often another master may be started.
    restarts: u32,
}

impl<'a> Servants<'a> {
    /// Starts both; gives the master's exit code if it has ended at once, having said why.
    async fn start(
        step: &'a Step,
        flags: &'a ClusterFlags,
        lock: &'a FolderLock,
    ) -> Result<Result<Self, u8>, Trouble> {
        let mut master = Servant::start(step.master(flags))?;
        if let Some(code) = ended_at_once(&mut master).await {
            return Ok(Err(code));
        }
        let worker = Servant::start(step.worker(flags))?;
        Ok(Ok(Self { step, flags, lock, master, worker, restarts: RESTARTS_MAX }))
    }

    /// Passes signals on to the client until it has ended; gives its exit code.
    async fn see_through(&mut self, mut client: Child) -> Result<u8, Trouble> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut touch = tokio::time::interval(TOUCH_EVERY);
        let (mut has_worker, mut is_asked) = (true, false);
        loop {
            // None of them loses anything when another comes first.
            let signal = tokio::select! {
                ended = client.wait() => return Ok(code_of(ended?)),
                ended = self.master.child.wait() => {
                    self.replace_master(ended).await?;
                    continue;
                }
                ended = self.worker.child.wait(), if has_worker => {
                    has_worker = false;
                    // Slurm asks all processes to end; this one may not have been ready to hear that.
                    if is_asked {
                        continue;
                    }
                    say(&format!("the worker of rank 0 has ended ({}); the run goes on with the others", how(ended)));
                    continue;
                }
                _ = touch.tick() => {
                    self.lock.touch();
                    continue;
                }
                _ = interrupt.recv() => Signal::INT,
                _ = terminate.recv() => Signal::TERM,
                _ = hang_up.recv() => Signal::HUP,
            };
            is_asked = true;
            if let Some(pid) = client.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// Starts another master, to which all come back.
    async fn replace_master(&mut self, ended: io::Result<ExitStatus>) -> Result<(), Trouble> {
        let how = how(ended);
        let line = format!("the master of this run has ended ({how})");
        self.restarts = self.restarts.checked_sub(1).ok_or_else(|| Trouble::new(exit::SYSTEM, &*line))?;
        say(&format!("{line}; another takes its place"));
        self.master = Servant::start(self.step.master(self.flags))?;
        match ended_at_once(&mut self.master).await {
            Some(_) => Err(Trouble::new(exit::SYSTEM, line)),
            None => Ok(()),
        }
    }

    /// Ends both. What takes longer is killed with the value that stands for it.
    async fn end(mut self) {
        self.worker.dismiss();
        self.master.dismiss();
        let ends = async { (self.worker.child.wait().await, self.master.child.wait().await) };
        let _ = tokio::time::timeout(END_WAIT, ends).await;
    }
}

/// Waits until the master can be joined; gives its exit code if it has ended instead.
async fn ended_at_once(master: &mut Servant) -> Option<u8> {
    let mut said = BufReader::new(master.child.stdout.take().expect("it is piped")).lines();
    if matches!(said.next_line().await, Ok(Some(_))) {
        return None;
    }
    Some(master.child.wait().await.map_or(exit::SYSTEM, code_of))
}

fn how(ended: io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// The code a shell would show.
fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::SYSTEM)
}
