//! Captures a variable in a job in place, or leaves types out.

#[cw::main]
async fn main() -> cw::Result<()> {
    let k = 3;
    cw::spawn(cw::job_fn!(|x: u64| -> u64 { x * k }), 3).await?;
    cw::spawn(cw::job_fn!(|x| x + 1), 3).await?;
    Ok(())
}
