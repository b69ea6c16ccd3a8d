//! Results on disk: a run that is ended, however, goes on where it stopped.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rusqlite::{Connection, OpenFlags};

use crate::support::{Finished, Home, Process, Signal, only_error, program};

/// How often programs are killed: `CW_STORE_KILLS`, or few enough for every test run.
fn kills() -> usize {
    std::env::var("CW_STORE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

/// A folder with a store and a log of what ran.
pub(crate) struct Runs {
    pub(crate) home: Home,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Self { home: Home::new() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.home.path().join("runs").join("x.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    pub(crate) fn command(&self, flags: &[&str], words: &[&str]) -> Command {
        let mut command = self.home.command(&program("it_store"), flags);
        command.args(words).arg("--store").arg(self.store()).arg("--log").arg(self.log());
        command
    }

    pub(crate) fn start(&self, flags: &[&str], words: &[&str]) -> Process {
        Process::start(&mut self.command(flags, words))
    }

    fn run(&self, words: &[&str]) -> Finished {
        self.start(&["--threads"], words).finish()
    }

    /// What ran: the lines of the log.
    pub(crate) fn ran(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub(crate) fn query<T: rusqlite::types::FromSql>(&self, sql: &str) -> Vec<T> {
        let store = open(&self.store());
        let mut statement = store.prepare(sql).expect("the layout is what it is");
        let rows = statement.query_map([], |row| row.get(0)).expect("it can be read");
        rows.map(|row| row.expect("it can be read")).collect()
    }

    /// The recorded inputs, which no later run may begin.
    fn recorded(&self) -> BTreeSet<i64> {
        if !self.store().exists() {
            return BTreeSet::new();
        }
        let numbers =
            self.query::<i64>("SELECT json_extract(arguments, '$.n') FROM results WHERE status = 'ok'");
        numbers.into_iter().collect()
    }
}

/// Opens a store as any program would, that is not cw.
fn open(store: &Path) -> Connection {
    // Whoever was killed has left a log to be taken in, for which SQLite wants to write.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(store, flags).expect("it is a database")
}

/// The table without what differs from run to run.
const TABLE: &str = "SELECT job || map || ' ' || input || ' ' || status || arguments || value FROM results";

pub(crate) fn count(lines: &[String], word: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(word)).count()
}

#[test]
fn a_second_run_takes_what_the_first_has_recorded() {
    for what in ["map", "spawn"] {
        let runs = Runs::new();
        let first = runs.run(&[what, "--to", "50"]).well();
        assert_eq!(count(&runs.ran(), "begins"), 50);
        let second = runs.run(&[what, "--to", "50"]).well();
        assert_eq!(second.stdout, first.stdout);
        assert!(second.stderr.contains("50 results were there"), "{second:?}");
        runs.run(&[what, "--to", "60"]).well();
        assert_eq!(count(&runs.ran(), "begins"), 60, "the ten that are new");
    }
}

#[test]
fn what_failed_runs_again_and_what_ended_never() {
    let runs = Runs::new();
    fs::write(format!("{}.bad", runs.log().display()), "7").expect("the folder is there");
    let first = runs.run(&["map", "--to", "20"]).well();
    assert!(first.stdout.contains("ended=20 failed=1"), "{first:?}");
    let failed = "SELECT input || ' ' || error FROM results WHERE status = 'failed'";
    assert_eq!(runs.query::<String>(failed), ["7 failed: 7 is bad today"]);
    fs::remove_file(format!("{}.bad", runs.log().display())).expect("it was just written");
    let second = runs.run(&["map", "--to", "20"]).well();
    assert!(second.stdout.contains("ended=20 failed=0 sum=2470"), "{second:?}");
    assert_eq!((count(&runs.ran(), "begins 7"), count(&runs.ran(), "begins")), (2, 21));
    assert_eq!(runs.query::<String>(failed), Vec::<String>::new());
}

#[test]
fn inputs_may_come_go_and_move() {
    let runs = Runs::new();
    runs.run(&["map", "--from", "10", "--to", "40"]).well();
    for range in [["5", "45"], ["20", "45"], ["20", "45"], ["5", "45"]] {
        runs.run(&["map", "--from", range[0], "--to", range[1]]).well();
        assert_eq!(count(&runs.ran(), "begins"), 40, "{range:?}: each ran once");
    }
    let last = runs.run(&["map", "--from", "5", "--to", "45"]).well();
    assert!(last.stdout.contains("ended=40 failed=0"), "{last:?}");
    let inputs = "SELECT input FROM results WHERE map = 1 AND json_extract(arguments, '$.n') - input = 5";
    assert!(runs.query::<i64>(inputs).len() >= 40, "they lie in the order of the last run");
}

#[test]
fn equal_inputs_have_a_result_each() {
    let runs = Runs::new();
    runs.run(&["equal", "--to", "30"]).well();
    assert_eq!(count(&runs.ran(), "begins 7"), 30);
    runs.run(&["equal", "--to", "35"]).well();
    assert_eq!(count(&runs.ran(), "begins 7"), 35);
    assert_eq!(runs.query::<i64>("SELECT count(*) FROM results"), [35]);
}

#[test]
fn a_maps_order_and_what_a_key_leaves_out_do_not_count() {
    let runs = Runs::new();
    for _ in 0..3 {
        runs.run(&["weigh"]).well();
    }
    assert_eq!(count(&runs.ran(), "begins weigh"), 1);
    let runs = Runs::new();
    let first = runs.run(&["keyed", "--to", "3"]).well();
    let mut again = runs.command(&["--threads"], &["keyed", "--to", "3"]);
    let again = Process::start(again.env("REMARK", "1")).finish().well();
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(count(&runs.ran(), "begins keyed"), 3);
    assert_eq!(runs.query::<Option<String>>("SELECT value FROM results LIMIT 1"), [None], "`json = false`");
}

#[test]
fn fresh_computes_all_anew_and_the_next_run_takes_that() {
    let runs = Runs::new();
    runs.run(&["map", "--to", "20"]).well();
    runs.start(&["--threads", "--fresh"], &["map", "--to", "20"]).finish().well();
    assert_eq!(count(&runs.ran(), "begins"), 40);
    runs.run(&["map", "--to", "20"]).well();
    assert_eq!(count(&runs.ran(), "begins"), 40);
    assert_eq!(runs.query::<i64>("SELECT count(*) FROM results"), [20]);
}

#[test]
fn a_job_in_place_and_files_of_others_are_refused() {
    let runs = Runs::new();
    let in_place = runs.run(&["in-place"]).well();
    assert!(in_place.stdout.contains("a job in place is named by its line"), "{in_place:?}");
    for content in [b"hello".to_vec(), vec![0; 4_096], b"SQLite format 3\0 and no more".to_vec()] {
        let runs = Runs::new();
        fs::create_dir_all(runs.store().parent().expect("it has one")).expect("a temporary folder");
        fs::write(runs.store(), &content).expect("a temporary folder");
        let refused = runs.run(&["weigh"]).with_code(1);
        assert!(refused.stderr.contains("it is no store of cw, and was left as it is"), "{refused:?}");
        assert_eq!(fs::read(runs.store()).expect("it is there"), content);
    }
}

#[test]
fn a_store_of_a_newer_layout_is_refused_untouched() {
    let runs = Runs::new();
    runs.run(&["map", "--to", "3"]).well();
    open(&runs.store())
        .execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("ours");
    let before = fs::read(runs.store()).expect("it is there");
    let refused = runs.run(&["weigh"]).with_code(1);
    assert!(
        refused.stderr.contains("it was written by a newer cw (layout 99, this one knows 1)"),
        "{refused:?}"
    );
    assert_eq!(fs::read(runs.store()).expect("it is there"), before);
}

#[test]
fn a_second_program_on_a_store_is_refused_and_told_who_has_it() {
    let runs = Runs::new();
    let first = runs.start(&["--slots", "1"], &["map", "--to", "1000", "--millis", "100"]);
    first.said("10 results");
    let second = runs.run(&["weigh"]).with_code(1);
    let line = format!("it is in use by process {} on ", first.pid());
    assert!(only_error_or_debug(&second).contains(&line), "{second:?}");
    // Others read it meanwhile.
    assert!(runs.recorded().len() >= 10);
    first.signal(Signal::INT);
    first.finish().with_code(130);
    let recorded = runs.recorded().len();
    runs.run(&["map", "--to", "20", "--millis", "100"]).well();
    assert!(recorded >= 10, "{recorded}");
}

/// What `main` says of an error that it returns.
fn only_error_or_debug(finished: &Finished) -> &str {
    finished.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_else(|| only_error(finished))
}

#[test]
fn an_aborted_call_is_not_computed() {
    let runs = Runs::new();
    let aborted = runs.start(&["--slots", "1"], &["abort"]).finish().well();
    assert!(aborted.stdout.contains("Err(true)"), "{aborted:?}");
}

/// Kills a program again and again while it runs, with `-9`; looks at what is recorded each time; then lets it end.
fn killed_again_and_again(runs: &Runs, flags: &[&str], kills: usize, mut meanwhile: impl FnMut(usize)) {
    let mut random = fastrand::Rng::with_seed(7);
    let all = kills * 60 + 50;
    let to = all.to_string();
    let words = ["map", "--to", to.as_str(), "--millis", "1"];
    for kill in 0..kills {
        let (recorded, ran) = (runs.recorded(), runs.ran().len());
        // What a cluster has of a program that was killed goes on without it.
        if recorded.len() + 30 > all {
            assert!(kill >= kills / 2, "too few kills: {kill} of {kills}");
            break;
        }
        let client = runs.start(flags, &words);
        let until = (recorded.len() / 10 + random.usize(1..3)) * 10;
        client.said(&format!("{until} results"));
        meanwhile(kill);
        client.signal(Signal::KILL);
        drop(client);
        let begun: Vec<String> = runs.ran().split_off(ran);
        let again: Vec<_> = begun.iter().filter_map(|line| line.strip_prefix("begins ")).collect();
        let again: Vec<_> =
            again.iter().filter(|n| n.parse().is_ok_and(|n: i64| recorded.contains(&n))).collect();
        assert!(again.is_empty(), "kill {kill}: {again:?} had ended before");
        assert!(runs.recorded().is_superset(&recorded), "kill {kill}: what was recorded is gone");
        assert!(runs.recorded().len() >= until, "kill {kill}: {until} results were handed out");
    }
    runs.start(flags, &words).finish().well();
    let undisturbed = Runs::new();
    undisturbed.run(&words).well();
    let log = runs.log().display().to_string();
    let other = undisturbed.log().display().to_string();
    let table: Vec<String> = runs.query(TABLE);
    let expected: Vec<String> =
        undisturbed.query::<String>(TABLE).iter().map(|row| row.replace(&other, &log)).collect();
    assert_eq!(table, expected);
}

#[test]
fn a_program_killed_at_random_points_ends_with_the_table_of_one_that_was_not() {
    killed_again_and_again(&Runs::new(), &["--slots", "2"], kills(), |_| {});
}

#[test]
fn so_does_one_whose_master_and_workers_are_killed_as_well() {
    let runs = Runs::new();
    let address = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.local_addr().expect("bound").to_string()
    };
    let start = |role: &[&str]| Process::start(&mut runs.home.command(&program("it_store"), role));
    let master = || {
        let master = start(&["--role", "master", "--listen", &address]);
        master.said("join:");
        master
    };
    let worker = || start(&["--role", "worker", "--slots", "2"]);
    let (mut the_master, mut workers) = (Some(master()), [worker(), worker()]);
    killed_again_and_again(&runs, &["--cluster", "default"], kills() / 4, |kill| {
        if kill % 2 == 0 {
            the_master.take().expect("it runs").signal(Signal::KILL);
            the_master = Some(master());
        }
        workers[kill % 2].signal(Signal::KILL);
        workers[kill % 2] = worker();
    });
}

/// The log of a store whose program was killed, damaged in each of these ways: a prefix of what was recorded, or an error.
#[test]
fn a_damaged_log_costs_its_end_and_never_makes_a_wrong_row() {
    let runs = Runs::new();
    let client = runs.start(&["--slots", "2"], &["map", "--to", "1000", "--millis", "1"]);
    client.said("200 results");
    client.signal(Signal::KILL);
    drop(client);
    let log = PathBuf::from(format!("{}-wal", runs.store().display()));
    let (store, whole) = (fs::read(runs.store()).expect("there"), fs::read(&log).expect("it was killed"));
    let mut random = fastrand::Rng::with_seed(11);
    let mut outcomes = [0, 0];
    for round in 0..60 {
        let mut damaged = whole.clone();
        let at = random.usize(32..damaged.len());
        match round % 3 {
            0 => damaged.truncate(at),
            1 => {
                let end = (at + 512).min(damaged.len());
                damaged[at..end].fill(0);
            }
            _ => damaged[at] ^= 1 << random.u8(0..8),
        }
        fs::write(runs.store(), &store).expect("a temporary folder");
        fs::write(&log, &damaged).expect("a temporary folder");
        let _ = fs::remove_file(format!("{}-shm", runs.store().display()));
        let connection = open(&runs.store());
        let rows = connection.prepare("SELECT value FROM results").and_then(|mut statement| {
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        match rows {
            Err(_) => outcomes[1] += 1,
            Ok(rows) => {
                outcomes[0] += 1;
                let squares = (0..1_000u64).map(|n| format!("{{\"n\":{n},\"squared\":{}}}", n * n));
                let squares: BTreeSet<String> = squares.collect();
                assert!(rows.iter().all(|row| squares.contains(row)), "a wrong row");
            }
        }
    }
    assert!(outcomes[0] > 0, "{outcomes:?}");
}

/// A shell in a name space of its own, where it may mount; none where the system allows that to nobody.
fn unshared(home: &Home, script: &str, arguments: &[&str]) -> Option<Command> {
    let may =
        Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|output| output.status.success());
    let mut command = home.command(Path::new("unshare"), &["-rm", "sh", "-ec", script, "sh"]);
    command.args(arguments);
    may.then_some(command)
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let runs = Runs::new();
    let script = r#"
        mount -t tmpfs -o size=4m tmpfs "$1"
        head -c 3900000 /dev/zero > "$1/filler"
        (until [ -e "$2" ]; do sleep 0.1; done; rm "$1/filler") &
        "$3" --threads map --to 3000 --store "$1/x.db" --log "$4"
        mkdir -p "$(dirname "$5")"; cp "$1/x.db" "$5""#;
    let disk = runs.home.path().join("disk");
    fs::create_dir(&disk).expect("a temporary folder");
    let (go, program) = (runs.home.path().join("go"), program("it_store"));
    let (log, store) = (runs.log(), runs.store());
    let paths = [&disk, &go, &program, &log, &store].map(|path| path.to_str().expect("a plain path"));
    let Some(mut command) = unshared(&runs.home, script, &paths) else {
        return eprintln!("skipped: nobody may mount here");
    };
    let process = Process::start(&mut command);
    process.complained("its disk is full; results wait, and nothing is lost");
    fs::write(&go, "").expect("a temporary folder");
    process.complained("it can be written again");
    let finished = process.finish().well();
    assert!(finished.stdout.contains("ended=3000 failed=0"), "{}", finished.stderr);
    assert_eq!(runs.query::<i64>("SELECT count(*) FROM results WHERE status = 'ok'"), [3_000]);
    assert_eq!(count(&runs.ran(), "ends"), 3_000, "each ran once");
}

#[test]
fn a_disk_that_does_not_sync_ends_the_program_and_what_it_had_recorded_stays() {
    let runs = Runs::new();
    runs.run(&["map", "--to", "20"]).well();
    let store = program("it_store");
    let fails = "inject=fsync,fdatasync:error=EIO:when=12+";
    let flags = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", fails];
    let mut command = runs.home.command(Path::new("strace"), &flags);
    command.arg(store).args(["--threads", "map", "--to", "2000", "--millis", "1"]);
    command.arg("--store").arg(runs.store()).arg("--log").arg(runs.log());
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("skipped: there is no strace");
    }
    let finished = Process::start(&mut command).finish().with_code(16);
    assert!(only_error(&finished).contains("disk I/O error"), "{finished:?}");
    assert!(only_error(&finished).contains("is computed again by the next run"), "{finished:?}");
    assert!(runs.recorded().is_superset(&(0..20).collect()), "{:?}", runs.recorded());
    runs.run(&["map", "--to", "50"]).well();
}

/// The installed `cw`, in its own words.
fn cw(runs: &Runs, words: &[&str]) -> Finished {
    let mut command = runs.home.command(Path::new(env!("CARGO_BIN_EXE_cw")), &["results"]);
    Process::start(command.arg(runs.store()).args(words)).finish()
}

#[test]
fn results_are_shown_in_short_as_lines_and_as_a_table() {
    let runs = Runs::new();
    fs::write(format!("{}.bad", runs.log().display()), "7").expect("the folder is there");
    runs.run(&["map", "--to", "12"]).well();
    let summary = cw(&runs, &[]).with_code(0).stdout;
    assert!(summary.contains("it_store::square: 1 failed, 11 ok\n"), "{summary}");
    assert!(
        summary.contains("      1  failed: 7 is bad today  (such as it_store::square {\"n\":7,"),
        "{summary}"
    );
    let lines = cw(&runs, &["--format", "jsonl", "--job", "square"]).with_code(0).stdout;
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(lines.len(), 12);
    assert_eq!((&lines[3]["value"]["squared"], &lines[3]["arguments"]["n"]), (&9.into(), &3.into()));
    assert_eq!(lines[7]["error"], "failed: 7 is bad today");
    let table = cw(&runs, &["--format", "csv", "--failed"]).with_code(0).stdout;
    let (head, row) = table.split_once('\n').expect("a head and a row");
    assert!(
        head.starts_with("job,map,input,status,arguments.n,arguments.millis,arguments.log,error,"),
        "{head}"
    );
    assert!(row.starts_with("it_store::square,1,7,failed,7,0,"), "{row}");
    let verified = cw(&runs, &["verify"]).with_code(0).stdout;
    assert!(verified.contains("11 results, all as they were written"), "{verified}");
    let other = cw(&runs, &["--job", "cube"]).with_code(16);
    assert!(only_error(&other).contains("has no results of a job `cube`; it has those of it_store::square"));
}

#[test]
fn a_program_shows_what_json_leaves_out_as_its_own_types() {
    let runs = Runs::new();
    runs.run(&["keyed", "--to", "2"]).well();
    let untyped = cw(&runs, &["--format", "jsonl"]).with_code(0).stdout;
    assert!(untyped.contains("\"arguments\":null,\"value\":null"), "{untyped}");
    let mut command = runs.home.command(&program("it_store"), &["cw", "results"]);
    let typed =
        Process::start(command.arg(runs.store()).args(["--format", "jsonl"])).finish().with_code(0).stdout;
    assert!(typed.contains("\"n\":1,\"remark\":\"first\""), "{typed}");
    assert!(typed.contains("\"value\":\"1 first\""), "{typed}");
}

#[test]
fn a_value_that_is_not_what_was_written_is_found() {
    let runs = Runs::new();
    runs.run(&["map", "--to", "5"]).well();
    open(&runs.store()).execute("UPDATE task SET value = x'00' WHERE place % 5 = 3", []).expect("it is ours");
    let verified = cw(&runs, &["verify"]).with_code(1).stdout;
    assert!(
        verified.contains("the value of input 3 of it_store::square is not what was written"),
        "{verified}"
    );
}

#[test]
fn results_are_followed_while_they_come() {
    let runs = Runs::new();
    let client = runs.start(&["--slots", "1"], &["map", "--to", "100", "--millis", "20"]);
    client.said("10 results");
    let mut command = runs.home.command(Path::new(env!("CARGO_BIN_EXE_cw")), &["results"]);
    let follower = Process::start(command.arg(runs.store()).args(["--follow", "--format", "jsonl"]));
    follower.said("\"n\":3,");
    follower.said("\"n\":99,");
    client.finish().well();
    follower.signal(Signal::KILL);
    let seen = follower.finish().stdout;
    assert_eq!(seen.lines().count(), 100, "each once");
}

#[test]
fn memory_stays_flat_over_many_results_and_when_they_are_walked_through_again() {
    let runs = Runs::new();
    for _ in 0..2 {
        let many = runs.start(&["--slots", "1"], &["many", "--to", "200000"]).finish().well().stdout;
        let numbers: Vec<u64> = many.split(['=', ' ', '\n']).filter_map(|word| word.parse().ok()).collect();
        let [early, late] = numbers[..] else { panic!("{many}") };
        assert!(early > 0 && late < early + (32 << 10), "from {early} to {late} KiB");
    }
}

#[test]
fn fresh_is_for_the_whole_file_also_for_what_that_run_does_not_come_to() {
    let runs = Runs::new();
    runs.run(&["keyed", "--to", "3"]).well();
    runs.run(&["map", "--to", "5"]).well();
    runs.start(&["--threads", "--fresh"], &["map", "--to", "5"]).finish().well();
    assert_eq!(runs.query::<i64>("SELECT count(*) FROM results"), [5], "what counts");
    runs.run(&["keyed", "--to", "3"]).well();
    assert_eq!(count(&runs.ran(), "begins keyed"), 6);
    runs.run(&["keyed", "--to", "3"]).well();
    runs.run(&["map", "--to", "5"]).well();
    assert_eq!((count(&runs.ran(), "begins keyed"), count(&runs.ran(), "begins")), (6, 16));
}

#[test]
fn a_reader_that_takes_its_time_holds_up_no_end() {
    let runs = Runs::new();
    runs.run(&["map", "--to", "5"]).well();
    let reader = open(&runs.store());
    reader.execute_batch("BEGIN; SELECT count(*) FROM results;").expect("it can be read");
    let finished = runs.run(&["map", "--to", "10"]).well();
    assert!(!finished.stderr.contains("in time"), "{finished:?}");
    drop(reader);
    assert_eq!(runs.recorded().len(), 10);
}

#[test]
fn an_aborted_call_ends_though_a_store_cannot_be_written() {
    let runs = Runs::new();
    runs.run(&["map", "--to", "5"]).well();
    let writer = open(&runs.store());
    writer.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    let aborted = runs.start(&["--slots", "1"], &["abort-elsewhere"]);
    aborted.said("Err(true)");
    drop(writer);
    aborted.finish().well();
}

#[test]
fn on_a_network_the_lock_is_beside_the_file() {
    let runs = Runs::new();
    let start =
        |words: &[&str]| Process::start(runs.command(&["--slots", "1"], words).env("CW_STORE_NETWORK", "1"));
    let first = start(&["map", "--to", "1000", "--millis", "50"]);
    first.complained("it lies on a network file system");
    first.said("10 results");
    let second = start(&["weigh"]).finish().with_code(1);
    assert!(second.stderr.contains("it is in use by "), "{second:?}");
    first.signal(Signal::KILL);
    drop(first);
    start(&["map", "--to", "20", "--millis", "50"]).finish().well();
    assert!(runs.home.path().join("runs").join("x.db.lock").exists());
    assert!(runs.recorded().len() >= 20);
}
