//! Jobs that leave for their next attempts where they are. What each attempt finds is a line in a file.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

fn note(dir: &Path, line: &str) {
    let file = OpenOptions::new().append(true).create(true).open(dir.join("log"));
    file.expect("the test's own folder")
        .write_all(format!("{line}\n").as_bytes())
        .expect("the test's own file");
}

/// Counts up to a number, and saves each. Ends badly once, in this way, after the fifth; waits there if it is to.
#[cw::job(retries = 1)]
fn count(to: u64, way: String, dir: PathBuf) -> Result<u64, String> {
    let mut counted: u64 = cw::ctx().load().unwrap_or_default();
    note(&dir, &format!("attempt {} on {} begins at {counted}", cw::ctx().attempt(), cw::ctx().worker()));
    let began = counted;
    while counted < to {
        counted += 1;
        cw::ctx().save(&counted).map_err(|error| error.to_string())?;
        if counted == 5 && fs::File::create_new(dir.join("ended badly")).is_ok() {
            note(&dir, "five are saved");
            match way.as_str() {
                "abort" => std::process::abort(),
                "fail" => return Err("not today".to_owned()),
                _ => {}
            }
        }
        while way == "wait" && counted == 5 && !dir.join("open").exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(counted - began)
}

/// Counts seconds, and saves each. Nobody tries it again for a failure.
#[cw::job]
fn count_seconds(to: u64, dir: PathBuf) -> Result<u64, String> {
    let mut counted: u64 = cw::ctx().load().unwrap_or_default();
    note(&dir, &format!("begins at {counted}"));
    while counted < to {
        std::thread::sleep(Duration::from_secs(1));
        counted += 1;
        cw::ctx().save(&counted).map_err(|error| error.to_string())?;
    }
    Ok(counted)
}

/// An async job, whose runtime waits with it.
#[cw::job(retries = 1)]
async fn count_async(dir: PathBuf) -> Result<u64, String> {
    tokio::task::yield_now().await;
    let counted: u64 = cw::ctx().load().unwrap_or_default();
    cw::ctx().save(&(counted + 1)).map_err(|error| error.to_string())?;
    note(&dir, &format!("async begins at {counted}"));
    if counted == 0 { Err("not yet".to_owned()) } else { Ok(counted) }
}

/// Leaves a file in its folder and fails; the next attempt finds it.
#[cw::job(retries = 1)]
fn leave_file(dir: PathBuf) -> Result<PathBuf, String> {
    let folder = cw::ctx().checkpoint_dir();
    assert_eq!(cw::ctx().checkpoint_dir(), folder);
    note(&dir, &format!("folder {}", folder.display()));
    match fs::read_to_string(folder.join("part")) {
        Ok(text) if text == "half" => Ok(folder),
        Ok(text) => Err(format!("a strange text: {text}")),
        Err(_) => {
            fs::write(folder.join("part"), "half").map_err(|error| error.to_string())?;
            Err("the first half is done".to_owned())
        }
    }
}

/// Saves so many bytes.
#[cw::job]
fn save_bytes(bytes: usize) -> Result<usize, String> {
    cw::ctx().save(&vec![7u8; bytes]).map_err(|error| error.to_string())?;
    Ok(cw::ctx().load::<Vec<u8>>().map_or(0, |state| state.len()))
}

/// Loads what another type was saved as.
#[cw::job]
fn mistake(number: u64) -> u64 {
    cw::ctx().save(&number).expect("it is short");
    cw::ctx().load::<String>().map_or(0, |text| text.len() as u64)
}

#[derive(clap::Args)]
struct Opts {
    /// What to do
    what: String,
    /// Where files are left
    #[arg(long)]
    dir: PathBuf,
    /// Where results are kept, if they are
    #[arg(long)]
    store: Option<PathBuf>,
    /// How `count` ends badly
    #[arg(long, default_value = "")]
    way: String,
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let Opts { what, dir, store, way } = opts;
    let options = store.map_or_else(cw::options, |store| cw::options().store(store));
    match what.as_str() {
        "count" => println!("counted {}", options.spawn(count, (10, way, dir)).await?),
        "seconds" => println!("counted {}", options.spawn(count_seconds, (75, dir)).await?),
        "async" => println!("counted {}", options.spawn(count_async, (dir,)).await?),
        "folder" => {
            let folder = options.spawn(leave_file, (dir,)).await?;
            println!("folder {}", folder.display());
        }
        "bytes" => {
            // What is around a MiB of them is three bytes.
            let most = (1 << 20) - 3;
            println!("{}", options.spawn(save_bytes, most).await?);
            println!("{}", options.spawn(save_bytes, most + 1).await.expect_err("too long"));
        }
        "many" => {
            let sums = cw::map(save_bytes, (0..200).map(|n| n * 1_000)).await?;
            assert_eq!(sums, (0..200).map(|n| n * 1_000).collect::<Vec<usize>>());
        }
        "mistake" => println!("{}", options.spawn(mistake, 1_000).await.expect_err("no text")),
        other => return Err(cw::Error::other(format!("no such thing: {other}"))),
    }
    println!("done");
    Ok(())
}
