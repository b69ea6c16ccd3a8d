//! `cw status --watch`: goes on through restarts of the master, until it is interrupted.

use std::{
    io::{self, IsTerminal, Write},
    thread,
    time::{Duration, SystemTime},
};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    json, text,
    view::{Looker, View},
};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Lines and columns of a terminal that does not say how large it is.
const SIZE: (usize, usize) = (24, 80);

/// Looks until Ctrl-C, which ends the process with 0, or until nobody reads this any more.
pub(super) fn run(looker: &mut Looker, is_json: bool) -> io::Result<u8> {
    end_when_interrupted();
    let draws = io::stdout().is_terminal() && !is_json;
    let mut shown = None;
    loop {
        let view = looker.look_again();
        if draws {
            draw(&text::of(&view))?;
        } else {
            let known = view.at_rest();
            if shown.as_ref() != Some(&known) {
                write(&view, is_json, shown.is_none())?;
                shown = Some(known);
            }
        }
        thread::sleep(EVERY);
    }
}

/// Ctrl-C is how one ends this, and no failure.
fn end_when_interrupted() {
    let body = || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            interrupt.recv().await;
            std::process::exit(0);
        });
    };
    // Without the thread it ends as any process does.
    let _ = thread::Builder::new().name("cw-signals".to_owned()).spawn(body);
}

/// Writes over what was there, as much as fits.
fn draw(text: &str) -> io::Result<()> {
    let (lines, columns) = size();
    let title = format!("{}  (Ctrl-C ends this)", clock());
    let mut out = "\x1b[H".to_owned();
    for line in std::iter::once(title.as_str()).chain(text.lines()).take(lines.saturating_sub(1)) {
        out.extend(line.chars().take(columns));
        out.push_str("\x1b[K\n");
    }
    out.push_str("\x1b[J");
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => SIZE,
    }
}

fn write(view: &View, is_json: bool, is_first: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if is_json {
        stdout.write_all(json::line(view).as_bytes())?;
    } else {
        let gap = if is_first { "" } else { "\n" };
        write!(stdout, "{gap}{}\n{}", clock(), text::of(view))?;
    }
    stdout.flush()
}

/// The time of the day, at Greenwich.
fn clock() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
