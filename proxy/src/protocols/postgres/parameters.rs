//! What a client asks of its session when it starts, as settings. Pure.

use windlass_wire_pg::{SqlState, startup::Startup};

use super::{
    refusal::Refusal,
    sql::{Settings, Value},
};

/// Most settings that a client may bring.
const MOST: usize = 64;

/// The settings of a start.
///
/// # Errors
/// If it asks for something that a proxy cannot give.
pub(super) fn settings(startup: &Startup) -> Result<Settings, Refusal> {
    let mut settings = Settings::default();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" => {}
            "replication" => {
                if !matches!(value.as_str(), "false" | "off" | "no" | "0") {
                    let message = "replication does not go through the proxy";
                    let hint = "Connect to the member itself; `windlass instance connection-string --direct` has it.";
                    return Err(Refusal::new(SqlState::NOT_SUPPORTED, message, hint));
                }
            }
            "options" => {
                for (name, value) in options(value)? {
                    settings.set(&name.to_ascii_lowercase(), Value::Raw(value.into()));
                }
            }
            _ => settings.set(&name.to_ascii_lowercase(), Value::Raw(value.as_str().into())),
        }
    }
    if settings.len() > MOST {
        let message = format!("a start may have {MOST} settings");
        return Err(Refusal::new(SqlState::LIMIT_EXCEEDED, &message, "Set the others by SET."));
    }
    Ok(settings)
}

/// Reads command-line options: `-c name=value` and `--name=value`, with backslashes before spaces.
fn options(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut words = words(text).into_iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned)
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = pair else {
            let message = format!("the option {word:?} is not taken; only -c name=value and --name=value are");
            return Err(Refusal::new(SqlState::NOT_SUPPORTED, &message, ""));
        };
        // As PostgreSQL reads names of options.
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            blank if blank.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parameters: &[(&str, &str)]) -> Result<Settings, Refusal> {
        settings(&Startup {
            minor: 0,
            protocol_options: vec![],
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        })
    }

    #[test]
    fn parameters_and_options_become_settings() {
        let settings = of(&[
            ("user", "ada"),
            ("DateStyle", "ISO"),
            ("options", r"-c search_path=a\ b -cwork_mem=1MB --statement-timeout=5s"),
        ])
        .unwrap();
        for (name, value) in
            [("datestyle", "ISO"), ("search_path", "a b"), ("work_mem", "1MB"), ("statement_timeout", "5s")]
        {
            assert_eq!(settings.get(name), Some(&Value::Raw(value.into())), "{name}");
        }
        assert_eq!(settings.len(), 4);
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        assert!(of(&[("replication", "database")]).is_err());
        assert!(of(&[("replication", "false")]).is_ok());
        assert!(of(&[("options", "-d 5")]).is_err());
        assert!(of(&[("options", "-c")]).is_err());
    }
}
