//! `cw::testing`, used as users' tests use it: by several tests of one process at once.

use std::sync::Barrier;

/// What each test here says: they share the process, and the first one counts.
const THREADS: u32 = 3;

static ALL: Barrier = Barrier::new(THREADS as usize);

/// Ends only when as many run at the same time as there are threads.
#[cw::job]
fn meet() {
    ALL.wait();
}

#[cw::job]
fn half(n: u32) -> Option<u32> {
    n.is_multiple_of(2).then_some(n / 2)
}

#[test]
fn jobs_run_in_as_many_threads_as_the_test_says() {
    cw::testing::threads(THREADS);
    // Once each: tasks known to be short are fed to a thread several at a time, and could wait for one another there.
    cw::map(meet, (0..THREADS).map(|_| ())).wait().expect("all threads meet");
    // Too late, and harmless.
    cw::testing::threads(1);
    assert_eq!(cw::spawn(half, 6).wait().expect("it runs"), Some(3));
}

#[test]
fn tests_share_the_threads() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                cw::testing::threads(THREADS);
                assert_eq!(cw::map(half, [4, 5]).wait().expect("it runs"), [Some(2), None]);
            });
        }
    });
}

#[test]
fn fit_jobs_are_fit() {
    cw::testing::check_jobs().unwrap();
}
