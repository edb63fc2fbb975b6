//! The engines that this agent can run.

use std::sync::Arc;

use windlass_core::engine::Engine;

use super::{EngineDriver, mariadb::Mariadb, postgres::Postgres};

/// The drivers.
#[derive(Clone)]
pub struct Registry(Vec<Arc<dyn EngineDriver>>);

/// Every driver.
pub fn registry() -> Registry {
    Registry(vec![Arc::new(Postgres), Arc::new(Mariadb)])
}

impl Registry {
    /// All drivers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn EngineDriver>> {
        self.0.iter()
    }

    /// The driver of an engine; None if this agent was built without it.
    pub fn get(&self, engine: Engine) -> Option<&Arc<dyn EngineDriver>> {
        self.0.iter().find(|driver| driver.engine() == engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_one_driver() {
        for engine in Engine::ALL {
            assert_eq!(registry().iter().filter(|driver| driver.engine() == *engine).count(), 1, "{engine}");
        }
    }
}
