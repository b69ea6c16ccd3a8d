//! Puts the attribute on what is no free function.

#[cw::job]
struct Model;

#[cw::job]
mod jobs {}

impl Model {
    #[cw::job]
    fn run(&self) {}
}

trait Runs {
    #[cw::job]
    fn run(x: u8);
}

fn main() {}
