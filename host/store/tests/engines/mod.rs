//! The engines that the contract is tested on, each with a place of its own.

use store::{Options, Store, StoreError};
use tempfile::TempDir;

pub(crate) enum Engine {
    Embedded(TempDir),
}

impl Engine {
    pub(crate) fn embedded() -> Engine {
        Engine::Embedded(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn open(&self, options: Options) -> Result<Store, StoreError> {
        match self {
            Engine::Embedded(dir) => Store::open(dir.path(), options),
        }
    }
}
