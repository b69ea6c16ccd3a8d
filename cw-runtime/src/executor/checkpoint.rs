//! What a running job asks of its client: `save`, `load`, and the folder. The way there is in `cw_core`'s `wire/checkpoint.rs`.
//!
//! The thread that asks waits, and nothing else does: what was fed behind the task goes back, and its timeout or
//! cancellation ends the process as ever. A thread of `--threads` stops waiting once it is left behind.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock},
    thread,
    time::{Duration, Instant},
};

use cw_core::{
    Payload,
    ids::{Attempt, TaskId},
    wire::{Answer, Ask, STATE_BYTES_MAX},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    context::{Ctx, Running},
    scratch,
};
use crate::{
    error::{Error, Result},
    flag::flag,
    job, program,
};

/// How long a folder that the client has made may take to be seen here: file systems that are shared are looked at anew
/// after a few seconds.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked for meanwhile.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    /// Grows within an executor.
    pub(super) number: u32,
    pub(super) ask: Ask,
}

/// How an executor asks.
pub(super) trait Way: Send + Sync {
    /// Asks, and waits for the answer as long as the attempt goes on, which `is_current` says.
    ///
    /// # Errors
    /// Why there is no answer, and will not be.
    fn ask(
        &self,
        question: Question,
        body: &[u8],
        is_current: &dyn Fn() -> bool,
    ) -> Result<(Answer, Payload), String>;
}

/// What the attempts of an executor ask, one after the other.
#[derive(Default)]
pub(super) struct Questions {
    /// The number of the last, and the folder of the run that asked for one. Held by whoever asks.
    last: Mutex<(u32, Option<(u64, PathBuf)>)>,
    way: OnceLock<Box<dyn Way>>,
}

impl Questions {
    /// Notes how this executor asks.
    pub(super) fn go(&self, way: impl Way + 'static) {
        let _ = self.way.set(Box::new(way));
    }

    fn lock(&self) -> MutexGuard<'_, (u32, Option<(u64, PathBuf)>)> {
        self.last.lock().expect("no holder panics")
    }
}

impl Running {
    fn ask(&self, last: &mut u32, ask: Ask, body: &[u8]) -> Result<(Answer, Payload), String> {
        let way = self.desk.questions.way.get().ok_or("nobody here takes it to the client")?;
        *last = last.wrapping_add(1);
        let question = Question { task: self.task, attempt: self.attempt, number: *last, ask };
        way.ask(question, body, &|| self.is_current())
    }

    fn save(&self, state: &[u8]) -> Result<(), String> {
        let last = &mut self.desk.questions.lock().0;
        match self.ask(last, Ask::Save, state)? {
            (Answer::Failed, why) => Err(String::from_utf8_lossy(&why).into_owned()),
            _ => Ok(()),
        }
    }

    fn load(&self) -> Result<Option<Payload>, String> {
        let last = &mut self.desk.questions.lock().0;
        match self.ask(last, Ask::Load, &[])? {
            (Answer::Done, state) => Ok(Some(state)),
            (Answer::Nothing, _) => Ok(None),
            (Answer::Failed, why) => Err(String::from_utf8_lossy(&why).into_owned()),
        }
    }

    fn folder(&self) -> Result<PathBuf, String> {
        let (last, known) = &mut *self.desk.questions.lock();
        if let Some((turn, path)) = known
            && *turn == self.turn
        {
            return Ok(path.clone());
        }
        let path = match self.ask(last, Ask::Folder, &[])? {
            (Answer::Failed, why) => return Err(String::from_utf8_lossy(&why).into_owned()),
            (_, path) => PathBuf::from(OsString::from_vec(path.to_vec())),
        };
        wait_for(&path)?;
        *known = Some((self.turn, path.clone()));
        Ok(path)
    }
}

/// Waits until a folder is seen here that the client has made.
fn wait_for(path: &Path) -> Result<(), String> {
    let until = Instant::now() + SEEN_WITHIN;
    loop {
        let error = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => "it is no folder here".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            let (node, flag) = (program::host_name(), flag("checkpoints"));
            return Err(format!(
                "{} was made by the client and is not seen on {node} ({error}): is it on a file system that both share? \
                 `{flag} DIR` of the client names another",
                path.display()
            ));
        }
        thread::sleep(LOOK_PAUSE);
    }
}

/// The folder of a call that is no task's.
fn folder_of_nobody() -> PathBuf {
    let path = scratch::private_path("checkpoint");
    match scratch::make_folder(&path) {
        Ok(()) => path,
        Err(error) => panic!("no checkpoint folder at {}: {error}", path.display()),
    }
}

impl Ctx {
    /// A folder of this task, the same in all its attempts, on the file system that the client and the workers share: in
    /// it an attempt that runs out of its node's time, or is killed, leaves what the next goes on with. It is made when
    /// first asked for, and removed when the client has the task's result. Outside a job it is a folder of the process for
    /// temporary files.
    ///
    /// It lies with the client: in `.cw-checkpoints/` of its working directory, or where its `--checkpoints DIR`
    /// (`CW_CHECKPOINTS`) says. A client that was killed leaves it there. If the task's result goes to a [store](crate::Map::store),
    /// the program that is started again in the same place finds it.
    ///
    /// Two attempts may run at one time, so write elsewhere in it first, then rename.
    ///
    /// # Panics
    /// When the attempt has ended, the client cannot make the folder, or it is not seen on this node, which fails the
    /// attempt with the reason.
    pub fn checkpoint_dir(&self) -> PathBuf {
        let Some(running) = &self.0 else { return folder_of_nobody() };
        running.folder().unwrap_or_else(|why| panic!("no checkpoint folder for {}: {why}", running.task))
    }

    /// Keeps a state of this task with its client, for the attempt after this one: at most 1 MiB of it, encoded as results
    /// are. The latest counts. When it returns, the client has it on its disk; or has what a newer attempt of the task
    /// saved, which counts for more. Does nothing outside a job.
    ///
    /// It takes a journey to the client and back, and as long as the client is away it waits: save now and then, not in
    /// every step.
    ///
    /// ```
    /// # use cw_runtime as cw;
    /// fn simulate(seed: u64) -> u64 {
    ///     let (mut step, mut state) = cw::ctx().load().unwrap_or((0, seed));
    ///     while step < 1_000_000 {
    ///         state = state.rotate_left(5) ^ step;
    ///         step += 1;
    ///         if step % 100_000 == 0 {
    ///             cw::ctx().save(&(step, state)).expect("the client keeps it");
    ///         }
    ///     }
    ///     state
    /// }
    /// # assert_eq!(simulate(1), simulate(1));
    /// ```
    ///
    /// # Errors
    /// The state is longer, or cannot be encoded, or the client cannot write it, or the attempt has ended. What was saved
    /// before stays.
    pub fn save<T: Serialize + ?Sized>(&self, state: &T) -> Result<()> {
        let Some(running) = &self.0 else { return Ok(()) };
        let mut bytes = Vec::new();
        job::put_state(state, &mut bytes).map_err(Error::other)?;
        if bytes.len() > STATE_BYTES_MAX {
            return Err(Error::other(format!(
                "a state of {} bytes is over the limit of {STATE_BYTES_MAX} for `save`; leave it in a file in \
                 `checkpoint_dir()`",
                bytes.len()
            )));
        }
        running.save(&bytes).map_err(|why| Error::other(format!("the state is not saved: {why}")))
    }

    /// What this task saved last, in an earlier attempt or in this one; none if nothing was, and outside a job. States
    /// that another build of the program saved are not there.
    ///
    /// # Panics
    /// When what was saved is no `T`, the client cannot read it, or the attempt has ended, which fails the attempt with the
    /// reason.
    pub fn load<T: DeserializeOwned>(&self) -> Option<T> {
        let running = self.0.as_ref()?;
        let state = running.load().unwrap_or_else(|why| panic!("no state of {}: {why}", running.task))?;
        match job::whole_state(&state) {
            Ok(state) => Some(state),
            Err(error) => panic!("{}: {error}", running.task),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::AssertUnwindSafe, sync::Arc};

    use super::{super::context::Desk, *};
    use crate::executor::{context, scratch::Scratch};

    /// Answers as a client does that has one state.
    #[derive(Default)]
    struct Memory(Mutex<Vec<(u32, Ask)>>, Mutex<Option<Payload>>);

    impl Way for Arc<Memory> {
        fn ask(
            &self,
            question: Question,
            body: &[u8],
            is_current: &dyn Fn() -> bool,
        ) -> Result<(Answer, Payload), String> {
            if !is_current() {
                return Err("its attempt has ended".to_owned());
            }
            self.0.lock().unwrap().push((question.number, question.ask));
            let mut state = self.1.lock().unwrap();
            Ok(match (question.ask, &*state) {
                (Ask::Save, _) => {
                    *state = Some(Payload::copy_from_slice(body));
                    (Answer::Done, Payload::new())
                }
                (Ask::Load, Some(state)) => (Answer::Done, state.clone()),
                (Ask::Load, None) => (Answer::Nothing, Payload::new()),
                (Ask::Folder, _) => (Answer::Failed, Payload::from_static(b"the disk is full")),
            })
        }
    }

    fn desk(way: &Arc<Memory>) -> Arc<Desk> {
        let desk = Desk::new("node7:1".to_owned(), Scratch::under(PathBuf::from("/nowhere"), "t"), None);
        desk.questions.go(Arc::clone(way));
        Arc::new(desk)
    }

    #[test]
    fn outside_a_job_it_is_neutral() {
        let ctx = context::ctx();
        ctx.save(&7).unwrap();
        assert_eq!(ctx.load::<i32>(), None);
        assert!(ctx.checkpoint_dir().is_dir());
    }

    #[test]
    fn what_was_saved_last_is_loaded_and_a_later_run_asks_by_later_numbers() {
        let way = Arc::new(Memory::default());
        let desk = desk(&way);
        context::settle_thread(&desk);
        desk.begin(TaskId(7), Attempt(1));
        let first = context::ctx();
        assert_eq!(first.load::<u32>(), None);
        first.save(&300u32).unwrap();
        first.save("text").unwrap();
        desk.end(TaskId(7), Attempt(1));
        assert!(first.save(&1).unwrap_err().to_string().ends_with("its attempt has ended"));
        desk.begin(TaskId(7), Attempt(1));
        assert_eq!(context::ctx().load::<String>().as_deref(), Some("text"));
        assert!(first.save(&1).is_err(), "another run of the same name");
        let numbers: Vec<u32> = way.0.lock().unwrap().iter().map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }

    #[test]
    fn a_state_that_is_too_long_is_refused_with_both_sizes_and_one_of_another_type_is_named() {
        let desk = desk(&Arc::default());
        context::settle_thread(&desk);
        desk.begin(TaskId(1), Attempt(1));
        let ctx = context::ctx();
        let error = ctx.save(&vec![1u8; (1 << 20) + 1]).unwrap_err().to_string();
        assert!(error.starts_with("a state of 1048580 bytes is over the limit of 1048576"), "{error}");
        ctx.save(&300u32).unwrap();
        let panic = std::panic::catch_unwind(AssertUnwindSafe(|| ctx.load::<bool>())).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("task-1: the saved state of type bool"), "{text}");
        let panic = std::panic::catch_unwind(AssertUnwindSafe(|| ctx.checkpoint_dir())).unwrap_err();
        assert_eq!(
            panic.downcast_ref::<String>().unwrap(),
            "no checkpoint folder for task-1: the disk is full"
        );
    }

    #[test]
    fn a_folder_that_is_not_seen_here_says_so() {
        let parent = tempfile::tempdir().unwrap();
        assert_eq!(wait_for(parent.path()), Ok(()));
        let why = wait_for(&parent.path().join("none")).unwrap_err();
        assert!(why.contains("is not seen on") && why.contains("--checkpoints DIR"), "{why}");
    }
}
