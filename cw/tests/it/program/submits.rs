//! Calls with callbacks.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use crate::jobs::*;

/// What the callbacks saw, in their order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(ThreadId, &'static str)>>>);

impl Log {
    fn add(&self, name: &'static str) {
        self.0.lock().expect("no holder panics").push((thread::current().id(), name));
    }
}

pub(crate) async fn submit(dir: &Path) {
    cw::wait_all().await;
    let log = Log::default();
    let (made, open) = (dir.join("made"), dir.join("open"));
    let log_gate = log.clone();
    cw::submit(gate, (made.as_path(), open.as_path()), move |_, result| {
        result.expect("its gate was opened");
        log_gate.add("gate");
    });

    let log_square = log.clone();
    let (tell, told) = std::sync::mpsc::channel();
    let token = cw::submit(square, 2, move |task, result| {
        assert_eq!(result.expect("a square"), 4);
        log_square.add("square");
        tell.send(task).expect("it is waited for");
        fs::write(open, "").expect("the test's folder can be written to");
    });

    cw::submit(square, 3, |_, _| panic!("on purpose"));
    let log_failed = log.clone();
    cw::submit(explode, 4, move |_, result| {
        assert!(result.expect_err("it panics").is_panic());
        log_failed.add("failed");
    });
    let log_outer = log.clone();
    cw::submit(square, 5, move |_, _| {
        let log_inner = log_outer.clone();
        cw::submit(square, 6, move |_, result| {
            assert_eq!(result.expect("a square"), 36);
            log_inner.add("inner");
        });
        log_outer.add("outer");
    });
    // Neither handles nor maps are waited for.
    let handle = cw::spawn(gate, (made.as_path(), dir.join("never").as_path()));
    cw::wait_all().await;
    assert!(!handle.is_finished());

    assert_eq!(told.recv().expect("it was called"), token);
    let log = log.0.lock().expect("no holder panics");
    let at = |name| log.iter().position(|(_, found)| *found == name).expect(name);
    assert!(at("square") < at("gate") && at("outer") < at("inner"), "{log:?}");
    assert_eq!(log.len(), 5, "{log:?}, one of them `failed` at {}", at("failed"));
    assert!(log.iter().all(|(thread, _)| *thread == log[0].0), "one thread for all: {log:?}");
    assert_ne!(log[0].0, thread::current().id());
}
