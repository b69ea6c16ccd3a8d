//! Makes a job inside an `impl`. The macro cannot see where it stands, so the words are the compiler's.

struct Model;

impl Model {
    #[cw::job]
    fn run(x: u8) -> u8 {
        x
    }
}

fn main() {}
