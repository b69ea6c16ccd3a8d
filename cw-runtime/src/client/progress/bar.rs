//! Progress on a terminal, or as lines.

use std::{
    borrow::Cow,
    io::IsTerminal,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Progress, text};
use crate::client::notice::say;

/// How often a bar is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The first line where there is no terminal; each later one comes after twice the time, up to the last.
const FIRST_LINE: Duration = Duration::from_secs(2);
const LINES_APART_MAX: Duration = Duration::from_secs(300);

/// Narrower than this a line has no room for a bar.
const BAR_COLUMNS: u16 = 60;

/// All bars of this process, one below the other.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Writes to stderr beside the bars, if there are any.
pub(crate) fn aside(write: impl FnOnce()) {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Shows progress until it has ended.
pub(super) fn show(progress: &Arc<Progress>) {
    let progress = Arc::clone(progress);
    let body = move || {
        if can_draw() {
            draw(&progress);
        } else {
            write_lines(&progress);
        }
        progress.note_told();
    };
    // Without the thread nothing is shown; the work goes on.
    let _ = thread::Builder::new().name("cw-progress".to_owned()).spawn(body);
}

/// Whether stderr is a terminal that can go back to the start of a line.
fn can_draw() -> bool {
    std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

fn draw(progress: &Progress) {
    let bars = BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
    let bar = bars.add(ProgressBar::new(1_000));
    let mut rate = text::Rate::new(Instant::now());
    let mut style = None;
    loop {
        let ended = progress.wait(DRAW_EVERY);
        let (now, snapshot) = (Instant::now(), progress.snapshot());
        let speed = rate.update(now, snapshot.position);
        if ended {
            bar.finish_and_clear();
            bars.remove(&bar);
            return say_last(progress, &rate, now);
        }
        let columns = columns();
        let wanted = (columns >= BAR_COLUMNS, snapshot.total.is_some());
        if style.replace(wanted) != Some(wanted) {
            bar.set_style(style_of(wanted.0 && wanted.1));
        }
        let room = usize::from(columns) - usize::from(columns.min(2));
        // A label that fills the line would hide all else.
        let label: String = progress.label.chars().take(room / 2).collect();
        let used = label.chars().count() + 1;
        let room = if wanted.0 && wanted.1 { room * 3 / 4 } else { room };
        // Texts first: each of these may draw.
        bar.set_prefix(label);
        bar.set_message(fitting(&text::parts(&snapshot, speed), room.saturating_sub(used)));
        bar.set_position(position(&snapshot));
    }
}

fn style_of(with_bar: bool) -> ProgressStyle {
    let template = if with_bar { "{prefix} [{wide_bar}] {msg}" } else { "{prefix} {msg}" };
    let style = ProgressStyle::with_template(template).expect("a template of known keys");
    style.progress_chars("=> ")
}

/// In thousandths: a terminal shows no more.
fn position(now: &super::Snapshot) -> u64 {
    match now.total {
        Some(total) if total > 0 => (now.position / total as f64 * 1_000.0).clamp(0.0, 1_000.0) as u64,
        Some(_) => 1_000,
        None => 0,
    }
}

/// As many parts as have room, at least the first.
fn fitting(parts: &[String], room: usize) -> Cow<'static, str> {
    let mut line = String::new();
    for part in parts {
        let separator = if line.is_empty() { "" } else { "  " };
        if !line.is_empty() && line.len() + separator.len() + part.len() > room {
            break;
        }
        line.push_str(separator);
        line.push_str(part);
    }
    line.into()
}

/// The width of the terminal on stderr; 80 where it does not say.
fn columns() -> u16 {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(80)
}

fn write_lines(progress: &Progress) {
    let mut rate = text::Rate::new(Instant::now());
    let mut pause = FIRST_LINE;
    while !progress.wait(pause) {
        let snapshot = progress.snapshot();
        let speed = rate.update(Instant::now(), snapshot.position);
        say(&format!("{}: {}", progress.label, text::parts(&snapshot, speed).join(", ")));
        pause = (pause * 2).min(LINES_APART_MAX);
    }
    say_last(progress, &rate, Instant::now());
}

fn say_last(progress: &Progress, rate: &text::Rate, now: Instant) {
    let snapshot = progress.snapshot();
    let (speed, elapsed) = rate.overall(now, snapshot.done);
    say(&format!("{}: {}", progress.label, text::last(&snapshot, speed, elapsed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_line_keeps_what_matters() {
        let parts = ["1/2", "1 failed", "3/s", "4 s left"].map(str::to_owned);
        assert_eq!(fitting(&parts, 100), "1/2  1 failed  3/s  4 s left");
        assert_eq!(fitting(&parts, 14), "1/2  1 failed");
        assert_eq!(fitting(&parts, 1), "1/2");
    }
}
