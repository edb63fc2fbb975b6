//! Members with real PostgreSQL and MariaDB servers. What has the same shape runs for every engine.

mod agent_process;
mod changes;
mod client;
mod crashes;
mod creates;
mod fixture;
mod objects;
mod removal;
mod supervision;
mod tls;
