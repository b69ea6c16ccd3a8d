//! Writes a `main` that cannot be one.

#[cw::main]
fn start() {}

#[cw::main]
struct Main;

mod options {
    #[cw::main(threads = 4)]
    fn main() {}
}

mod two_parameters {
    #[cw::main]
    fn main(_a: u8, _b: u8) {}
}

mod borrowed {
    #[cw::main]
    fn main(_opts: &u8) {}
}

mod method {
    struct Program;

    impl Program {
        #[cw::main]
        fn main(&self) {}
    }
}

mod opaque {
    #[cw::main]
    fn main(_opts: impl Copy) {}
}

mod generic {
    #[cw::main]
    fn main<T>()
    where
        T: Copy,
    {
    }
}

mod qualified {
    #[cw::main]
    const unsafe extern "C" fn main() {}
}

mod runtime {
    #[cw::main]
    #[tokio::main]
    async fn main() {}
}

fn main() {}
