//! The futures and streams of `cw` beside those of tokio and futures, whose methods have the same names.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt, stream::FuturesUnordered};

use crate::{Stats, square, weigh};

#[tokio::test]
async fn streams_with_extension_traits_in_scope() -> cw::Result<()> {
    let (mut runs, mut seen) = (cw::map(square, 0..10).unordered(), 0);
    while let Some((index, result)) = runs.next().await {
        assert_eq!(result?, (index * index) as u64);
        seen += 1;
    }
    assert_eq!(seen, 10);
    let results: Vec<u64> =
        cw::map(square, 0..10).unordered().map(|(_, result)| result).try_collect().await?;
    assert_eq!(results.len(), 10);
    let some: Vec<(usize, Result<u64, cw::TaskError>)> =
        cw::map(square, 0..10).unordered().take(3).collect().await;
    assert_eq!(some.len(), 3);
    Ok(())
}

#[tokio::test]
async fn handles_are_futures() -> cw::Result<()> {
    let all: Vec<u64> = futures::future::try_join_all((0..5).map(|i| cw::spawn(square, i))).await?;
    assert_eq!(all, [0, 1, 4, 9, 16]);
    assert_eq!(tokio::try_join!(cw::spawn(square, 1), cw::spawn(square, 2))?, (1, 4));
    assert_eq!(cw::spawn(square, 3).map(|result| result.unwrap()).await, 9);
    let in_time = tokio::time::timeout(Duration::from_secs(60), cw::spawn(square, 4)).await;
    assert_eq!(in_time.expect("a square takes no minute")?, 16);

    let (mut handle, mut tick) = (cw::spawn(square, 4), tokio::time::interval(Duration::from_secs(1)));
    let result = loop {
        tokio::select! {
            result = &mut handle => break result?,
            _ = tick.tick() => {}
        }
    };
    assert_eq!(result, 16);

    let (mut handles, mut total): (FuturesUnordered<_>, _) =
        ((0..4).map(|i| cw::spawn(square, i)).collect(), 0);
    while let Some(result) = handles.next().await {
        total += result?;
    }
    assert_eq!(total, 14);
    let handles: Vec<cw::TaskHandle<u64>> = vec![cw::spawn(square, 1), cw::spawn(square, 2)];
    for handle in handles {
        handle.await?;
    }
    cw::spawn(square, 5); // Dropped, and nothing warns.
    Ok(())
}

/// A future of `cw` that borrows its inputs is `Send`, so all of it may move to another task.
#[tokio::test]
async fn everything_inside_a_tokio_task() -> cw::Result<()> {
    let task = tokio::spawn(async {
        let (data, stats, names) = (vec![1u8; 3], Stats { mean: 1.0 }, [String::from("q")]);
        let inputs = || names.iter().map(|name| (name.as_str(), &data[..], &stats));
        let mut total = cw::spawn(weigh, ("a", &data[..], &stats)).await?;
        let mut runs = cw::map(weigh, inputs()).unordered();
        while let Some((_, result)) = runs.next().await {
            total += result?;
        }
        total += cw::map(weigh, inputs()).await?[0];
        let (tell, told) = std::sync::mpsc::channel();
        let sent =
            cw::submit(square, 4, move |task, result| tell.send((task, result)).expect("it is received"));
        cw::wait_all().await;
        let (task, result) = told.try_recv().expect("all callbacks have been called");
        assert_eq!((task, result?), (sent, 16));
        let mut set = cw::TaskSet::new();
        set.spawn(square, 2);
        while let Some(result) = set.join_next().await {
            total += result? as usize;
        }
        Ok::<_, cw::Error>(total)
    });
    assert_eq!(task.await.expect("the task does not panic")?, 19);
    Ok(())
}

#[test]
fn without_async() -> cw::Result<()> {
    assert_eq!(cw::spawn(square, 3).wait()?, 9);
    let squares: Vec<u64> = cw::map(square, 0..3).collect().wait()?;
    assert_eq!(squares, [0, 1, 4]);
    for (index, result) in cw::map(square, 0..10).unordered() {
        assert_eq!(result?, (index * index) as u64);
    }
    let (mut runs, mut seen) = (cw::map(square, 0..10).unordered(), 0);
    while let Some((_, result)) = runs.next().wait() {
        result?;
        seen += 1;
    }
    assert_eq!(seen, 10);
    let (tell, told) = std::sync::mpsc::channel();
    cw::submit(square, 4, move |_, result| tell.send(result).expect("it is received"));
    cw::wait_all().wait();
    assert_eq!(told.try_recv().expect("the callback has been called")?, 16);
    Ok(())
}
