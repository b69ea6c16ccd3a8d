//! A program that says in code where its tasks run.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

/// Never ends by itself.
#[cw::job]
fn stall() {
    println!("it runs");
    loop {
        std::thread::park();
    }
}

fn main() -> cw::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // An executor has no words.
    if words.first() != Some(&"no-init") {
        cw::init()?;
    }
    let cluster = match words[..] {
        ["no-init", "local"] | ["local"] => cw::Cluster::local()?,
        ["no-init", name] => cw::Cluster::connect(name).wait()?,
        ["slots", slots] => cw::Cluster::local_slots(slots.parse().expect("a number"))?,
        ["connect", name] => cw::Cluster::connect(name).wait()?,
        ["retry"] => {
            assert!(cw::Cluster::connect("nowhere").wait().is_err());
            let _here = cw::Cluster::local()?;
            return Ok(cw::spawn(stall, ()).wait()?);
        }
        ["again", name] => {
            cw::Cluster::connect(name).wait()?;
            // The same once more is fine, another is not.
            cw::Cluster::connect(name).wait()?;
            cw::Cluster::local()?
        }
        _ => unreachable!("{words:?}"),
    };
    println!("on {cluster}: {}", cw::spawn(square, 3).wait()?);
    Ok(())
}
