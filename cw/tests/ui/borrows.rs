//! Borrows where nothing can be borrowed.

#[cw::job]
fn mutable(x: &mut u64) {}

#[cw::job]
fn nested(x: Option<&str>, y: &[&str]) {}

#[cw::job]
fn named<'a>(x: &'a str) -> &'a str {
    x
}

#[cw::job]
fn lasting(x: &'static str) {}

fn main() {}
