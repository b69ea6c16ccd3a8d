//! A home whose cluster is started and stopped by verbs, and what is there meanwhile.

use std::{fs, path::Path};

use crate::support::{Finished, Home, Process, cw, proc};

/// A home. Nothing that was started in it survives it.
pub(crate) struct House {
    pub(crate) home: Home,
}

impl House {
    pub(crate) fn new() -> Self {
        Self { home: Home::new() }
    }

    /// Runs a verb of the installed binary's to its end.
    pub(crate) fn cw(&self, words: &[&str]) -> Finished {
        self.run(cw(), words)
    }

    pub(crate) fn run(&self, program: &Path, words: &[&str]) -> Finished {
        Process::start(&mut self.home.command(program, words)).finish()
    }

    /// Makes sure that a program runs there.
    #[track_caller]
    pub(crate) fn assert_squares(&self, program: &Path) {
        let finished = self.run(program, &["--cluster", "default", "--count", "20"]).with_code(0);
        assert!(finished.stdout.contains("the square of 19 is 361\n"), "{finished:?}");
    }

    /// What `cw start` has written down; none if there is nothing.
    pub(crate) fn fleet(&self) -> Option<serde_json::Value> {
        let text = fs::read_to_string(self.home.file("fleet.json")).ok()?;
        Some(serde_json::from_str(&text).expect("it is whole at any time"))
    }

    /// The process of the master that `cw start` started.
    pub(crate) fn master(&self) -> u32 {
        let fleet = self.fleet().expect("a fleet was started");
        number(&fleet["master"]["here"]["pid"])
    }

    /// Nothing of the cluster runs.
    #[track_caller]
    pub(crate) fn assert_ended(&self) {
        let left = proc::of(self.home.path());
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.fleet(), None);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        proc::kill_all(&proc::of(self.home.path()));
        if std::thread::panicking() {
            for log in fs::read_dir(self.home.file("log")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                eprintln!("--- {}\n{text}", log.path().display());
            }
        }
    }
}

#[track_caller]
pub(crate) fn number(value: &serde_json::Value) -> u32 {
    value.as_u64().and_then(|it| it.try_into().ok()).unwrap_or_else(|| panic!("{value} is no small number"))
}
