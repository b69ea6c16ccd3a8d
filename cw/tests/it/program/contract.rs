//! Every call once, in forty lines; the tests run it alone, on threads and on a cluster.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub)]

use std::time::Duration;

#[derive(Debug, serde::Serialize, serde::Deserialize, PartialEq, thiserror::Error)]
#[error("no root of {0}")]
struct NoRoot(i64);

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::job(retries = 2, timeout = "1m", version = 3, max_bytes = "1 MiB")]
fn root(n: i64, name: &str) -> Result<i64, NoRoot> {
    if n < 0 { Err(NoRoot(n)) } else { Ok(n.isqrt() + name.len() as i64) }
}

#[cw::job(handle = Where)]
async fn place() -> (bool, u32, bool) {
    let ctx = cw::ctx();
    ctx.progress(0.5);
    (ctx.task().is_some(), ctx.attempt(), ctx.scratch().is_dir() && !ctx.is_cancelled())
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let name = String::from("abc");
    assert_eq!(cw::spawn(square, 3).await?, 9);
    let handle = cw::spawn(root, root.args(16, &name));
    println!("{} of {}", handle.id(), cw::jobs().len());
    assert_eq!(handle.await?, 7);
    let error = cw::spawn(root, (-4, "x")).await.unwrap_err();
    assert_eq!((error.downcast::<NoRoot>(), error.attempts()), (Some(NoRoot(-4)), 3));
    assert!(matches!(cw::spawn(Where, ()).await?, (true, 1.., true)));
    assert_eq!(cw::spawn(cw::job_fn!(|a: u64, b: u64| -> u64 { a + b }), (3, 4)).await?, 7);

    let squares: Vec<u64> = cw::map(square, 0..100).await?;
    assert_eq!(squares.iter().sum::<u64>(), 328_350);
    let set: std::collections::BTreeSet<u64> = cw::map(square, 0..9).in_flight(2).collect().await?;
    assert_eq!(set.len(), 9);
    let mut runs = cw::map(root, (0..9).map(|n| (n * n, "a"))).progress("roots").unordered();
    while let Some((index, result)) = runs.next().await {
        assert_eq!(result?, index as i64 + 1);
    }
    tokio::task::spawn_blocking(|| {
        for (index, result) in cw::map(square, 0..5).unordered() {
            assert_eq!(result.unwrap(), (index * index) as u64);
        }
        assert_eq!(cw::spawn(square, 4).wait().unwrap(), 16);
    })
    .await
    .unwrap();

    cw::submit(square, 4, |task, result| println!("{task} completed: {result:?}"));
    cw::wait_all().await;
    let slow = cw::options().retries(5).timeout(Duration::from_secs(60)).priority(10);
    assert_eq!(slow.spawn(square, 5).await? + slow.map(square, 0..9).await?[8], 89);
    slow.submit(square, 5, |_, result| assert_eq!(result.unwrap(), 25));

    let mut set = cw::TaskSet::new();
    let first = set.spawn(square, 6);
    cw::ready().await;
    assert!(set.spawn_when_ready(square, 7).await > first && set.len() == 2);
    let mut joined = Vec::new();
    while let Some(result) = set.join_next().await {
        joined.push(result?);
    }
    joined.sort_unstable();
    assert_eq!(joined, [36, 49]);
    let aborted = cw::spawn(cw::job_fn!(|ms: u64| { std::thread::sleep(Duration::from_millis(ms)) }), 60_000);
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
    cw::wait_all().await;
    println!("done");
    Ok(())
}
