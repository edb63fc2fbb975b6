//! Checks of what a user asks of an instance that need no database.
//!
//! Every function names the field as the API does, the limit and the remedy.

use windlass_core::{Error, Reason, engine::Engine, replication::Replication, size::Resources};

/// The size that is asked for: parts that are 0 take the default. Checked against the limits.
///
/// # Errors
/// `INVALID_FIELD` with one violation for each part out of range.
pub(super) fn resources(field: &str, asked: Resources) -> Result<Resources, Error> {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let size = Resources {
        cpu_millis: or(asked.cpu_millis, Resources::DEFAULT.cpu_millis),
        memory_bytes: or(asked.memory_bytes, Resources::DEFAULT.memory_bytes),
        disk_bytes: or(asked.disk_bytes, Resources::DEFAULT.disk_bytes),
    };
    size.check().map_err(|error| error.under(field))?;
    Ok(size)
}

/// Whether instances of this engine may be replicated so.
///
/// # Errors
/// `NOT_SUPPORTED` when replicas are asked of an engine that has none yet.
pub(super) fn replicable(engine: Engine, replication: &Replication) -> Result<(), Error> {
    let descriptor = engine.descriptor();
    if replication.replicas == 0 || descriptor.has_replicas {
        return Ok(());
    }
    Err(Error::precondition(
        Reason::NotSupported,
        format!("replicas of {} are not built yet; leave out replication.replicas", descriptor.title),
    ))
}

#[cfg(test)]
mod tests {
    use windlass_core::size::GIB;

    use super::*;

    #[test]
    fn missing_parts_of_a_size_take_the_default() {
        let size = resources("r", Resources { memory_bytes: GIB, ..Resources::default() }).expect("legal");
        assert_eq!(size, Resources { memory_bytes: GIB, ..Resources::DEFAULT });
        let error = resources("instance.resources", Resources { cpu_millis: 1, ..Resources::default() });
        assert_eq!(error.expect_err("tiny").violations[0].field, "instance.resources.cpu_millis");
    }
}
