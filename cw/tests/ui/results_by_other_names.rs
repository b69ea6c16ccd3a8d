//! Names a result otherwise, and something else `Result`.

mod own {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Result(u8);
}

type Res<T> = Result<T, std::io::Error>;

#[cw::job]
fn aliased(x: u8) -> Res<u8> {
    Ok(x)
}

#[cw::job]
fn other(_x: u8) -> own::Result {
    loop {}
}

fn main() {}
