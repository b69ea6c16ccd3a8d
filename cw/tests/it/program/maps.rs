//! Many calls.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt;

use crate::jobs::*;

pub(crate) async fn whole(dir: &Path) -> cw::Result<()> {
    let squares = cw::map(square, 0..500).await?;
    assert!(squares.iter().zip(0..).all(|(found, n): (&u64, u64)| *found == n * n));
    assert_eq!(squares.len(), 500);
    assert!(cw::map(square, 0..0).await?.is_empty());
    assert_eq!(cw::map(add, [(1, 2), (3, 4)]).await?, [3, 7]);
    assert_eq!(cw::map(later, 0..20).await?, (0..20).collect::<Vec<_>>());
    let names: HashMap<u64, String> = cw::map(pair, 0..30).collect().await?;
    assert!(names.len() == 30 && names.iter().all(|(n, name)| *name == n.to_string()));

    // The second ends before the first, and comes after it.
    let (a, b, c) = (dir.join("a"), dir.join("b"), dir.join("c"));
    let gates = [(a.as_path(), c.as_path()), (b.as_path(), a.as_path())];
    let opener = cw::spawn(gate, (c.as_path(), b.as_path()));
    assert_eq!(cw::map(gate, gates).await?, [(), ()]);
    opener.await?;

    assert_eq!(cw::map(square, 0..10).wait()?[9], 81);
    // Endless, so it ends only if the first error ends it.
    let error = cw::map(halve, 0..).await.unwrap_err();
    assert!(error.downcast::<Odd>().is_some(), "{error}");
    assert_eq!(cw::map(square, 0..100).await?.len(), 100, "the rest was cancelled");
    Ok(())
}

pub(crate) async fn streamed(dir: &Path) -> cw::Result<()> {
    let mut runs = cw::map(halve, 0..40).unordered();
    let mut seen = [false; 40];
    while let Some((index, result)) = runs.next().await {
        assert!(!std::mem::replace(&mut seen[index], true), "{index} came twice");
        match result {
            Ok(half) => assert_eq!(half * 2, index as u64),
            Err(error) => assert_eq!(error.downcast(), Some(Odd { n: index as u64 })),
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    assert!(runs.next().await.is_none(), "the end stays the end");

    // What ends first comes first: the first waits for the second's file.
    let (a, b) = (dir.join("one"), dir.join("two"));
    let gates = [(a.as_path(), b.as_path()), (b.as_path(), a.as_path())];
    assert_eq!(cw::map(gate, gates).unordered().count().await, 2);

    let some: Vec<_> = cw::map(square, 0..).unordered().take(50).collect().await;
    assert_eq!(some.len(), 50);
    for (index, result) in cw::map(square, 0..50).unordered() {
        assert_eq!(result?, (index * index) as u64);
    }
    Ok(())
}

pub(crate) async fn lazy() -> cw::Result<()> {
    let read = AtomicUsize::new(0);
    let inputs = (0..).inspect(|_| {
        read.fetch_add(1, Ordering::Relaxed);
    });
    let mut runs = cw::map(square, inputs).in_flight(8).unordered();
    assert_eq!(read.load(Ordering::Relaxed), 0, "nothing is read before it is wanted");
    for taken in 1..=300 {
        let (index, result) = runs.next().await.expect("it is endless");
        assert_eq!(result?, (index * index) as u64);
        let read = read.load(Ordering::Relaxed);
        assert!((taken..=taken + 8).contains(&read), "{read} read for {taken} results");
    }
    drop(runs);
    assert_eq!(cw::map(square, (0..).take(1000)).in_flight(3).await?.len(), 1000);

    // Inputs that take their time are not waited for: what there is begins, and is handed out.
    let read = AtomicUsize::new(0);
    let slow = (0..2_000).inspect(|_| {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(3) {}
        read.fetch_add(1, Ordering::Relaxed);
    });
    let mut runs = cw::map(square, slow).unordered();
    let (index, result) = runs.next().await.expect("there are more");
    assert_eq!(result?, (index * index) as u64);
    let read = read.load(Ordering::Relaxed);
    assert!(read < 1_500, "{read} inputs were read before the first result came");
    Ok(())
}
