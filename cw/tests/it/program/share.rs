//! Jobs that share values.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Deserializer, Serialize};

#[derive(clap::Args)]
struct Opts {
    /// `many BYTES TASKS`, `numbers mapped|here`, `two`, `wait FILE`, `big TASKS BYTES`, or `big_wait FILE`
    words: Vec<String>,
}

/// How often a table was decoded in this process.
static DECODED: AtomicU64 = AtomicU64::new(0);

#[derive(Serialize)]
struct Table {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            #[serde(with = "serde_bytes")]
            bytes: Vec<u8>,
        }
        let Plain { bytes } = Plain::deserialize(deserializer)?;
        // The program looks at its types with small values before it runs.
        if bytes.len() > 100 {
            DECODED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Self { bytes })
    }
}

/// A byte of the table, and how often that was decoded here.
#[cw::job]
fn look(at: u64, table: cw::Shared<Table>) -> (u8, u64) {
    let at = usize::try_from(at).expect("within it");
    (table.bytes[at % table.bytes.len()], DECODED.load(Ordering::Relaxed))
}

#[cw::job]
fn weigh(factor: u64, one: &cw::Shared<Vec<u64>>, other: &cw::Shared<String>) -> u64 {
    one.iter().sum::<u64>() * factor + other.len() as u64
}

/// The sum of a part of many numbers, and whether this process has a file mapped that holds them.
#[cw::job]
fn add_part(part: u64, numbers: &cw::Shared<[f64]>) -> (f64, bool) {
    let part = part as usize * 1_000;
    let sum = numbers[part..part + 1_000].iter().sum();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    (sum, maps.lines().any(|line| line.contains("share-") || line.contains("shared-")))
}

/// Says that this process has begun, by a file beside another, and waits for that one.
fn wait_for(file: &Path) {
    std::fs::write(file.with_extension(std::process::id().to_string()), "").expect("its folder is there");
    while !file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Waits for a file, then looks.
#[cw::job]
fn wait_and_look(file: PathBuf, table: cw::Shared<Table>) -> u64 {
    wait_for(&file);
    table.bytes.len() as u64
}

/// The sum of its arguments, the second time it is tried.
#[cw::job(retries = 1)]
fn add(number: u64, bytes: Vec<u8>) -> cw::Result<(u64, u64)> {
    if cw::ctx().attempt() == 1 {
        return Err(cw::Error::other("not the first time"));
    }
    Ok((number, bytes.iter().map(|byte| u64::from(*byte)).sum()))
}

/// Waits for a file, then gives back what it was given.
#[cw::job]
async fn wait_and_give(file: PathBuf, bytes: Vec<u8>) -> Vec<u8> {
    wait_for(&file);
    bytes
}

/// Bytes that no other number has.
fn bytes_of(number: u64, bytes: usize) -> Vec<u8> {
    let mut all = vec![3; bytes];
    all[..8].copy_from_slice(&number.to_le_bytes());
    all
}

fn table(bytes: usize) -> Table {
    Table { bytes: (0..bytes).map(|at| (at % 251) as u8).collect() }
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let words: Vec<&str> = opts.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["many", bytes, tasks] => {
            let (bytes, tasks): (usize, u64) =
                (bytes.parse().expect("a number"), tasks.parse().expect("a number"));
            let shared = cw::share(table(bytes));
            let looked = cw::map(look, (0..tasks).map(|at| (at * 7_919, shared.clone()))).await?;
            for (at, (byte, decoded)) in looked.into_iter().enumerate() {
                assert_eq!(u64::from(byte), at as u64 * 7_919 % bytes as u64 % 251);
                assert!(decoded <= 1, "decoded {decoded} times in one executor");
            }
        }
        ["numbers", wanted] => {
            let numbers = cw::share_slice((0..500_000).map(f64::from).collect::<Vec<_>>());
            let sums = cw::map(add_part, (0..500u64).map(|part| (part, &numbers))).await?;
            let all: f64 = sums.iter().map(|(sum, _)| sum).sum();
            assert_eq!(all, 500_000.0 * 499_999.0 / 2.0);
            assert!(sums.iter().all(|(_, is_mapped)| *is_mapped == (*wanted == "mapped")));
        }
        ["two"] => {
            let (one, other) = (cw::share(vec![1u64, 2, 3]), cw::share("four".to_owned()));
            let weighed = cw::map(weigh, (0..50u64).map(|factor| (factor, &one, &other)));
            let handle = cw::spawn(weigh, (7, &one, &other));
            let wanted: Vec<u64> = (0..50).map(|factor| 6 * factor + 4).collect();
            assert_eq!(weighed.await?, wanted);
            assert_eq!(handle.await?, 46);
            // Others of the same name in the same place.
            let one = cw::share(vec![10u64]);
            assert_eq!(cw::spawn(weigh, (1, &one, &other)).await?, 14);
            assert_eq!(one.len(), 1, "the program has it too");
        }
        ["wait", file] => {
            let shared = cw::share(table(3 << 20));
            let looked =
                cw::map(wait_and_look, (0..6).map(|_| (PathBuf::from(file), shared.clone()))).await?;
            assert_eq!(looked, [3 << 20; 6]);
        }
        ["big", tasks, bytes] => {
            let (tasks, bytes): (u64, usize) =
                (tasks.parse().expect("a number"), bytes.parse().expect("a number"));
            let added = cw::map(add, (0..tasks).map(|number| (number, bytes_of(number, bytes)))).await?;
            let wanted = |number: u64| (number, number + 3 * (bytes as u64 - 8));
            assert!(tasks < 256, "the sum is that of one byte");
            assert_eq!(added, (0..tasks).map(wanted).collect::<Vec<_>>());
        }
        ["big_wait", file] => {
            let all: Vec<Vec<u8>> = (0..6).map(|number| bytes_of(number, 3 << 20)).collect();
            let given = cw::map(wait_and_give, all.iter().map(|bytes| (PathBuf::from(file), bytes.clone())));
            assert!(given.await? == all);
        }
        other => return Err(cw::Error::other(format!("no scenario {other:?}"))),
    }
    println!("done");
    Ok(())
}
