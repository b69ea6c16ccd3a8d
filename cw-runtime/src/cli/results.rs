//! `cw results FILE`: what a store has.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    exit::{self, Trouble},
    store::show::{Reader, Row, Summary, Table},
};

/// How often a store is looked at for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);

/// Show the results that programs have recorded in a store
#[derive(Args)]
pub(super) struct Results {
    /// The store, a file that a program names with `.store(..)`
    file: PathBuf,

    /// `verify`: read all of it, and compare each value with what was written
    #[arg(value_name = "verify")]
    action: Option<PathBuf>,

    /// Write all results, a line each. Default: a summary
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Of this job only: its path, or the end of it
    #[arg(long)]
    job: Option<String>,

    /// Only those that have no value
    #[arg(long)]
    failed: bool,

    /// Go on with what is recorded from now on, until this is interrupted
    #[arg(long, conflicts_with = "action")]
    follow: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// An object of JSON a line
    Jsonl,
    /// A table with a column for each field
    Csv,
}

impl Results {
    pub(super) fn run(&self) -> Result<u8, Trouble> {
        let trouble = |line: String| Trouble::new(exit::STORE, line);
        let (file, verifies) = self.file_and_action()?;
        let mut reader = Reader::open(file, self.job.clone(), self.failed).map_err(trouble)?;
        if verifies {
            let faults = reader.verify().map_err(trouble)?;
            return Ok(if faults { 1 } else { 0 });
        }
        match self.written(&mut reader) {
            Ok(()) => Ok(0),
            Err(Ended::Store(line)) => Err(trouble(line)),
            // Whoever reads this has seen enough.
            Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(Ended::Output(error)) => Err(Trouble::new(exit::SYSTEM, format!("cannot write: {error}"))),
        }
    }

    /// In either order.
    fn file_and_action(&self) -> Result<(&Path, bool), Trouble> {
        let is_verb = |word: &Path| word == Path::new("verify");
        match &self.action {
            None => Ok((&self.file, false)),
            Some(action) if is_verb(action) => Ok((&self.file, true)),
            Some(file) if is_verb(&self.file) => Ok((file, true)),
            Some(other) => {
                let line = format!(
                    "`{}` is nothing that can be done with results; there is `verify`",
                    other.display()
                );
                Err(Trouble::new(exit::USAGE, line))
            }
        }
    }

    fn written(&self, reader: &mut Reader) -> Result<(), Ended> {
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format {
            Some(Format::Csv) => self.csv(reader, &mut out)?,
            Some(Format::Jsonl) => {
                self.follow(reader, &mut out, |row, out| writeln!(out, "{}", row.json()))?
            }
            None if self.follow => {
                self.follow(reader, &mut out, |row, out| writeln!(out, "{}", row.line()))?
            }
            None => {
                let mut summary = Summary::default();
                reader.each(|row| summary.add(&row))?;
                write!(out, "{summary}").map_err(Ended::Output)?;
            }
        }
        out.flush().map_err(Ended::Output)
    }

    /// All rows, and if that is asked for what comes, for ever.
    fn follow(
        &self,
        reader: &mut Reader,
        out: &mut impl Write,
        mut write: impl FnMut(&Row, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Ended> {
        loop {
            let mut written = Ok(());
            reader.each(|row| {
                if written.is_ok() {
                    written = write(&row, out);
                }
            })?;
            written.and_then(|()| out.flush()).map_err(Ended::Output)?;
            if !self.follow {
                return Ok(());
            }
            std::thread::sleep(FOLLOW_EVERY);
        }
    }

    /// The columns are those that any row has, so all are read twice.
    fn csv(&self, reader: &mut Reader, out: &mut impl Write) -> Result<(), Ended> {
        let mut table = Table::default();
        reader.each(|row| table.learn(&row))?;
        reader.begin_again();
        let mut lines = csv::Writer::from_writer(out);
        let columns = table.columns().to_vec();
        let mut written = lines.write_record(&columns).map_err(of_output);
        loop {
            reader.each(|row| {
                if written.is_ok() {
                    written = lines.write_record(table.cells(&row)).map_err(of_output);
                }
            })?;
            written = written.and_then(|()| lines.flush());
            if written.is_err() || !self.follow {
                return written.map_err(Ended::Output);
            }
            std::thread::sleep(FOLLOW_EVERY);
        }
    }
}

/// What went wrong with the output itself.
fn of_output(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

enum Ended {
    Store(String),
    Output(io::Error),
}

impl From<String> for Ended {
    fn from(line: String) -> Self {
        Self::Store(line)
    }
}
