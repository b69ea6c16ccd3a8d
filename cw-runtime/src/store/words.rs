//! What a store says to the user.

use std::path::PathBuf;

use crate::{client::notice::say, flag::flag};

/// What is said about one store, each thing once.
pub(super) struct Words {
    path: PathBuf,
    /// Results that were there, and those of them that another build computed.
    pub(super) reused: u64,
    others: u64,
    /// Results that the cluster had kept of a process that was killed.
    pub(super) drained: u64,
    waits: bool,
}

impl Words {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, reused: 0, others: 0, drained: 0, waits: false }
    }

    pub(super) fn named(&self, what: &str) -> String {
        format!("store {}: {what}", self.path.display())
    }

    pub(super) fn on_network(&self) {
        say(&self.named(
            "it lies on a network file system: while this program runs only `cw results` can read it, and on this machine; a \
             local disk is faster",
        ));
    }

    pub(super) fn reused(&mut self, is_others: bool) {
        self.reused += 1;
        self.others += u64::from(is_others);
        if is_others && self.others == 1 {
            say(&self.named(&format!(
                "results of an earlier build are reused, as the jobs themselves were not edited; {} recomputes",
                flag("fresh")
            )));
        }
    }

    /// Nothing can be written for now.
    pub(super) fn waiting(&mut self, why: &str) {
        if !std::mem::replace(&mut self.waits, true) {
            say(&self.named(&format!(
                "{why}; results wait, and nothing is lost: it goes on as soon as it can be written"
            )));
        }
    }

    pub(super) fn going_on(&mut self) {
        if std::mem::take(&mut self.waits) {
            say(&self.named("it can be written again"));
        }
    }

    /// At the end.
    pub(super) fn summary(&self) {
        if self.drained > 0 {
            let results = grouped(self.drained);
            say(&self.named(&format!(
                "{results} results came from where the run before had left them with the cluster"
            )));
        }
        if self.others > 0 {
            let (results, fresh) = (grouped(self.others), flag("fresh"));
            say(&self.named(&format!("{results} results of an earlier build reused; {fresh} recomputes")));
        } else if self.reused > 0 {
            say(&self.named(&format!("{} results were there", grouped(self.reused))));
        }
    }
}

/// `1204` as `1,204`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_204_567].map(grouped), ["0", "999", "1,000", "1,204,567"]);
    }
}
