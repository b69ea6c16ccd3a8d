//! What is submitted: the words of `sbatch`, and a script of a few lines.
//!
//! The script replaces its shell by the worker, so that Slurm's signals reach that: a shell would keep them until its child
//! has ended.

use std::path::{Path, PathBuf};

use crate::launch::{
    Refused, What, container,
    fleet::{Fleet, Slurm},
    shell, variables,
};

/// Most Slurms have arrays of no more (`MaxArraySize`).
pub(super) const ARRAY_MAX: u32 = 1_000;

/// Cores of a master, which does all on one thread.
const MASTER_CORES: u32 = 1;

/// The name by which jobs of this kind are found.
pub(super) fn name(cluster: &str, what: What) -> String {
    let what = match what {
        What::Master => "master",
        What::Worker => "worker",
    };
    format!("cw-{cluster}-{what}")
}

/// How all comments of ours begin.
pub(super) const COMMENT: &str = "cw:";

/// The comment by which a job is known to be of this fleet.
pub(super) fn comment(fleet: &Fleet) -> String {
    format!("{COMMENT}{}", fleet.id)
}

/// What `sbatch` is told to submit so many workers.
pub(super) fn workers(fleet: &Fleet, slurm: &Slurm, logs: &Path, count: u32) -> Vec<String> {
    let mut words = common(fleet, slurm, What::Worker, slurm.cores);
    // A job by itself is no array: where there are none, one by one goes.
    let log = match count {
        1 => "slurm-%j.log",
        _ => {
            words.push(format!("--array=0-{}", count - 1));
            "slurm-%A_%a.log"
        }
    };
    words.push(format!("--output={}", logs.join(log).display()));
    words.extend(slurm.args.iter().cloned());
    words
}

/// What `sbatch` is told to submit the master.
pub(super) fn master(fleet: &Fleet, slurm: &Slurm, logs: &Path) -> Vec<String> {
    let mut words = common(fleet, slurm, What::Master, MASTER_CORES);
    words.push(format!("--output={}", logs.join("master.log").display()));
    words.extend(slurm.master_args.as_ref().unwrap_or(&slurm.args).iter().cloned());
    words
}

fn common(fleet: &Fleet, slurm: &Slurm, what: What, cores: u32) -> Vec<String> {
    let mut words = vec![
        "--parsable".to_owned(),
        format!("--job-name={}", name(&fleet.cluster, what)),
        format!("--comment={}", comment(fleet)),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
        format!("--cpus-per-task={}", cores.max(1)),
    ];
    words.extend(slurm.time.iter().map(|time| format!("--time={time}")));
    if slurm.folder != PathBuf::new() {
        words.push(format!("--chdir={}", slurm.folder.display()));
    }
    words.extend(["--requeue".to_owned(), "--open-mode=append".to_owned()]);
    words
}

/// The script of a worker.
pub(super) fn worker_script(fleet: &Fleet, slurm: &Slurm) -> String {
    let mut words: Vec<String> = fleet.command.first().cloned().into_iter().collect();
    words.extend(fleet.worker_words(None));
    if fleet.idle.is_none() {
        words.extend(["--idle".to_owned(), "never".to_owned()]);
    }
    let words = container::around(fleet, &slurm.folder, words);
    let asked = if fleet.container.is_some() { ASKED } else { "" };
    script(fleet, asked, &shell::line(words))
}

/// There is no `squeue` in a container: it is asked outside how much time there is, and when: an image may take minutes to
/// come. Where it does not say, or gives the year of who has no limit, nobody knows. By its own number the last task of an
/// array would be told of all.
const ASKED: &str = "job=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}
at=$(date +%s)
left=$(timeout 10 squeue -h -j \"$job\" -o %L)
case $left in -*|36[45]-*|*[!0-9:-]*|'') ;; *) export CW_WALLTIME=\"$left@$at\";; esac
";

/// The script of the master, whose words are these, program first. One that is started again because its node was lost
/// takes over from what may still run there.
pub(super) fn master_script(fleet: &Fleet, words: &[String]) -> String {
    script(fleet, "", &format!("{} ${{SLURM_RESTART_COUNT:+--takeover}}", shell::line(words)))
}

fn script(fleet: &Fleet, before: &str, line: &str) -> String {
    // `sbatch` hands the variables of its caller on.
    let (home, unwanted) = (shell::quote(&fleet.home), variables::unwanted().join(" "));
    format!("#!/bin/sh\nexport CW_HOME={home}\nunset {unwanted}\n{before}exec {line}\n")
}

/// Options that would keep jobs or their logs from being found again, or `sbatch` from ending at once.
const NOT_YOURS: [(&str, Option<char>); 11] = [
    ("job-name", Some('J')),
    ("comment", None),
    ("array", Some('a')),
    ("output", Some('o')),
    ("error", Some('e')),
    ("clusters", Some('M')),
    ("wait", Some('W')),
    ("wrap", None),
    ("user", None),
    ("uid", None),
    ("test-only", None),
];

/// Letters of `sbatch` behind which the rest of a word is a value. Others may be followed by one more letter.
const VALUED: &str = "AbBcCdDFGiLmnNpqStwx";

/// The option of [`NOT_YOURS`] that a word is or has. `sbatch` also takes the beginning of a name, and letters together.
fn not_yours(word: &str) -> Option<&'static str> {
    let found = match word.strip_prefix("--") {
        Some(long) => {
            let name = long.split('=').next().unwrap_or_default();
            NOT_YOURS.into_iter().find(|(long, _)| !name.is_empty() && long.starts_with(name))
        }
        None => {
            let letters = word.strip_prefix('-')?.chars().take_while(|letter| !VALUED.contains(*letter));
            letters
                .filter_map(|letter| NOT_YOURS.into_iter().find(|(_, short)| *short == Some(letter)))
                .next()
        }
    };
    found.map(|(long, _)| long)
}

/// Checks what a user adds to our words.
///
/// # Errors
/// It would break what is built on them.
pub(crate) fn check_words(args: &[String]) -> Result<(), String> {
    match args.iter().find_map(|word| Some((word, not_yours(word)?))) {
        Some((word, long)) => Err(format!(
            "`{word}` cannot be given to sbatch: --{long} is left to cw, which finds its jobs and their logs again"
        )),
        None => Ok(()),
    }
}

/// Checks where logs are to be.
///
/// # Errors
/// `sbatch` would understand something else.
pub(super) fn check_logs(logs: &Path) -> Result<(), Refused> {
    let path = logs.display().to_string();
    match path.contains(['%', '\\', '\n']) {
        true => Err(Refused(format!(
            "sbatch cannot name logs in {path}: `%` and `\\` are signs of its own there; set CW_HOME to another folder"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
        time::Duration,
    };

    use super::*;
    use crate::launch::fleet::{Container, Engine, How, MasterAt};

    fn slurm() -> Slurm {
        Slurm {
            time: Some("2:00:00".to_owned()),
            args: vec!["--partition=long".to_owned(), "--exclude=a b".to_owned()],
            cores: 2,
            folder: PathBuf::from("/data/my runs"),
            ..Slurm::default()
        }
    }

    fn fleet(home: &str, program: &str) -> Fleet {
        Fleet {
            version: 1,
            id: "3fa9".to_owned(),
            cluster: "lab".to_owned(),
            home: PathBuf::from(home),
            command: [program, "cw", "worker", "--slots", "2"].map(str::to_owned).to_vec(),
            master: MasterAt::There,
            how: How::Slurm(slurm()),
            workers: 64,
            min: 0,
            max: 64,
            slots: 2,
            idle: Some(Duration::from_secs(300)),
            container: None,
            is_started: true,
            wait: Duration::from_secs(600),
        }
    }

    #[test]
    fn workers_are_one_array_and_what_the_user_adds_comes_last() {
        let words = workers(&fleet("/h", "/p"), &slurm(), Path::new("/h/lab/log"), 64);
        assert_eq!(
            words,
            [
                "--parsable",
                "--job-name=cw-lab-worker",
                "--comment=cw:3fa9",
                "--nodes=1",
                "--ntasks=1",
                "--cpus-per-task=2",
                "--time=2:00:00",
                "--chdir=/data/my runs",
                "--requeue",
                "--open-mode=append",
                "--array=0-63",
                "--output=/h/lab/log/slurm-%A_%a.log",
                "--partition=long",
                "--exclude=a b",
            ]
        );
        let one = workers(&fleet("/h", "/p"), &slurm(), Path::new("/h/lab/log"), 1);
        assert!(one.iter().all(|word| !word.starts_with("--array")), "{one:?}");
        assert!(one.contains(&"--output=/h/lab/log/slurm-%j.log".to_owned()), "{one:?}");
    }

    #[test]
    fn a_master_has_one_core_and_words_of_its_own_if_there_are_any() {
        let mut slurm = slurm();
        let words = master(&fleet("/h", "/p"), &slurm, Path::new("/h/lab/log"));
        assert!(words.contains(&"--job-name=cw-lab-master".to_owned()), "{words:?}");
        assert!(words.contains(&"--cpus-per-task=1".to_owned()), "{words:?}");
        assert!(words.contains(&"--output=/h/lab/log/master.log".to_owned()), "{words:?}");
        assert_eq!(words.last().map(String::as_str), Some("--exclude=a b"));
        slurm.master_args = Some(Vec::new());
        let words = master(&fleet("/h", "/p"), &slurm, Path::new("/h/lab/log"));
        assert_eq!(words.last().map(String::as_str), Some("--output=/h/lab/log/master.log"));
    }

    #[test]
    fn a_script_is_four_lines() {
        let unset = format!("unset {}", variables::unwanted().join(" "));
        assert_eq!(
            worker_script(&fleet("/home/u/.cw", "/home/u/sim"), &slurm()),
            format!(
                "#!/bin/sh\nexport CW_HOME=/home/u/.cw\n{unset}\n\
                 exec /home/u/sim cw worker --slots 2 --cluster lab --idle 5m\n"
            )
        );
        let mut kept = fleet("/h", "/p");
        kept.idle = None;
        let script = worker_script(&kept, &slurm());
        assert!(script.ends_with("--cluster lab --idle never\n"), "{script}");
        let words = ["/p", "master", "--cluster", "lab"].map(str::to_owned);
        let script = master_script(&kept, &words);
        assert!(
            script.ends_with("\nexec /p master --cluster lab ${SLURM_RESTART_COUNT:+--takeover}\n"),
            "{script}"
        );
    }

    #[test]
    fn a_script_is_in_the_container() {
        let mut fleet = fleet("/h", "/p/sim");
        fleet.container =
            Some(Container { engine: Engine::Apptainer, image: "a b.sif".to_owned(), args: Vec::new() });
        let script = worker_script(&fleet, &slurm());
        let line = "exec apptainer exec --bind '/data/my runs' --bind /h/lab --bind /p --pwd '/data/my runs' 'a b.sif' /p/sim cw";
        assert!(script.contains(line), "{script}");
    }

    #[test]
    fn a_container_is_told_how_much_time_slurm_gives_it() {
        let mut fleet = fleet("/h", "/p/sim");
        fleet.container = Some(Container { engine: Engine::Docker, image: "i".to_owned(), args: Vec::new() });
        let script = worker_script(&fleet, &slurm());
        // Functions stand for the commands; `exec` looks for files.
        let (head, tail) = script.split_once("exec docker ").expect("it ends with that");
        assert!(tail.contains(" -e CW_WALLTIME "), "{tail}");
        for (said, told) in [
            ("echo 1-02:03:04", "1-02:03:04@1764569000"),
            ("[ \"$3\" = 7_3 ] && echo 2:00", "2:00@1764569000"),
            ("echo UNLIMITED", "none"),
            ("echo INVALID", "none"),
            ("echo -1:00", "none"),
            ("echo 364-23:59:58", "none"),
            ("echo slurm is down >&2; return 1", "none"),
        ] {
            let commands = format!(
                "timeout() {{ shift; \"$@\"; }}\nsqueue() {{ {said}; }}\ndate() {{ echo 1764569000; }}\n"
            );
            let body = format!("{commands}{head}\nprintf %s \"${{CW_WALLTIME-none}}\"");
            let mut sh = Command::new("sh");
            sh.args(["-c", &body]).env("CW_WALLTIME", "3h").env("SLURM_JOB_ID", "7");
            sh.env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", "3");
            let output = sh.output().expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{output:?}");
        }
    }

    /// What a shell makes of the script: its `CW_HOME`, what it keeps of other variables, and the words of the worker.
    fn read_by_sh(script: &str) -> Vec<String> {
        let mut command = Command::new("sh");
        command.env("CW_MASTER", "elsewhere").env("CW_ACCESS", "a file");
        command.arg("-s").env("SLURM_RESTART_COUNT", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut sh = command.spawn().expect("there is a shell");
        sh.stdin.take().expect("just piped").write_all(script.as_bytes()).expect("it reads");
        let said = sh.wait_with_output().expect("it ends");
        String::from_utf8(said.stdout).expect("text").split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_reads_odd_paths_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("it's \"$HOME\" `id` *");
        let body = "#!/bin/sh\nprintf '%s\\0' \"$CW_HOME\" \"$CW_MASTER$CW_ACCESS\" \"$0\" \"$@\"\n";
        // Written by another process: what this one has open for writing, a child of another test may hold.
        let write = "cat > \"$0\" && chmod 700 \"$0\"";
        let mut sh =
            Command::new("sh").args(["-c", write]).arg(&program).stdin(Stdio::piped()).spawn().unwrap();
        sh.stdin.take().expect("just piped").write_all(body.as_bytes()).unwrap();
        assert!(sh.wait().unwrap().success());
        let program = program.to_str().expect("text");
        for home in
            ["/plain", "/with space", "/it's", "/a\"b", "/$HOME/`id`/$(id)", "/a\\b", "/ü*?[x]", "/-n;true&#"]
        {
            let said = read_by_sh(&worker_script(&fleet(home, program), &slurm()));
            let words = ["cw", "worker", "--slots", "2", "--cluster", "lab", "--idle", "5m"];
            assert_eq!(said, [&[home, "a file", program], &words[..]].concat());
        }
        let words = [program, "master"].map(str::to_owned);
        let said = read_by_sh(&master_script(&fleet("/h", program), &words));
        assert_eq!(said, ["/h", "a file", program, "master", "--takeover"], "one that is started again");
    }

    #[test]
    fn what_would_keep_jobs_from_being_found_is_refused() {
        let check = |word: &str| check_words(&[word.to_owned()]);
        for fine in [
            "--partition=x",
            "-p",
            "-pJaW",
            "-HpJoe",
            "-A",
            "--account=a",
            "--wait-all-nodes=1",
            "-w",
            "cw1",
            "--mem=4G",
            "--cluster-constraint=x",
            "--exclusive",
            "--open-mode=append",
            "-",
            "--nice",
            "-100",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for bad in [
            "--comment=x",
            "--comment",
            "-J",
            "-Jx",
            "--job-name=x",
            "--array=0-3",
            "-a0-3",
            "-W",
            "--wrap=x",
            "-HJfoo",
            "-HQWJ",
            "-vW",
            "-Ha0-3",
            "--comme=x",
            "--arra=0-3",
            "--jo=x",
            "-Mall",
            "--clusters=all",
            "--cluster",
            "-o/dev/null",
            "--out=x",
            "--error=x",
            "-ex",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let refused = check("--comment=x").unwrap_err();
        assert_eq!(
            refused,
            "`--comment=x` cannot be given to sbatch: --comment is left to cw, which finds its jobs and their logs again"
        );
        assert_eq!(check_logs(Path::new("/h/log")), Ok(()));
        assert!(check_logs(Path::new("/a%b/log")).is_err());
    }
}
