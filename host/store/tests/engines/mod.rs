//! The engines that the contract is tested on, each with a place of its own.

mod etcd;

pub(crate) use etcd::Etcd;
use store::{Options, Store, StoreError};
use tempfile::TempDir;

pub(crate) enum Engine {
    Embedded(TempDir),
    Etcd(Etcd),
}

impl Engine {
    pub(crate) fn embedded() -> Engine {
        Engine::Embedded(tempfile::tempdir().unwrap())
    }

    pub(crate) fn etcd() -> Engine {
        Engine::Etcd(Etcd::start())
    }

    pub(crate) async fn open(&self, options: Options) -> Result<Store, StoreError> {
        match self {
            Engine::Embedded(dir) => Store::open(dir.path(), options),
            Engine::Etcd(etcd) => Store::connect(&etcd.options(), options).await,
        }
    }
}
