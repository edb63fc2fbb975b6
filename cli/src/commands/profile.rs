//! `windlass profile`: installations stored in the configuration file.

use clap::Subcommand;
use serde::Serialize;

use crate::{
    config::{self, File, Profile},
    context::Context,
    failure::Failure,
    output::Show,
};

#[derive(Subcommand)]
pub(crate) enum ProfileCommand {
    /// List profiles
    #[command(visible_alias = "ls")]
    List,
    /// Use a profile from now on
    Use { name: String },
    /// Store the endpoint, CA, project and key that flags and environment give now
    Set { name: String },
    /// Forget a profile
    Delete { name: String },
}

/// A profile as it is listed: never with its key.
#[derive(Serialize)]
struct Listed {
    name: String,
    current: bool,
    endpoint: String,
    project: String,
    ca: String,
    has_key: bool,
}

impl Show for Listed {
    const COLUMNS: &'static [&'static str] = &["", "NAME", "ENDPOINT", "PROJECT", "CA", "KEY"];

    fn row(&self, _now: jiff::Timestamp) -> Vec<String> {
        vec![
            if self.current { "*" } else { "" }.to_owned(),
            self.name.clone(),
            self.endpoint.clone(),
            self.project.clone(),
            self.ca.clone(),
            if self.has_key { "stored" } else { "" }.to_owned(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl ProfileCommand {
    pub(super) fn run(self, cx: &Context) -> Result<(), Failure> {
        let path = config::path()?;
        let mut file = File::load(&path)?;
        match self {
            Self::List => return list(cx, &file),
            Self::Use { name } => {
                file.profile(Some(&name))?;
                cx.out.note(format!("using profile {name}"));
                file.current = Some(name);
            }
            Self::Set { name } => {
                set(cx, &mut file, &name)?;
                cx.out.note(format!("profile {name} is stored in {}", path.display()));
            }
            Self::Delete { name } => {
                file.profile(Some(&name))?;
                file.profiles.remove(&name);
                file.current = file.current.filter(|current| *current != name);
                cx.out.note(format!("profile {name} is forgotten"));
            }
        }
        file.save(&path)
    }
}

fn set(cx: &Context, file: &mut File, name: &str) -> Result<(), Failure> {
    let given = &cx.global;
    if given.endpoint.is_none() && given.token.is_none() && given.ca.is_none() && given.project.is_none() {
        return Err(Failure::Usage(
            "nothing to store; give --endpoint, --ca, --project, and the key in WINDLASS_TOKEN".to_owned(),
        ));
    }
    let profile = file.profiles.entry(name.to_owned()).or_default();
    let mut merged = config::merge(given, std::mem::take(profile));
    if let Some(ca) = &merged.ca {
        let absolute = std::path::absolute(ca)
            .map_err(|error| Failure::Local(format!("cannot tell where {} is: {error}", ca.display())))?;
        merged.ca = Some(absolute);
    }
    *profile = merged;
    file.current.get_or_insert_with(|| name.to_owned());
    Ok(())
}

fn list(cx: &Context, file: &File) -> Result<(), Failure> {
    let listed = |(name, profile): (&String, &Profile)| Listed {
        name: name.clone(),
        current: file.current.as_ref() == Some(name),
        endpoint: profile.endpoint.clone().unwrap_or_default(),
        project: profile.project.clone().unwrap_or_default(),
        ca: profile.ca.as_ref().map_or_else(String::new, |path| path.display().to_string()),
        has_key: profile.token.is_some(),
    };
    cx.out.list(&file.profiles.iter().map(listed).collect::<Vec<_>>())
}
