//! Engine versions that hosts have.

use jiff::Timestamp;
use windlass_proto::api::v1::EngineVersion;

use crate::output::Show;

impl Show for EngineVersion {
    const COLUMNS: &'static [&'static str] = &["ENGINE", "VERSION", "HOSTS"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        vec![self.engine.clone(), self.version.clone(), self.hosts.to_string()]
    }

    fn name(&self) -> String {
        format!("{} {}", self.engine, self.version)
    }
}
