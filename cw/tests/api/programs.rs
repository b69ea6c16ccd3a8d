//! `main` functions of every shape. They compile, and nothing calls them.

use std::process::ExitCode;

mod with_arguments {
    #[derive(clap::Args)]
    struct Opts {
        #[arg(long, default_value_t = 1000)]
        runs: u64,
        /// A field of a name that cw's flags have too.
        #[arg(long = "my-slots")]
        slots: Option<usize>,
    }

    #[cw::main]
    async fn main(Opts { runs, slots }: Opts) -> anyhow::Result<()> {
        anyhow::ensure!(runs > 0 && slots.is_none_or(|slots| slots > 0), "nothing to run");
        Ok(())
    }

    pub(super) const MAIN: fn() -> super::ExitCode = main;
}

mod with_a_parser {
    #[derive(clap::Parser)]
    #[command(version = "9.9", about = "mine")]
    struct Opts {
        files: Vec<String>,
        #[arg(short, env = "CW_TEST_N", default_value_t = 3)]
        n: u64,
    }

    #[cw::main]
    fn main(opts: Opts) -> cw::Result<()> {
        let squares: Vec<u64> = cw::map(crate::square, 0..opts.n).wait()?;
        println!("{squares:?} {:?}", opts.files);
        Ok(())
    }

    pub(super) const MAIN: fn() -> super::ExitCode = main;
}

mod with_an_exit_code {
    #[cw::main]
    async fn main() -> super::ExitCode {
        super::ExitCode::from(3)
    }

    pub(super) const MAIN: fn() -> super::ExitCode = main;
}

mod with_nothing {
    #[cw::main]
    fn main() {}

    pub(super) const MAIN: fn() -> super::ExitCode = main;
}

const _: [fn() -> ExitCode; 4] =
    [with_arguments::MAIN, with_a_parser::MAIN, with_an_exit_code::MAIN, with_nothing::MAIN];
