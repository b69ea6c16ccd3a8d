//! What tasks print: whole, apart, live, with their errors and results.

use std::{collections::BTreeMap, fs, path::Path};

use rusqlite::{Connection, OpenFlags};

use crate::support::{Cluster, Finished, Home, Process, program};

/// Starts a scenario by itself, and on a cluster.
fn both(flags: &[&str], words: &[&str]) -> [(Process, Option<Cluster>); 2] {
    let alone = Home::new();
    let embedded = Process::start(&mut alone.command(&program("it_prints"), &[flags, words].concat()));
    let cluster = Cluster::start(1);
    let on_cluster = [&["--cluster", "default"], flags, words].concat();
    let client = Process::start(&mut cluster.home.command(&program("it_prints"), &on_cluster));
    [(embedded, None), (client, Some(cluster))]
}

fn finish_both(flags: &[&str], words: &[&str]) -> [Finished; 2] {
    both(flags, words).map(|(process, _cluster)| process.finish().well())
}

/// The lines that tasks printed, as they were shown.
fn shown(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter(|line| line.starts_with("task-")).collect()
}

#[test]
fn what_tasks_print_at_once_is_shown_apart_and_in_order() {
    for finished in finish_both(&[], &["many"]) {
        let lines = shown(&finished);
        assert_eq!(lines.len(), 80, "{finished:?}");
        // What a task prints that takes long, as on a busy machine any may, is shown in pieces.
        let mut tasks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in lines {
            let (task, text) = line.split_once("| ").expect("each line says whose it is");
            tasks.entry(task).or_default().push(text);
        }
        assert_eq!(tasks.len(), 20);
        for (task, lines) in tasks {
            let (_, number) = lines[0].split_once(" of ").expect("the first line comes first");
            let wanted = ["first", "second", "third", "last"].map(|word| format!("{word} of {number}"));
            assert_eq!(lines, wanted, "{task}");
        }
        assert_eq!(finished.stdout, "done\n", "nothing of it is on the program's own standard output");
    }
}

#[test]
fn a_line_is_shown_while_its_task_runs() {
    let home = Home::new();
    let file = home.path().join("go on");
    for (process, _cluster) in both(&[], &["live", file.to_str().expect("a plain path")]) {
        process.complained("| before");
        fs::write(&file, "").expect("the test's own folder");
        let finished = process.finish().well();
        let lines: Vec<&str> = shown(&finished).iter().filter_map(|line| line.split("| ").nth(1)).collect();
        assert_eq!(lines, ["before", "after"]);
        fs::remove_file(&file).expect("it is there");
    }
}

#[test]
fn an_error_has_what_its_task_printed_however_it_ended() {
    for how in ["fail", "panic", "crash", "hang"] {
        for finished in finish_both(&[], &[how]) {
            let line = format!("output: \"about to {how}\\n");
            assert!(finished.stdout.contains(&line), "{how}: {finished:?}");
            let word = if how == "crash" { "stderr" } else { "printed" };
            assert!(finished.stdout.contains(&format!("\n  {word}: about to {how}")), "{how}: {finished:?}");
        }
    }
}

#[test]
fn only_what_fails_is_shown_if_that_is_wanted_or_nothing() {
    for finished in finish_both(&["--output", "on-failure"], &["many"]) {
        assert!(shown(&finished).is_empty(), "{finished:?}");
    }
    for finished in finish_both(&["--output", "on-failure"], &["fail"]) {
        assert_eq!(shown(&finished), ["task-1| about to fail"]);
    }
    for finished in finish_both(&["--output", "none"], &["fail"]) {
        assert!(shown(&finished).is_empty() && finished.stdout.contains("output: \"\"\n"), "{finished:?}");
    }
}

#[test]
fn of_a_flood_the_beginning_and_the_end_are_kept() {
    for finished in finish_both(&["--output", "live"], &["flood"]) {
        let lines = shown(&finished);
        assert!(lines.first().is_some_and(|line| line.ends_with("| the beginning")), "{:?}", lines.first());
        assert!(lines.last().is_some_and(|line| line.ends_with("| the end")), "{:?}", lines.last());
        assert!(lines.iter().any(|line| line.ends_with("bytes are not shown")));
        assert!(lines.len() < 100_000, "{} lines", lines.len());
    }
}

#[test]
fn what_was_printed_is_stored_with_its_result() {
    let (alone, cluster) = (Home::new(), Cluster::start(1));
    // A store each: it has one program at a time.
    for (home, flags) in [(&alone, &[][..]), (&cluster.home, &["--cluster", "default"])] {
        let store = home.path().join("x.db");
        let words = ["--output", "on-failure", "--store", store.to_str().expect("a plain path"), "many"];
        Process::start(&mut home.command(&program("it_prints"), &[flags, &words].concat())).finish().well();
        let outputs = outputs(&store);
        assert_eq!(outputs.len(), 20);
        for (input, output) in outputs.iter().enumerate() {
            assert_eq!(
                *output,
                format!("first of {input}\nsecond of {input}\nthird of {input}\nlast of {input}")
            );
        }
    }
}

fn outputs(store: &Path) -> Vec<String> {
    let store = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a store");
    let mut statement = store.prepare("SELECT output FROM results ORDER BY input").expect("there is a view");
    let rows = statement.query_map([], |row| row.get(0)).expect("it can be read");
    rows.collect::<Result<_, _>>().expect("texts")
}

#[test]
fn tasks_that_print_nothing_show_nothing() {
    for finished in finish_both(&[], &["quiet"]) {
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("done\n", ""));
    }
}
