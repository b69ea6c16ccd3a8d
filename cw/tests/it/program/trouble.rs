//! Jobs that end badly, and what is left around them.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, stdin},
    path::Path,
    time::Duration,
};

use cw::TaskErrorKind;

use crate::{jobs::*, until_there};

/// What a job or its result may weigh.
const LIMIT: usize = 64 << 20;

pub(crate) async fn end(how: &str) -> cw::Result<()> {
    println!("in the end {how}: {}", cw::spawn(square, 5).await?);
    match how {
        "exit" => std::process::exit(3),
        "panic" => panic!("the program itself"),
        "abort" => std::process::abort(),
        _ => Ok(()),
    }
}

pub(crate) async fn panic() -> cw::Result<()> {
    let before = cw::spawn(process, ()).await?;
    let error = cw::spawn(explode, 5).await.unwrap_err();
    let TaskErrorKind::Panicked { message, location, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(message, "no 5 today");
    assert!(location.contains("jobs.rs:") && error.is_panic() && error.attempts() == 1, "{error}");
    println!("process survived: {}", before == cw::spawn(process, ()).await?);
    Ok(())
}

/// Prints the evidence, a line a way.
pub(crate) async fn crash(dir: &Path, ways: &[String]) -> cw::Result<()> {
    let marks = |way: &str| dir.join(way);
    let call = |way: &String| cw::spawn(crate::jobs::crash, (marks(way).as_path(), way.as_str()));
    let crashes: Vec<_> = ways.iter().map(call).collect();
    let squares = cw::map(square, 0..300).await?;
    assert!(squares.iter().zip(0..).all(|(found, n): (&u64, u64)| *found == n * n));
    for (way, crash) in ways.iter().zip(crashes) {
        let error = crash.await.unwrap_err();
        let TaskErrorKind::Crashed { signal, code, stderr, .. } = error.kind() else { panic!("{error:?}") };
        let ran = fs::read(marks(way))?.len();
        println!("{way}: signal={signal:?} code={code:?} ran={ran} stderr={stderr:?} {error}");
    }
    Ok(())
}

pub(crate) async fn crash_among() {
    let mut runs = cw::map(fragile, 0..400).unordered();
    let mut seen = 0;
    while let Some((index, result)) = runs.next().await {
        let n = index as u64;
        seen += 1;
        match result {
            Ok(found) => assert!(found == n * n && !is_fragile(n)),
            Err(error) => assert!(error.is_crash() && is_fragile(n), "{n}: {error:?}"),
        }
    }
    assert_eq!(seen, 400);
}

/// A job that is known to be short hangs amid many calls of it; the others end all the same.
pub(crate) async fn behind(dir: &Path) -> cw::Result<()> {
    cw::map(quick, (0..2_000).map(|n| (n, None))).await?;
    let file = dir.join("go on");
    let hangs = cw::spawn(quick, (7, Some(file.clone())));
    let others = cw::map(quick, (0..500).map(|n| (n, None))).await?;
    assert_eq!(others, (0..500).collect::<Vec<u64>>());
    assert!(!hangs.is_finished());
    fs::write(file, "")?;
    assert_eq!(hangs.await?, 7);
    Ok(())
}

pub(crate) async fn naps(count: u64) -> cw::Result<()> {
    let mut runs = cw::map(nap, 0..count).unordered();
    let mut seen = BTreeSet::new();
    while let Some((index, result)) = runs.next().await {
        assert_eq!(result?, index as u64);
        assert!(seen.insert(index), "{index} came twice");
        println!("{} results", seen.len());
    }
    assert_eq!(seen.len() as u64, count);
    Ok(())
}

pub(crate) async fn spread(wanted: usize) -> cw::Result<()> {
    let mut runs = cw::map(whereabouts, 0..).in_flight(16).unordered();
    let mut workers = BTreeSet::new();
    while workers.len() < wanted {
        let (_, worker) = runs.next().await.expect("it is endless");
        if workers.insert(worker?) {
            println!("{} workers", workers.len());
        }
    }
    Ok(())
}

pub(crate) async fn kill(dir: &Path, by: &str) {
    let timeout = Duration::from_secs(if by == "timeout" { 2 } else { 1000 });
    let pids = dir.join("pids");
    let handle = cw::options().timeout(timeout).spawn(bear_child, pids.as_path());
    tell_pids(&pids);
    if by == "abort" {
        handle.abort();
    }
    let error = handle.await.unwrap_err();
    assert!(error.is_cancelled() == (by == "abort") && error.is_timeout() == (by == "timeout"), "{error}");
    println!("it has ended");
    // To the end of its input the program stays, so that its end is not what kills.
    stdin().read_to_end(&mut Vec::new()).expect("the test holds the other end");
}

/// A task waits behind another on the only worker, until a second one joins.
pub(crate) async fn moved(dir: &Path) -> cw::Result<()> {
    let (made, open) = (dir.join("made"), dir.join("open"));
    let held = cw::spawn(gate, (made.as_path(), open.as_path()));
    until_there(&made);
    let moved = cw::spawn(halve, 7);
    println!("one is running");
    let error = moved.await.unwrap_err();
    assert_eq!((error.downcast(), error.attempts()), (Some(Odd { n: 7 }), 1));
    fs::write(&open, "")?;
    held.await?;
    Ok(())
}

pub(crate) fn leave(dir: &Path) {
    let pids = dir.join("pids");
    drop(cw::spawn(bear_child, pids.as_path()));
    tell_pids(&pids);
}

fn tell_pids(file: &Path) {
    until_there(file);
    println!("pids {}", fs::read_to_string(file).expect("just seen"));
}

pub(crate) async fn large() -> cw::Result<()> {
    let neighbours = cw::spawn(nap, 7);
    let text = "x".repeat(LIMIT + 1);
    let error = cw::spawn(measure, text.as_str()).await.unwrap_err();
    let TaskErrorKind::TooLarge { what, bytes, limit } = error.kind() else { panic!("{error:?}") };
    assert_eq!((what.as_str(), *limit, error.attempts()), ("arguments", LIMIT as u64, 0));
    assert!(*bytes > *limit);
    let mut runs = cw::map(measure, [text.as_str(), "short"]).unordered();
    while let Some((index, result)) = runs.next().await {
        assert_eq!(result.is_ok(), index == 1);
    }
    let error = cw::spawn(inflate, LIMIT + 1).await.unwrap_err();
    let TaskErrorKind::TooLarge { what, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(what, "result");
    assert_eq!(cw::spawn(measure, &text[..LIMIT - 8]).await?, LIMIT - 8, "what just fits passes");
    assert_eq!(cw::spawn(inflate, 20 << 20).await?.len(), 20 << 20);
    assert_eq!(neighbours.await?, 7);
    Ok(())
}

/// A job's own limit is lower or higher than the default, and is told.
pub(crate) async fn own_limits() -> cw::Result<()> {
    let small = [7; 100];
    assert_eq!(cw::spawn(swell, (&small[..], 900)).await?.len(), 900);
    let large = [7; 2 << 10];
    let errors = [
        ("arguments", cw::spawn(swell, (&large[..], 0)).await.unwrap_err()),
        ("arguments", cw::map(swell, [(&large[..], 0)]).await.unwrap_err()),
        ("result", cw::spawn(swell, (&small[..], 2 << 10)).await.unwrap_err()),
    ];
    for (named, error) in errors {
        let TaskErrorKind::TooLarge { what, bytes, limit } = error.kind() else { panic!("{error:?}") };
        assert_eq!((what.as_str(), *limit), (named, 1 << 10));
        assert!(*bytes > 2 << 10, "{error}");
        assert!(error.to_string().ends_with("#[cw::job(max_bytes = ..)]"), "{error}");
    }
    let mut bytes = b"0123456789abcdef-".repeat((70 << 20) / 17);
    let turned = cw::spawn(turn, bytes.clone()).await?;
    bytes.rotate_left(1);
    assert!(turned == bytes, "they come back whole");
    let error = cw::spawn(turn, vec![0; MANY]).await.unwrap_err();
    let TaskErrorKind::TooLarge { limit, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*limit, MANY as u64);
    Ok(())
}
