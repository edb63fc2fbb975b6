//! The configuration file and the settings in force: flag, then environment, then the profile.
//!
//! Invariant: a file that holds a key and that others may read is refused, and is never written in that state. A crash
//! while writing leaves the old file: the new one is renamed into place.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use windlass_kit::files::{self, Access};

use crate::{args::GlobalArgs, failure::Failure};

/// The file's content.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The profile used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Profiles by name.
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// One installation, as a user of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
}

/// Where the file is: `WINDLASS_CONFIG`, else `windlass/config.toml` in the user's configuration directory.
pub(crate) fn path() -> Result<PathBuf, Failure> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("WINDLASS_CONFIG")
        .or_else(|| Some(set("XDG_CONFIG_HOME")?.join("windlass/config.toml")))
        .or_else(|| Some(set("HOME")?.join(".config/windlass/config.toml")))
        .ok_or_else(|| Failure::Usage("no configuration directory; set HOME or WINDLASS_CONFIG".to_owned()))
}

impl File {
    /// Reads the file; a missing one is empty.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: windlass_core::Error| Failure::Usage(error.message);
        let Some(text) = files::read_if_there(path).map_err(wrong)? else { return Ok(Self::default()) };
        let file: Self = toml::from_str(&text)
            .map_err(|error| Failure::Usage(format!("{} is not valid: {}", path.display(), error.message())))?;
        if file.profiles.values().any(|profile| profile.token.is_some()) {
            files::check_private(path).map_err(wrong)?;
        }
        Ok(file)
    }

    /// Writes the file, readable by its owner only.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: windlass_core::Error| Failure::Local(error.message);
        let text = toml::to_string(self).map_err(|error| Failure::Local(format!("cannot write a profile: {error}")))?;
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            files::create_directory(directory, Access::Private).map_err(failed)?;
        }
        files::replace(path, text.as_bytes(), Access::Private).map_err(failed)
    }

    /// The profile to use: the named one, which must exist, else the current one, else an empty one.
    pub(crate) fn profile(&self, named: Option<&str>) -> Result<Profile, Failure> {
        let Some(name) = named.or(self.current.as_deref()) else { return Ok(Profile::default()) };
        self.profiles.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::Usage(format!("there is no profile {name:?} (known: {known}); see `windlass profile list`"))
        })
    }
}

/// The settings in force. Flag and environment are already merged in `global`.
pub(crate) fn settings(global: &GlobalArgs) -> Result<Profile, Failure> {
    Ok(merge(global, File::load(&path()?)?.profile(global.profile.as_deref())?))
}

/// Flags and environment over a profile.
pub(crate) fn merge(global: &GlobalArgs, profile: Profile) -> Profile {
    let text = |given: &Option<String>, own| given.clone().filter(|text| !text.is_empty()).or(own);
    Profile {
        endpoint: text(&global.endpoint, profile.endpoint),
        token: text(&global.token, profile.token),
        ca: global.ca.clone().filter(|path| !path.as_os_str().is_empty()).or(profile.ca),
        project: text(&global.project, profile.project),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn file() -> File {
        let text = "current = \"a\"\n[profiles.a]\nendpoint = \"https://a\"\ntoken = \"wl_a\"\n[profiles.b]\nproject = \"p\"\n";
        toml::from_str(text).expect("valid")
    }

    #[test]
    fn a_named_profile_wins_over_the_current_one_and_must_exist() {
        assert_eq!(file().profile(None).expect("current").endpoint.as_deref(), Some("https://a"));
        assert_eq!(file().profile(Some("b")).expect("named").project.as_deref(), Some("p"));
        let error = file().profile(Some("c")).expect_err("unknown");
        assert!(error.to_string().contains("known: a, b"), "{error}");
    }

    #[test]
    fn a_file_with_a_key_is_written_0600_and_refused_when_others_may_read_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("deep/config.toml");
        file().save(&path).expect("save");
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert_eq!(File::load(&path).expect("load"), file());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = File::load(&path).expect_err("open to others");
        assert!(error.to_string().contains("0640") && error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_missing_file_is_empty_and_a_wrong_one_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert_eq!(File::load(&directory.path().join("none")).expect("missing"), File::default());
        let path = directory.path().join("bad.toml");
        fs::write(&path, "endpoint = 1").expect("write");
        assert!(File::load(&path).expect_err("bad").to_string().contains("bad.toml is not valid"));
    }
}
