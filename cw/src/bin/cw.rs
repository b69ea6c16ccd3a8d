//! The installed `cw`: `cw results FILE` shows what programs have recorded.

fn main() -> std::process::ExitCode {
    cw::__private::cli::main()
}
