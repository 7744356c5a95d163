//! Every store passes the same suite.

#[cfg(feature = "fjall")]
use stream_core::store::{FjallOptions, FjallStores};
use stream_core::store::{MemoryStores, SledOptions, SledStores, StoreBackend};

use crate::store_suite::World;

/// The contents are in the backend: it is the machine that stays when a process goes.
struct Memory(MemoryStores);

impl World for Memory {
    fn backend(&self) -> &dyn StoreBackend {
        &self.0
    }

    fn restart(&mut self) {
        self.0 = self.0.clone();
    }
}

struct Sled {
    dir: tempfile::TempDir,
    stores: Option<SledStores>,
}

impl Sled {
    fn new() -> Self {
        let mut world = Self { dir: tempfile::tempdir().unwrap(), stores: None };
        world.restart();
        world
    }
}

impl World for Sled {
    fn backend(&self) -> &dyn StoreBackend {
        self.stores.as_ref().unwrap()
    }

    fn restart(&mut self) {
        // The lock of the directory is free only when the last one is gone.
        self.stores = None;
        let options = SledOptions::default().cache_bytes(8 << 20);
        self.stores = Some(SledStores::open_dir_with(self.dir.path().join("state"), options).unwrap());
    }
}

#[cfg(feature = "fjall")]
struct Fjall {
    dir: tempfile::TempDir,
    stores: Option<FjallStores>,
}

#[cfg(feature = "fjall")]
impl Fjall {
    fn new() -> Self {
        let mut world = Self { dir: tempfile::tempdir().unwrap(), stores: None };
        world.restart();
        world
    }
}

#[cfg(feature = "fjall")]
impl World for Fjall {
    fn backend(&self) -> &dyn StoreBackend {
        self.stores.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.stores = None;
        let options = FjallOptions::default().cache_bytes(8 << 20).memtable_bytes(1 << 20);
        self.stores = Some(FjallStores::open_dir_with(self.dir.path().join("state"), options).unwrap());
    }
}

store_suite!(memory, Memory(MemoryStores::new()));
// Remembering what a crash would lose changes nothing as long as there is none.
store_suite!(memory_crashable, Memory(MemoryStores::crashable()));
store_suite!(sled, Sled::new());
#[cfg(feature = "fjall")]
store_suite!(fjall, Fjall::new());
