//! Borrows where nothing can be borrowed.

#[cw::job]
fn mutable(_x: &mut u64) {}

#[cw::job]
fn nested(_x: Option<&str>, _y: &[&str]) {}

#[cw::job]
fn named<'a>(x: &'a str, y: &'a str) -> &'a str {
    if x < y { x } else { y }
}

#[cw::job]
fn lasting(_x: &'static str) {}

fn main() {}
