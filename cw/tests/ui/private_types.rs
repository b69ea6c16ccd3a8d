//! Makes jobs public, but not the types they take and give.

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

    #[cw::job]
    pub async fn exchanges(model: &Model) -> Result<Model, String> {
        Ok(Model(model.0))
    }
}

fn main() {}
