//! Seeds of the simulator. A release build runs many more, see `examples/sim.rs`.

use crate::sim::{self, bugs::Bug};

#[test]
fn no_seed_breaks_a_rule() {
    for seed in 0..1_000 {
        let outcome = sim::run(seed, Bug::None, false);
        assert_eq!(outcome.broken, None, "{}", outcome.knobs);
    }
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..20 {
        let (first, second) = (sim::run(seed, Bug::None, false), sim::run(seed, Bug::None, true));
        assert_eq!((first.hash, first.steps, first.time), (second.hash, second.steps, second.time), "{seed}");
        assert!(!second.trace.is_empty());
    }
}
