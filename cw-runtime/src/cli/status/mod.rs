//! `cw status`: a cluster's master, workers and clients, what was started for it, and who cannot reach it.
//!
//! It ends with 0 if the master answers and with 12 if it does not; what is known is printed in both cases. Why there is
//! no answer stands in the text, not on stderr.
//!
//! What `--json` writes is in [`json`]: one object, or with `--watch` one a line whenever something has changed.

mod engine;
mod json;
mod table;
mod text;
mod view;
mod watch;

use std::{io, time::Duration};

use clap::Args;

use crate::{
    access::ClusterDir,
    exit::{self, Trouble},
    flag::DEFAULT_CLUSTER,
    start::time,
};
use view::{Looker, View};

/// Show a cluster: its master, workers and clients, what was started for it, and what stands in their way
#[derive(Args)]
pub(super) struct Status {
    /// The cluster. Its files are in $CW_HOME/NAME, by default ~/.cw/NAME
    #[arg(long, env = "CW_CLUSTER", value_name = "NAME", default_value = DEFAULT_CLUSTER)]
    cluster: String,

    /// Write JSON: one object, with --watch one a line whenever something has changed
    #[arg(long)]
    json: bool,

    /// Go on until interrupted: draw it anew every second on a terminal, else write it when something has changed
    #[arg(long)]
    watch: bool,

    /// How long to wait for a master that does not answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    connect_timeout: Duration,
}

impl Status {
    pub(super) fn run(&self) -> Result<u8, Trouble> {
        let dir = ClusterDir::locate(&self.cluster)?;
        if !dir.is_begun() {
            return Err(nothing_there(&dir));
        }
        let mut looker = Looker::new(dir, self.connect_timeout);
        if !self.watch {
            return self.once(&mut looker);
        }
        match watch::run(&mut looker, self.json) {
            // Whoever reads this has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            other => Ok(other?),
        }
    }

    fn once(&self, looker: &mut Looker) -> Result<u8, Trouble> {
        let view = looker.look_once();
        let text = if self.json { json::pretty(&view) } else { text::of(&view) };
        super::print(&text)?;
        Ok(code(&view))
    }
}

/// The exit code of what was seen.
fn code(view: &View) -> u8 {
    view.master.as_ref().map_or_else(|gone| gone.code, |_| 0)
}

/// No such cluster: which ones there are.
fn nothing_there(dir: &ClusterDir) -> Trouble {
    let others = dir.beside();
    let known = match &others[..] {
        [] => "`cw start` or `cw master` makes one".to_owned(),
        [one] => format!("there is `{one}`: add --cluster {one}"),
        many => format!("there are: {}", many.join(", ")),
    };
    let (name, folder) = (dir.cluster(), dir.path().display());
    Trouble::new(exit::NO_MASTER, format!("there is no cluster `{name}` ({folder}); {known}"))
}
