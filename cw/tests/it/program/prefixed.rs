//! A program that uses names of cw's flags for itself, and gives those of cw a prefix.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[derive(clap::Args)]
struct Opts {
    /// What this program calls a role
    #[arg(long, short)]
    role: String,

    /// What this program calls slots
    #[arg(long)]
    slots: u64,
}

#[cw::main(prefix = "cw-")]
async fn main(opts: Opts) -> cw::Result<()> {
    let squares = cw::map(square, 0..opts.slots).await?;
    println!("{} {squares:?}", opts.role);
    Ok(())
}
