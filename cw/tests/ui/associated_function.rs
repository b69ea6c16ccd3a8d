//! Makes jobs inside an `impl`. Only the first says so to the macro; of the second the compiler speaks itself.

struct Model;

impl Model {
    #[cw::job]
    fn make(_x: u8) -> Self {
        Self
    }
}

impl Model {
    #[cw::job]
    fn run(x: u8) -> u8 {
        x
    }
}

fn main() {}
