//! Asking before something is destroyed.

use std::io::{IsTerminal as _, Write as _, stdin};

use crate::failure::Failure;

/// Lets the user type the name of what is to be destroyed. Without a terminal only `--yes` goes on.
pub(crate) fn destroying(what: &str, name: &str, consequence: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Failure::Usage(format!("deleting {what} {name} needs --yes where nobody can be asked")));
    }
    eprint!("This deletes {what} {name}. {consequence}\nType its name to go on: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    stdin().read_line(&mut line).map_err(|error| Failure::Local(format!("cannot read the answer: {error}")))?;
    if line.trim() == name { Ok(()) } else { Err(Failure::NotConfirmed) }
}
