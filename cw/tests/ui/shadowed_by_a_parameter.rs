//! Gives parameters, a loop's variable and a pattern the name of a job.

#[cw::job]
fn step(n: u64) -> u64 {
    n * n
}

struct P {
    step: u64,
}

fn helper(step: u64) -> u64 {
    step
}

fn unpacked(P { step }: P) -> u64 {
    step
}

#[cw::main]
fn main() {
    for step in 0..3u64 {
        helper(step);
    }
    (0..3u64).for_each(|step| drop(step));
    unpacked(P { step: 1 });
}
