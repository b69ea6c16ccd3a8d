//! What Slurm's commands answer. Each version has words of its own: what is not known is neither lost nor believed.

use crate::launch::{End, State, What};

/// What `squeue` is to write about a job: its id, state, nodes, name, comment, and reason. Names and comments of ours have
/// no `|`; a reason may.
pub(super) const FORMAT: &str = "%i|%T|%N|%j|%k|%r";

/// What `squeue -O` is to write to tell exit codes.
pub(super) const CODES: &str = "JobArrayID:64,exit_code:32";

/// One job as `squeue` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) nodes: String,
    pub(super) name: String,
    pub(super) comment: String,
    pub(super) reason: String,
}

/// Reads what [`FORMAT`] asks for. Lines that are cut short, or none, are left out.
pub(super) fn lines(answer: &str) -> Vec<Line> {
    answer.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Line> {
    let mut fields = line.trim().splitn(6, '|').map(|field| field.trim().to_owned());
    let mut next = || fields.next();
    let line = Line {
        id: next()?,
        state: next()?,
        nodes: next()?,
        name: next()?,
        comment: next()?,
        reason: next().unwrap_or_default(),
    };
    is_id(&line.id).then_some(line)
}

/// `77`, `77_3`; and `77_[4-9]` of an array whose tasks are not told one by one.
fn is_id(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_digit())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "_[]-,%+.".contains(c))
}

/// The id that `sbatch --parsable` answers with: the last line, `77` or `77;cluster`.
pub(super) fn submitted(answer: &str) -> Option<String> {
    let last = answer.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let id = last.split(';').next().unwrap_or_default();
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_owned())
}

/// A refusal without the name of the command in each of its lines.
pub(super) fn bare(words: &str, command: &str) -> String {
    words.replace(&format!("{command}: error: "), "").replace(&format!("{command}: "), "")
}

/// What a job is, by a name of ours.
pub(super) fn what(name: &str) -> Option<What> {
    match name.rsplit_once('-')?.1 {
        "master" => Some(What::Master),
        "worker" => Some(What::Worker),
        _ => None,
    }
}

/// What Slurm's word for a job's state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    EndedWell,
    EndedBadly,
}

/// Long words, short ones (`PD`), and those with something behind (`CANCELLED by 1000`, `CANCELLED+`). One that is not
/// known is waited for: neither is it there, nor did it fail.
pub(super) fn phase(state: &str) -> Phase {
    let word: String = state.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '_').collect();
    match word.to_ascii_uppercase().as_str() {
        "RUNNING" | "R" | "COMPLETING" | "CG" | "STAGE_OUT" | "SO" | "SIGNALING" | "SI" | "RESIZING"
        | "RS" => Phase::Running,
        "COMPLETED" | "CD" | "CANCELLED" | "CA" | "TIMEOUT" | "TO" | "PREEMPTED" | "PR" | "DEADLINE"
        | "DL" | "REVOKED" | "RV" => Phase::EndedWell,
        "FAILED" | "F" | "NODE_FAIL" | "NF" | "BOOT_FAIL" | "BF" | "OUT_OF_MEMORY" | "OOM"
        | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Phase::EndedBadly,
        _ => Phase::Pending,
    }
}

/// Whether `scancel --state=PENDING` takes it for pending: it does so with no other word, `REQUEUE_HOLD` say.
fn is_in_line(state: &str) -> bool {
    matches!(state.to_ascii_uppercase().as_str(), "PENDING" | "PD")
}

impl Line {
    /// What has become of the job. How it ended is said by its exit code too, where that is known.
    pub(super) fn state(&self, code: Option<&str>) -> State {
        match phase(&self.state) {
            Phase::Running => State::Running { on: self.nodes.clone() },
            Phase::Pending => State::Pending { why: self.why(), in_line: is_in_line(&self.state) },
            phase => State::Ended(End {
                is_well: phase == Phase::EndedWell,
                how: self.how(code),
                on: Some(self.nodes.clone()).filter(|nodes| !nodes.is_empty()),
                last: Vec::new(),
            }),
        }
    }

    /// Slurm's reason, and its word for the state if that says more than that it pends.
    fn why(&self) -> String {
        let reason = self.reason();
        match self.state.as_str() {
            "PENDING" | "PD" => reason.unwrap_or("no reason given yet").to_owned(),
            state => match reason {
                Some(reason) => format!("{state}: {reason}"),
                None => state.to_owned(),
            },
        }
    }

    fn how(&self, code: Option<&str>) -> String {
        let failed = matches!(self.state.as_str(), "FAILED" | "F");
        let word = if failed { code.unwrap_or("FAILED") } else { &self.state };
        match self.reason() {
            Some(reason) if reason != "NonZeroExitCode" => format!("{word} ({reason})"),
            _ => word.to_owned(),
        }
    }

    fn reason(&self) -> Option<&str> {
        let reason = self.reason.trim_start_matches('(').trim_end_matches(')');
        (!matches!(reason, "" | "None" | "null" | "N/A")).then_some(reason)
    }
}

/// Whether a job that ended like this did not get as far as its script: Slurm could not open its log, or enter its folder.
pub(super) fn did_not_begin(how: &str) -> bool {
    how.split(' ').take(2).eq(["signal", "53"])
}

/// Reads what [`CODES`] asks for: ids, and how each ended, in words.
pub(super) fn codes(answer: &str) -> impl Iterator<Item = (String, String)> {
    answer.lines().filter_map(|line| {
        let (id, code) = line.trim().split_once(char::is_whitespace)?;
        Some((id.to_owned(), code_in_words(code.trim())?))
    })
}

/// A status as the system waits for it (`1792`), or as Slurm's other commands write it (`7:0`).
fn code_in_words(code: &str) -> Option<String> {
    let (exit, signal) = match code.split_once(':') {
        Some((exit, signal)) => (exit.parse().ok()?, signal.parse().ok()?),
        None => {
            let status: u32 = code.parse().ok()?;
            (status >> 8 & 0xff, status & 0x7f)
        }
    };
    match (exit, signal) {
        (0_u32, 0_u32) => None,
        (exit, 0) => Some(format!("exit code {exit}")),
        (_, signal) => Some(format!("signal {signal}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "\
1_1|FAILED|cw1|cw-a-worker|cw:3fa9|NonZeroExitCode
1_2|FAILED|cw1|cw-a-worker|cw:3fa9|JobLaunchFailure
4|PENDING||cw-a-worker|cw:3fa9|ReqNodeNotAvail, UnavailableNodes:cw[1-2]|x
2|PENDING||cw-a-master|(null)|JobHeldUser
1_0|RUNNING|cw1|cw-a-worker|cw:3fa9|None
";

    fn state(line: &str) -> State {
        let [line] = <[Line; 1]>::try_from(lines(line)).expect("it is a line");
        line.state(None)
    }

    fn ended(line: &str, code: Option<&str>) -> (bool, String) {
        match lines(line)[0].state(code) {
            State::Ended(end) => (end.is_well, end.how),
            other => panic!("{other:?}"),
        }
    }

    fn pending(why: &str) -> State {
        State::Pending { why: why.to_owned(), in_line: true }
    }

    fn held_up(why: &str) -> State {
        State::Pending { why: why.to_owned(), in_line: false }
    }

    #[test]
    fn an_answer_is_read() {
        let found = lines(ANSWER);
        assert_eq!(found.len(), 5);
        assert_eq!(found[2].reason, "ReqNodeNotAvail, UnavailableNodes:cw[1-2]|x");
        assert_eq!(found[3].comment, "(null)");
        assert_eq!(found[4].state(None), State::Running { on: "cw1".to_owned() });
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        for odd in [
            "",
            "\n\n",
            "JOBID|STATE|NODES|NAME|COMMENT|REASON",
            "1_1|FAILED|cw1",
            "slurm_load_jobs error: Unable to contact slurm controller",
            "7;8|RUNNING|a|b|c|d",
            "|||||",
            "\u{0}\u{fffd}",
        ] {
            assert_eq!(lines(odd), [], "{odd:?}");
        }
        assert_eq!(lines("5|RUNNING|n|cw-a-worker|cw:1").len(), 1, "only the reason is missing");
        assert_eq!(lines("5_[3-9,12%2]|PENDING||cw-a-worker|cw:1|Priority").len(), 1);
    }

    #[test]
    fn words_of_all_kinds_mean_something() {
        for (word, meant) in [
            ("RUNNING", Phase::Running),
            ("R", Phase::Running),
            ("running", Phase::Running),
            ("COMPLETING", Phase::Running),
            ("CANCELLED by 1000", Phase::EndedWell),
            ("CANCELLED+", Phase::EndedWell),
            ("TIMEOUT", Phase::EndedWell),
            ("PREEMPTED", Phase::EndedWell),
            ("OUT_OF_MEMORY", Phase::EndedBadly),
            ("OOM", Phase::EndedBadly),
            ("NODE_FAIL", Phase::EndedBadly),
            ("CONFIGURING", Phase::Pending),
            ("REQUEUE_HOLD", Phase::Pending),
            ("SUSPENDED", Phase::Pending),
            ("SOMETHING_NEW", Phase::Pending),
            ("", Phase::Pending),
        ] {
            assert_eq!(phase(word), meant, "{word}");
        }
    }

    #[test]
    fn why_something_pends_is_said_in_slurms_words() {
        assert_eq!(state("4|PENDING||n|c|Resources"), pending("Resources"));
        assert_eq!(state("4|PD||n|c|(QOSMaxCpuPerUserLimit)"), pending("QOSMaxCpuPerUserLimit"));
        assert_eq!(state("4|PENDING||n|c|None"), pending("no reason given yet"));
        assert_eq!(state("4|CONFIGURING|cw1|n|c|None"), held_up("CONFIGURING"));
        assert_eq!(state("4|SUSPENDED|cw1|n|c|None"), held_up("SUSPENDED"));
        let held = held_up("REQUEUE_HOLD: job requeued in held state");
        assert_eq!(state("4|REQUEUE_HOLD||n|c|job requeued in held state"), held);
    }

    #[test]
    fn how_something_ended_is_said_with_its_code() {
        let end = |line, code| ended(line, code);
        assert_eq!(
            end("4|FAILED|cw1|n|c|NonZeroExitCode", Some("exit code 7")),
            (false, "exit code 7".into())
        );
        let launch = end("4|FAILED|cw1|n|c|JobLaunchFailure", Some("signal 9"));
        assert_eq!(launch, (false, "signal 9 (JobLaunchFailure)".into()));
        assert_eq!(end("4|FAILED|cw1|n|c|None", None), (false, "FAILED".into()));
        assert_eq!(end("4|NODE_FAIL|cw1|n|c|NodeDown", None), (false, "NODE_FAIL (NodeDown)".into()));
        assert_eq!(
            end("4|TIMEOUT|cw1|n|c|TimeLimit", Some("signal 9")),
            (true, "TIMEOUT (TimeLimit)".into())
        );
        assert_eq!(end("4|COMPLETED|cw1|n|c|None", None), (true, "COMPLETED".into()));
    }

    #[test]
    fn codes_of_both_kinds_are_read() {
        let said = "1_1      1792   \n1_2 9\n1_3 0\n77 3:0\n78 0:53\n79 what\n80\n\n";
        let found: Vec<_> = codes(said).map(|(id, code)| format!("{id} {code}")).collect();
        assert_eq!(found, ["1_1 exit code 7", "1_2 signal 9", "77 exit code 3", "78 signal 53"]);
    }

    #[test]
    fn what_did_not_begin_is_known_by_its_code() {
        assert!(did_not_begin("signal 53 (JobLaunchFailure)"));
        assert!(did_not_begin("signal 53"));
        assert!(!did_not_begin("exit code 53") && !did_not_begin("signal 5") && !did_not_begin(""));
    }

    #[test]
    fn an_id_is_a_number_on_the_last_line() {
        assert_eq!(submitted("77\n").as_deref(), Some("77"));
        assert_eq!(submitted("Welcome to site X: 3 notices\n77;cluster2\n").as_deref(), Some("77"));
        for wrong in ["", "\n", "Submitted batch job 77", "-1", "77_3", "x;77"] {
            assert_eq!(submitted(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_refusal_names_its_command_once() {
        let said =
            "sbatch: error: invalid partition specified: x; sbatch: error: Batch job submission failed";
        assert_eq!(bare(said, "sbatch"), "invalid partition specified: x; Batch job submission failed");
        assert_eq!(bare("slurm_load_jobs error: Unable", "squeue"), "slurm_load_jobs error: Unable");
    }

    #[test]
    fn a_cluster_may_have_any_name() {
        assert_eq!(what("cw-my-master-worker"), Some(What::Worker));
        assert_eq!(what("cw-worker-master"), Some(What::Master));
        assert_eq!(what("cw-default-boss"), None);
        assert_eq!(what("worker"), None);
    }
}
