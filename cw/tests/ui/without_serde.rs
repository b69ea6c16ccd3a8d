//! Takes and returns a type that is not serde.

struct Model(u64);

#[cw::job]
fn takes(model: Model, x: u8) -> u64 {
    model.0 + u64::from(x)
}

#[cw::job]
fn borrows(model: &Model) -> u64 {
    model.0
}

#[cw::job]
fn gives(x: u8) -> Model {
    Model(u64::from(x))
}

#[cw::job]
fn may_give(x: u8) -> Result<Model, String> {
    Ok(Model(u64::from(x)))
}

#[cw::main]
async fn main() -> cw::Result<()> {
    cw::spawn(takes, (Model(1), 2)).await?;
    Ok(())
}
