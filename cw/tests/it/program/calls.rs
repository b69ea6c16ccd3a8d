//! Single calls.

use std::{fs, path::Path, time::Duration};

use cw::TaskErrorKind;

use crate::{jobs::*, until, until_there};

pub(crate) async fn spawn() -> cw::Result<()> {
    assert_eq!(square(3), 9, "a plain call stays a plain call");
    assert_eq!(cw::spawn(square, 3).await?, 9);
    assert_eq!(cw::spawn(square, (4,)).await?, 16);
    assert_eq!(cw::spawn(add, (2, 3)).await?, 5);
    assert_eq!(cw::spawn(answer, ()).await?, 42);
    assert_eq!(cw::spawn(later, 7).await?, 7);

    assert_eq!(cw::spawn(square, 5).wait()?, 25);
    assert_eq!(cw::spawn(later, 8).wait()?, 8);

    let (first, second) = (cw::spawn(square, 6), cw::spawn(square, 7));
    assert_ne!(first.id(), second.id());
    assert_eq!(second.await?, 49);
    assert_eq!(first.await?, 36);
    Ok(())
}

pub(crate) async fn borrow() -> cw::Result<()> {
    let text = String::from("as far as the eye can see");
    assert_eq!(cw::spawn(words, text.as_str()).await?, 7);
    let numbers = vec![1, 2, 3];
    let weighed = cw::spawn(weigh, (numbers.as_slice(), "ada", Path::new("/tmp"))).await?;
    assert_eq!(weighed, (6, "ADA".to_owned(), "/tmp/weight".into()));
    // The job's own parameter list, with its coercions.
    let weighed = cw::spawn(weigh, weigh.args(&numbers, &text, Path::new("."))).await?;
    assert_eq!(weighed.0, 6);
    let lines = ["one", "one two", ""];
    assert_eq!(cw::map(words, lines).await?, [1, 2, 0]);
    Ok(())
}

pub(crate) async fn fail() {
    let error = cw::spawn(halve, 7).await.unwrap_err();
    assert!(error.is_failed() && error.attempts() == 1, "{error}");
    assert_eq!(error.downcast::<Odd>(), Some(Odd { n: 7 }));
    assert_eq!(error.downcast::<String>(), None);
    let line = error.to_string();
    assert!(line.contains("halve") && line.contains(&error.task().to_string()), "{line}");
    assert!(line.ends_with("failed: 7 is odd"), "{line}");

    let missing = Path::new("/nowhere/model");
    let error = cw::spawn(simulate, missing).await.unwrap_err();
    let TaskErrorKind::Failed { message, chain } = error.kind() else { panic!("{error:?}") };
    assert_eq!(message, "the simulation failed");
    assert_eq!((chain.len(), chain[0].as_str()), (2, "the model cannot be read"));
    let whole = format!("{error:#}");
    assert!(whole.contains("the simulation failed: the model cannot be read: No such file"), "{whole}");
}

pub(crate) async fn limits(dir: &Path) -> cw::Result<()> {
    let count = |name: &str| dir.join(name);
    let retries = |n| cw::options().retries(n);
    assert_eq!(retries(2).spawn(flaky, (count("a").as_path(), 3)).await?, 3);
    let error = retries(1).spawn(flaky, (count("b").as_path(), 3)).await.unwrap_err();
    assert!(error.is_failed() && error.attempts() == 2, "{error}");
    assert_eq!(fs::read(count("b"))?.len(), 2);
    let error = cw::spawn(flaky, (count("c").as_path(), 3)).await.unwrap_err();
    assert_eq!(error.attempts(), 1);
    // What the job says, and what the call says over it.
    assert_eq!(cw::spawn(stubborn, (count("d").as_path(), 3)).await?, 3);
    let error = retries(0).spawn(stubborn, (count("e").as_path(), 3)).await.unwrap_err();
    assert_eq!(error.attempts(), 1);

    let after = Duration::from_millis(100);
    let error = cw::options().timeout(after).spawn(stall, ()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (&TaskErrorKind::TimedOut { after }, 1));
    let error = retries(1).timeout(after).spawn(stall, ()).await.unwrap_err();
    assert!(error.is_timeout() && error.attempts() == 2, "{error}");
    let calm = cw::options().timeout(Duration::from_secs(100));
    assert_eq!(calm.map(square, 0..20).await?.len(), 20);
    Ok(())
}

/// One slot is held while the others are submitted; at most the one sent ahead runs out of turn.
pub(crate) async fn priority(dir: &Path) -> cw::Result<()> {
    let (made, open, log) = (dir.join("made"), dir.join("open"), dir.join("log"));
    let held = cw::spawn(gate, (made.as_path(), open.as_path()));
    until_there(&made);
    let call = |priority: i32, n: u32| {
        let line = format!("{priority}:{n}");
        cw::options().priority(priority).spawn(note, (log.as_path(), line.as_str()))
    };
    let calls: Vec<_> =
        [0, -1, 5].into_iter().flat_map(|priority| (0..4).map(move |n| (priority, n))).collect();
    let handles: Vec<_> = calls.into_iter().map(|(priority, n)| call(priority, n)).collect();
    fs::write(&open, "")?;
    held.await?;
    for handle in handles {
        handle.await?;
    }
    let ran = fs::read_to_string(&log)?;
    let in_order: Vec<_> = [5, 0, -1].iter().flat_map(|p| (0..4).map(move |n| format!("{p}:{n}"))).collect();
    let ran: Vec<_> = ran.lines().filter(|line| *line != "0:0").collect();
    assert_eq!(ran, in_order.iter().filter(|line| *line != "0:0").collect::<Vec<_>>());
    Ok(())
}

pub(crate) fn detach(dir: &Path) {
    let file = dir.join("made");
    drop(cw::spawn(note, (file.as_path(), "detached")));
    until_there(&file);
}

pub(crate) async fn abort(dir: &Path) -> cw::Result<()> {
    let (made, never) = (dir.join("made"), dir.join("never"));
    let running = cw::spawn(gate, (made.as_path(), never.as_path()));
    until_there(&made);
    // More than there are slots, so that some wait.
    let others: Vec<_> = (0..10).map(|_| cw::spawn(stall, ())).collect();
    assert!(!running.is_finished());
    running.abort();
    others.iter().for_each(cw::TaskHandle::abort);
    assert!(running.await.unwrap_err().is_cancelled());
    for handle in others {
        assert!(handle.await.unwrap_err().is_cancelled());
    }
    assert_eq!(cw::map(square, 0..50).await?.len(), 50, "the slots are free again");

    let ended = cw::spawn(square, 9);
    until("the task has ended", || ended.is_finished());
    ended.abort();
    assert_eq!(ended.await?, 81, "what has ended keeps its result");
    Ok(())
}

pub(crate) async fn inside() {
    for how in ["spawn", "map", "submit", "set"] {
        let error = cw::spawn(call_within, how).await.unwrap_err();
        assert!(error.to_string().contains("a job cannot call jobs yet"), "{how}: {error}");
    }
}
