//! Update masks (AIP-134): which fields of a resource an update changes.
//!
//! An absent mask means every updatable field that the request sets. A path that names a whole message covers its
//! parts.

use pbjson_types::FieldMask;
use windlass_core::{Error, error::nearest};

/// The paths of an update, checked.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    paths: Vec<String>,
}

impl Mask {
    /// Reads a mask. `known` are the updatable paths; one that ends in `.*` stands for every path below it. `set` are
    /// the paths that an absent mask means.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `update_mask` naming the known paths; also when there is nothing to update.
    pub(super) fn read(mask: Option<FieldMask>, known: &[&str], set: &[&str]) -> Result<Self, Error> {
        let given: Vec<String> = mask.map(|mask| mask.paths).unwrap_or_default();
        let paths: Vec<String> = if given.is_empty() {
            set.iter().map(|path| (*path).to_owned()).collect()
        } else if given == ["*"] {
            known.iter().filter(|path| !path.contains('.')).map(|path| (*path).to_owned()).collect()
        } else {
            given
        };
        for path in &paths {
            if !known.iter().any(|pattern| matches(pattern, path)) {
                let hint = nearest(path, known.iter().copied()).map(|n| format!("; did you mean {n}?"));
                return Err(Error::invalid(
                    "update_mask",
                    format!("{path:?} cannot be updated; known: {}{}", known.join(", "), hint.unwrap_or_default()),
                ));
            }
        }
        if paths.is_empty() {
            return Err(Error::invalid("update_mask", format!("nothing to update; name some of {}", known.join(", "))));
        }
        Ok(Self { paths })
    }

    /// Whether the mask covers `path`, by itself or by a message that holds it.
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|own| own == path || path.strip_prefix(own.as_str()).is_some_and(|r| r.starts_with('.')))
    }

    /// The last parts of the paths directly below `message`: `parameters.work_mem` gives `work_mem`.
    pub(super) fn below<'a>(&'a self, message: &'a str) -> impl Iterator<Item = &'a str> {
        self.paths.iter().filter_map(move |path| path.strip_prefix(message)?.strip_prefix('.'))
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.len() > prefix.len() && path.starts_with(prefix),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["labels", "quota", "quota.instances", "parameters", "parameters.*"];

    fn read(paths: &[&str]) -> Result<Mask, Error> {
        Mask::read(Some(FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() }), KNOWN, &["labels"])
    }

    #[test]
    fn a_path_covers_what_is_below_it() {
        let mask = read(&["quota", "parameters.work_mem"]).expect("known");
        assert!(mask.has("quota") && mask.has("quota.instances") && !mask.has("labels") && !mask.has("quotas"));
        assert_eq!(mask.below("parameters").collect::<Vec<_>>(), ["work_mem"]);
        assert!(!mask.has("parameters"));
    }

    #[test]
    fn an_absent_mask_means_what_is_set_and_a_star_all() {
        assert!(Mask::read(None, KNOWN, &["labels"]).expect("set").has("labels"));
        assert!(read(&["*"]).expect("star").has("quota.instances"));
        assert!(Mask::read(None, KNOWN, &[]).expect_err("nothing").message.contains("nothing to update"));
    }

    #[test]
    fn an_unknown_path_is_answered_with_the_known_ones() {
        let error = read(&["label"]).expect_err("slip");
        assert!(error.message.contains("known: labels, quota") && error.message.contains("did you mean labels?"));
        assert!(read(&["parameters."]).is_err());
    }
}
