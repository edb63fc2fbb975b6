//! Rust sources as the checks see them: without comments, string contents and test code.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::workspace;

/// One file.
pub(crate) struct Source {
    /// Path from the workspace's root.
    pub(crate) path: String,
    /// How many lines it has.
    pub(crate) lines: usize,
    /// Code outside tests; comments and the contents of strings are blanked, line breaks are kept.
    pub(crate) code: String,
}

/// Every Rust file that git tracks or would track.
///
/// # Errors
/// git or a file cannot be read.
pub(crate) fn all() -> Result<Vec<Source>> {
    let root = workspace::root();
    let listing = workspace::output(std::process::Command::new("git").current_dir(&root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]))?;
    let files = listing.lines().map(PathBuf::from).filter(|path| root.join(path).is_file());
    files.map(|path| read(&root, &path)).collect()
}

fn read(root: &Path, path: &Path) -> Result<Source> {
    let text = std::fs::read_to_string(root.join(path))?;
    let lines = text.lines().count();
    let code = if is_test(path) { String::new() } else { without_tests(&blank(&text)) };
    Ok(Source { path: path.to_string_lossy().into_owned(), lines, code })
}

/// Files that are compiled for tests only.
fn is_test(path: &Path) -> bool {
    let folder = path.parent().into_iter().flat_map(Path::components).any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "testbed"
    });
    folder || path.file_name().is_some_and(|name| name == "tests.rs" || name.to_string_lossy().ends_with("_tests.rs"))
}

/// Unit tests stand at the end of a file, after `#[cfg(test)]` on a line of its own.
fn without_tests(code: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]")
            && lines.peek().is_some_and(|next| next.contains("mod ") && next.contains('{'))
        {
            break;
        }
        kept.push(line);
    }
    kept.join("\n")
}

/// Blanks comments and the contents of string and character literals.
fn blank(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => rest.windows(2).position(|pair| pair == ['*', '/']).map_or(rest.len(), |end| end + 2),
            ['r', '"' | '#', ..] if !at.checked_sub(1).is_some_and(|before| is_word(characters[before])) => {
                raw_length(rest)
            }
            ['"', ..] => quoted_length(rest),
            ['\'', '\\', ..] => 2 + rest[2..].iter().skip(1).position(|c| *c == '\'').map_or(0, |end| end + 2),
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if length == 0 {
            code.push(characters[at]);
            at += 1;
        } else {
            let end = (at + length).min(characters.len());
            code.extend(characters[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn quoted_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r"…"` or `r#"…"#`; 0 for what only looks like one, such as `r#type`.
fn raw_length(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = 2 + hashes;
    rest[body..].windows(close.len()).position(|part| part == close).map_or(rest.len(), |end| body + end + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_do_not_count_as_code() {
        let code = blank("a // crate::api\nb \"crate::api \\\" \" c r#\"crate::\"api\"# d '\"' e /* f\n */ g");
        assert!(!code.contains("crate"), "{code}");
        for word in ["a", "b", "c", "d", "e", "g"] {
            assert!(code.contains(word), "{word} is lost: {code}");
        }
        assert_eq!(code.matches('\n').count(), 2);
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(blank("fn f<'a>(x: &'a str, r#type: u8)"), "fn f<'a>(x: &'a str, r#type: u8)");
    }

    #[test]
    fn files_of_tests_do_not_count() {
        assert!(is_test(Path::new("a/src/b/tests/c.rs")) && is_test(Path::new("a/src/tests.rs")));
        assert!(is_test(Path::new("a/src/saga_tests.rs")) && !is_test(Path::new("a/src/contests.rs")));
    }

    #[test]
    fn unit_tests_do_not_count() {
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\nb\n}"), "a");
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;\nb"), "a\n#[cfg(test)]\nmod tests;\nb");
    }
}
