//! The driver: delegates to one file per concern.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, engine::Engine};

use super::{conf, discover, init, run};
use crate::{
    engines::{EngineDriver, Installation, Rendered, Server, Session},
    host::{Process, UnitSpec, account::Account, helper::Priority},
};

/// The driver of MariaDB.
pub struct Mariadb;

#[async_trait]
impl EngineDriver for Mariadb {
    fn engine(&self) -> Engine {
        Engine::Mariadb
    }

    async fn discover(&self, directories: &[PathBuf], account: &Account) -> Vec<Installation> {
        discover::discover(directories, account).await
    }

    async fn initialise(&self, server: &Server, priority: Priority, cancel: &CancellationToken) -> Result<(), Error> {
        init::initialise(server, priority, cancel).await
    }

    fn check_data(&self, server: &Server) -> Result<(), Error> {
        init::check_data(server)
    }

    fn render(&self, server: &Server, parameters: &BTreeMap<String, String>) -> Result<Rendered, Error> {
        conf::render(server, parameters)
    }

    async fn check(&self, server: &Server, rendered: &Rendered, cancel: &CancellationToken) -> Result<(), Error> {
        conf::check(server, rendered, cancel).await
    }

    fn unit(&self, server: &Server) -> UnitSpec {
        run::unit(server)
    }

    async fn ready(&self, server: &Server, _process: Process) -> Box<dyn Session> {
        run::ready(server).await
    }

    async fn connect(&self, server: &Server) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(run::connect(server).await?))
    }
}
