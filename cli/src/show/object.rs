//! Databases, users and extensions inside an instance.

use jiff::Timestamp;
use windlass_proto::api::v1::{DatabaseObject, database_object::Kind};

use super::text::{when, word};
use crate::{names, output::Show};

impl Show for DatabaseObject {
    const COLUMNS: &'static [&'static str] = &["NAME", "STATE", "FOR", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let relation = match self.kind() {
            Kind::Database if self.owner.is_empty() => String::new(),
            Kind::Database => format!("owner {}", self.owner),
            Kind::User if self.databases.is_empty() => "all databases".to_owned(),
            Kind::User => self.databases.clone(),
            Kind::Extension => format!("database {}", self.database),
            Kind::Unspecified => String::new(),
        };
        vec![
            names::short(&self.name).to_owned(),
            word(self.state().as_str_name()),
            relation,
            when(self.create_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
