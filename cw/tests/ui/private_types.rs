//! Makes a job public, but not the types it takes and gives.

mod jobs {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Model(u8);

    #[cw::job]
    pub fn takes(model: Model) -> u8 {
        model.0
    }

    #[cw::job]
    pub fn gives(x: u8) -> Model {
        Model(x)
    }
}

fn main() {}
