//! Functions of every shape that the attribute takes.

use crate::{Stats, square, weigh};

#[cw::job]
fn seven() -> u32 {
    7
}

#[cw::job]
fn nothing(_x: u8) {}

#[cw::job]
fn patterns(mut x: u64, _: u8, (p, q): (u8, u8)) -> u64 {
    x += u64::from(p + q);
    x
}

#[cw::job]
fn total(numbers: Vec<u64>) -> u64 {
    let mut total = 0;
    for number in numbers {
        total += number;
    }
    total
}

#[cw::job]
fn factorial(n: u64) -> u64 {
    if n == 0 { 1 } else { n * factorial(n - 1) }
}

#[cw::job(handle = Sum)]
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

#[cfg(any())]
#[cw::job]
fn absent(x: Nope) -> u8 {
    1
}

#[cw::job]
#[cfg(any())]
fn absent_too(x: Nope) -> u8 {
    1
}

#[cw::job]
fn never_called(_x: u8) -> u8 {
    1
}

#[cw::job]
#[inline]
#[must_use]
#[allow(clippy::needless_return)]
fn with_attributes(x: u8) -> u8 {
    return x;
}

/// A job for the whole crate.
#[cw::job]
pub(crate) fn shared(x: u8) -> u8 {
    x
}

#[cw::job]
fn inside(_n: u32) -> (bool, u32) {
    let ctx = cw::ctx();
    ctx.progress(0.5);
    (ctx.task().is_some() && !ctx.is_cancelled() && ctx.scratch().is_absolute(), ctx.attempt())
}

macro_rules! adder {
    ($name:ident, $type:ty, $by:expr) => {
        #[cw::job(retries = 1)]
        fn $name(x: $type) -> $type {
            x + $by
        }
    };
}

adder!(add_two, u16, 2);

async fn twice<J: cw::Job<Output = u64>>(
    job: J,
    a: J::Args<'static>,
    b: J::Args<'static>,
) -> cw::Result<u64> {
    Ok(cw::spawn(job, a).await? + cw::spawn(job, b).await?)
}

#[tokio::test]
async fn every_shape_runs() -> cw::Result<()> {
    assert_eq!(cw::spawn(seven, ()).await?, 7);
    assert_eq!(cw::map(seven, std::iter::repeat_n((), 3)).await?, [7; 3]);
    cw::spawn(nothing, 1).await?;
    assert_eq!(cw::spawn(patterns, (1, 2, (3, 4))).await?, 8);
    assert_eq!(cw::spawn(total, vec![1, 2]).await?, 3);
    assert_eq!(cw::spawn(total, (0..4).collect::<Vec<_>>()).await?, 6);
    assert_eq!(cw::spawn(total, ((0..4).collect(),)).await?, 6);
    assert_eq!(cw::spawn(factorial, 5).await?, 120);
    assert_eq!(cw::spawn(Sum, &b"ab"[..]).await?, sum(b"ab"));
    assert_eq!(cw::spawn(with_attributes, 3).await?, 3);
    assert_eq!(cw::spawn(shared, 2).await?, 2);
    assert_eq!(cw::spawn(inside, 1).await?, (true, 1));
    assert_eq!(cw::spawn(add_two, 40).await?, 42);
    assert!(cw::jobs().any(|job| job.path.ends_with("definitions::never_called")));
    Ok(())
}

#[tokio::test]
async fn a_job_stays_a_function() {
    let stats = Stats { mean: 2.0 };
    assert_eq!((square(3), seven(), with_attributes(1), shared(2)), (9, 7, 1, 2));
    let local: Vec<u64> = [1, 2, 3].into_iter().map(*square).collect();
    assert_eq!(local, [1, 4, 9]);
    assert_eq!(weigh("a", b"b", &stats).await, 4);
}

#[tokio::test]
async fn jobs_in_place_and_any_job() -> cw::Result<()> {
    let k = 3u64;
    assert_eq!(cw::spawn(cw::job_fn!(|x: u64, y: u64| -> u64 { x * y }), (k, 4)).await?, 12);
    let upper = cw::map(cw::job_fn!(|s: &str| -> String { s.to_uppercase() }), ["a", "b"]);
    assert_eq!(upper.await?, ["A", "B"]);
    assert_eq!(twice(square, (2,), (3,)).await?, 13);
    Ok(())
}
