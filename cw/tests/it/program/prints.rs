//! Jobs that print, in every way there is.

use std::{io::Write, path::PathBuf, process::Command};

#[derive(clap::Args)]
struct Opts {
    /// Where results are kept
    #[arg(long)]
    store: Option<PathBuf>,

    /// `many`, `live FILE`, `fail`, `panic`, `crash`, `hang`, `flood` or `quiet`
    words: Vec<String>,
}

/// Prints lines of its own, by both ways out, and by a process that it starts; the last does not end.
#[cw::job]
fn chatty(n: u64) -> u64 {
    println!("first of {n}");
    eprintln!("second of {n}");
    let status = Command::new("echo").arg(format!("third of {n}")).status().expect("there is an echo");
    assert!(status.success());
    print!("last of {n}");
    n
}

/// Prints, and goes on until there is a file.
#[cw::job]
fn live(file: PathBuf) -> u64 {
    println!("before");
    while !file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    println!("after");
    1
}

#[cw::job]
fn ends(how: &str) -> Result<(), String> {
    println!("about to {how}");
    match how {
        "fail" => Err("as it was told".to_owned()),
        "panic" => panic!("as it was told"),
        "crash" => std::process::abort(),
        _ => loop {
            std::thread::park();
        },
    }
}

#[cw::job]
fn flood(lines: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "the beginning").expect("it can be written");
    (0..lines).for_each(|line| writeln!(out, "line {line:058}").expect("it can be written"));
    writeln!(out, "the end").expect("it can be written");
}

#[cw::job]
fn quiet(n: u64) -> u64 {
    n
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let words: Vec<&str> = opts.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["many"] => {
            let map = cw::map(chatty, 0..20);
            let all = match &opts.store {
                Some(store) => map.store(store).await?,
                None => map.await?,
            };
            assert_eq!(all, (0..20).collect::<Vec<u64>>());
        }
        ["live", file] => assert_eq!(cw::spawn(live, PathBuf::from(file)).await?, 1),
        ["flood"] => cw::spawn(flood, 200_000).await?,
        ["quiet"] => drop(cw::map(quiet, 0..1_000).await?),
        [how] => {
            let limited = cw::options().timeout(std::time::Duration::from_millis(300));
            let error = limited.spawn(ends, *how).await.expect_err("it does not end well");
            println!("output: {:?}", error.output());
            println!("debug: {error:?}");
        }
        other => return Err(cw::Error::other(format!("no scenario {other:?}"))),
    }
    println!("done");
    Ok(())
}
