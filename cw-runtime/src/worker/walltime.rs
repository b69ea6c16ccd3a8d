//! How long a worker lives, as its allocation ends: by a flag, or as Slurm says.
//!
//! Slurm is asked once, and again when the end nears, since limits move: at a tenth of the time before it, and just before
//! the worker would begin to leave. Where there is none it is asked each hour. It is asked by a thread, for nobody to wait for its answer: the worker joins meanwhile.
//! Whatever it says that makes no sense is no end, and no answer. As long as none comes, what is known stays.

use std::{
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cw_core::wire::Seconds;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    launch::command::{self, LIMIT},
    program,
};

/// Slurm is asked again so long before the end: a tenth of what was left, within these bounds.
const NEAR: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// And for the last time so long before: a little before the worker begins to leave.
const LAST: Duration = Duration::from_secs(20);

/// A Slurm that does not answer is asked again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// And about a job without a limit, which may get one.
const EACH: Duration = Duration::from_secs(3_600);

/// A job without a limit has 365 days, as Slurm says where its partition has none either: that is no end.
const NO_LIMIT: Duration = Duration::from_secs(364 * 86_400);

/// No end is further away: a longer time is nonsense.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Who comes too late has this, and leaves.
const LEAST: Duration = Duration::from_secs(1);

/// What brings the news of a worker's end: in so much time, or not at all.
pub(crate) type News = UnboundedReceiver<Option<Duration>>;

/// Finds out when this worker ends: after so long, if the user says so, else when its Slurm job does.
pub(crate) fn watch(by_flag: Option<Duration>) -> News {
    let (tell, news) = unbounded_channel();
    if let Some(left) = by_flag {
        // The other end is at hand.
        let _ = tell.send(Some(left));
    } else if let Some(job) = program::launched().filter(|job| is_job(job)) {
        thread::spawn(move || ask_on(&job, &tell));
    }
    news
}

/// Whether Slurm names a job so, or a task of an array.
fn is_job(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.split_once('_') {
        Some((array, task)) => is_number(array) && is_number(task),
        None => is_number(name),
    }
}

/// Asks Slurm until the end is near.
fn ask_on(job: &str, tell: &UnboundedSender<Option<Duration>>) {
    let mut asked = Asked::default();
    loop {
        let Step { news, pause } = asked.take(job, ask(job).map_err(|why| why.to_string()));
        let is_heard = news.is_none_or(|news| tell.send(news).is_ok());
        let Some(pause) = pause.filter(|_| is_heard) else { return };
        thread::sleep(pause);
    }
}

/// What Slurm has said so far.
#[derive(Debug, Default)]
struct Asked {
    known: Option<Duration>,
    /// How often in a row nothing came that makes sense.
    failures: u32,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// What the worker is to hear, if that is anything.
    news: Option<Option<Duration>>,
    /// When Slurm is asked again; none if it need not be.
    pause: Option<Duration>,
}

impl Asked {
    fn take(&mut self, job: &str, answer: Result<Left, String>) -> Step {
        match answer {
            Ok(Left::Never) => {
                (self.known, self.failures) = (None, 0);
                Step { news: Some(None), pause: Some(EACH) }
            }
            Ok(Left::Time(left)) => {
                (self.known, self.failures) = (Some(left), 0);
                tracing::info!("job {job} ends in {}", in_words(left));
                Step { news: Some(Some(left)), pause: next_look(left) }
            }
            Ok(Left::Nonsense(words)) => self.fail(job, &format!("squeue says `{words}`, which is no time")),
            Err(why) => self.fail(job, &why),
        }
    }

    /// What is known stays. That it may be wrong is said once.
    fn fail(&mut self, job: &str, why: &str) -> Step {
        self.failures += 1;
        if self.failures == 1 {
            let known = self.known;
            let known =
                known.map_or("no end is known".to_owned(), |it| format!("it was {} before", in_words(it)));
            tracing::warn!(
                "cannot ask what is left of job {job}, {known}; it is asked again each minute: {why}"
            );
        }
        Step { news: None, pause: Some(AGAIN) }
    }
}

fn in_words(time: Duration) -> Seconds {
    Seconds(u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
}

fn ask(job: &str) -> Result<Left, command::Failed> {
    let answer = command::run(Command::new("squeue").args(["-h", "-j", job, "-o", "%L"]), b"", LIMIT)?;
    Ok(read(&answer.stdout))
}

/// After which pause Slurm is asked again, if so much is left.
fn next_look(left: Duration) -> Option<Duration> {
    let near = (left / 10).clamp(NEAR.0, NEAR.1);
    let looks = [near, LAST].map(|before| left.checked_sub(before));
    looks.into_iter().flatten().find(|pause| *pause >= Duration::from_secs(1))
}

/// What Slurm says of the time that a job has left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Left {
    Time(Duration),
    Never,
    Nonsense(String),
}

fn read(answer: &str) -> Left {
    let word = answer.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match word {
        "UNLIMITED" | "NOT_SET" => Left::Never,
        _ => match parse(word) {
            Some(left) if left >= NO_LIMIT => Left::Never,
            Some(left) => Left::Time(left),
            None => Left::Nonsense(word.chars().take(100).collect()),
        },
    }
}

/// Reads a time as Slurm writes it: `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS`.
pub(crate) fn parse(word: &str) -> Option<Duration> {
    let (days, clock) = word.split_once('-').map_or((None, word), |(days, clock)| (Some(days), clock));
    let parts: Vec<u64> = clock.split(':').map(number).collect::<Option<_>>()?;
    let seconds = match (days, parts.as_slice()) {
        (_, [hours, minutes, seconds]) => hours * 3_600 + minutes * 60 + seconds,
        (None, [minutes, seconds]) => minutes * 60 + seconds,
        _ => return None,
    };
    let days = days.map_or(Some(0), number)?;
    let time = Duration::from_secs(days * 86_400 + seconds);
    (time <= LONGEST).then_some(time)
}

/// What is left of so long a time at a moment, which is told in seconds since the Unix epoch. By then it may have passed.
pub(crate) fn since(left: Duration, moment: &str, now: SystemTime) -> Option<Duration> {
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(moment.parse().ok()?))?;
    // A clock that was set back since then tells nothing.
    let passed = now.duration_since(moment).unwrap_or_default();
    Some(left.saturating_sub(passed).max(LEAST))
}

/// A number of few digits, so that no sum of them can overflow.
fn number(digits: &str) -> Option<u64> {
    let is_one = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(word: &str) -> Option<u64> {
        parse(word).map(|time| time.as_secs())
    }

    #[test]
    fn times_are_read_as_slurm_writes_them() {
        assert_eq!(seconds("1-02:03:04"), Some(93_784));
        assert_eq!(seconds("23:59:59"), Some(86_399));
        assert_eq!(seconds("2:03:04"), Some(7_384));
        assert_eq!(seconds("3:04"), Some(184));
        assert_eq!(seconds("0:00"), Some(0));
    }

    #[test]
    fn what_makes_no_sense_is_no_end() {
        for word in [
            "",
            "INVALID",
            "7",
            "1-7",
            "1-2:03",
            "-1:00",
            "1:-1",
            "1:2:3:4",
            "9999999999:00",
            "1 2:03",
            "１:00",
            "999999-0:0:0",
        ] {
            assert_eq!(seconds(word), None, "{word}");
            assert!(matches!(read(word), Left::Nonsense(_)), "{word}");
        }
        assert_eq!([read("UNLIMITED\n"), read(" NOT_SET ")], [Left::Never, Left::Never]);
        assert_eq!(read("\n  1:00:00 \n2:00\n"), Left::Time(Duration::from_secs(3_600)));
    }

    #[test]
    fn the_year_that_slurm_gives_to_whoever_has_no_limit_is_no_end() {
        assert_eq!([read("365-00:00:00\n"), read("364-23:59:58\n")], [Left::Never, Left::Never]);
        assert_eq!(read("300-00:00:00"), Left::Time(Duration::from_secs(300 * 86_400)));
    }

    #[test]
    fn what_has_passed_since_a_time_was_told_is_taken_from_it() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let left = |moment: &str, now: u64| {
            since(Duration::from_secs(300), moment, at(now)).map(|left| left.as_secs())
        };
        assert_eq!(left("1764569000", 1_764_569_180), Some(120));
        assert_eq!(left("1764569000", 1_764_568_000), Some(300));
        assert_eq!(left("1764569000", 1_764_570_000), Some(1));
        for odd in ["", "now", "-1", "1.5", "18446744073709551615", "99999999999999999999"] {
            assert_eq!(left(odd, 1_764_569_000), None, "{odd}");
        }
    }

    #[test]
    fn slurm_is_asked_again_when_the_end_nears() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        assert_eq!(next_look(minutes(60)), Some(minutes(54)));
        assert_eq!(next_look(minutes(6)), Some(minutes(5)));
        assert_eq!(next_look(minutes(6_000)), Some(minutes(5_990)));
        assert_eq!(next_look(minutes(1)), Some(minutes(1) - LAST));
        assert_eq!(next_look(LAST), None);
        assert_eq!(next_look(Duration::ZERO), None);
    }

    #[test]
    fn nonsense_is_asked_again_as_after_an_error() {
        let mut asked = Asked::default();
        let hour = Duration::from_secs(3_600);
        let mut take = |answer: Result<Left, &str>| asked.take("7", answer.map_err(str::to_owned));
        let again = Step { news: None, pause: Some(AGAIN) };
        assert_eq!(take(Ok(Left::Nonsense("INVALID".to_owned()))), again);
        assert_eq!(take(Err("no answer")), again);
        let found = Step { news: Some(Some(hour)), pause: next_look(hour) };
        assert_eq!(take(Ok(Left::Time(hour))), found);
        assert_eq!(take(Ok(Left::Nonsense(String::new()))), again, "what is known stays");
        assert_eq!((asked.known, asked.failures), (Some(hour), 1), "it is said once in a row");
    }

    #[test]
    fn a_job_without_a_limit_may_get_one() {
        let mut asked = Asked::default();
        let never = Step { news: Some(None), pause: Some(EACH) };
        assert_eq!(asked.take("7", Ok(Left::Never)), never);
        assert_eq!(asked.take("7", Ok(Left::Never)), never);
        let found = Step { news: Some(Some(EACH)), pause: next_look(EACH) };
        assert_eq!(asked.take("7", Ok(Left::Time(EACH))), found);
        assert_eq!(asked.take("7", Ok(Left::Never)), never);
        assert_eq!(asked.known, None, "it has none any more");
    }

    #[test]
    fn a_job_is_a_number_or_two() {
        assert!(["77", "7_0"].into_iter().all(is_job));
        assert!(["", "7;7", "7_", "_3", "7_3_1"].into_iter().all(|text| !is_job(text)));
    }

    #[test]
    fn the_flag_goes_before_slurm() {
        let mut news = watch(Some(Duration::from_secs(3)));
        assert_eq!(news.try_recv(), Ok(Some(Duration::from_secs(3))));
    }
}
