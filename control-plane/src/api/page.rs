//! Page sizes and page tokens of lists (AIP-158).
//!
//! A token holds the last key of a page and a checksum over it and over what the list was asked for. The checksum
//! guards against mistakes (a token of another list, a copy that was cut), not against forgery: a token grants
//! nothing that the caller could not ask for directly.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use windlass_core::{Error, Reason, error::ErrorKind};

/// Page size when none is asked for.
pub(super) const DEFAULT: i64 = 50;
/// Largest page; more is coerced to it.
pub(super) const MAX: i64 = 500;
const CHECKSUM: usize = 8;

/// One page of a list: where it begins and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// Key after which it begins, empty for the first page.
    pub after: String,
    /// Rows on it.
    pub size: i64,
    /// What the list is of: a token of another list or filter is refused.
    list: String,
}

impl Page {
    /// Reads `page_size` and `page_token`. `list` names the list with all that narrows it.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a negative size, `INVALID_PAGE_TOKEN` for a token that this list did not give.
    pub(super) fn read(list: String, size: i32, token: &str) -> Result<Self, Error> {
        if size < 0 {
            return Err(Error::invalid("page_size", format!("{size} is negative; use 0 to {MAX}, 0 for {DEFAULT}")));
        }
        let size = if size == 0 { DEFAULT } else { i64::from(size).min(MAX) };
        let after = if token.is_empty() { String::new() } else { open(&list, token).ok_or_else(invalid)? };
        Ok(Self { after, size, list })
    }

    /// How many rows to fetch: one more than the page has, to see whether there is another page.
    pub(super) fn limit(&self) -> i64 {
        self.size + 1
    }

    /// Cuts fetched rows to the page and gives the token of the next one, empty if there is none.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> String) -> String {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|row| seal(&self.list, &key(row))).unwrap_or_default()
    }

    /// The key after which the page begins, as a `T`; None for the first page.
    ///
    /// # Errors
    /// `INVALID_PAGE_TOKEN` when it does not read as one.
    pub(super) fn after_as<T: std::str::FromStr>(&self) -> Result<Option<T>, Error> {
        if self.after.is_empty() {
            return Ok(None);
        }
        self.after.parse().map(Some).map_err(|_| invalid())
    }
}

fn seal(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode([&checksum(list, key)[..], key.as_bytes()].concat())
}

fn open(list: &str, token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (sum, key) = bytes.split_at_checked(CHECKSUM)?;
    let key = std::str::from_utf8(key).ok()?;
    (sum == checksum(list, key)).then(|| key.to_owned())
}

fn checksum(list: &str, key: &str) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(list).chain_update([0]).chain_update(key).finalize();
    std::array::from_fn(|i| digest[i])
}

fn invalid() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        Reason::InvalidPageToken,
        "page_token is not one that this list gave; pass next_page_token unchanged with the same parent and filter, or leave it empty for the first page",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(list: &str, size: i32, token: &str) -> Result<Page, Error> {
        Page::read(list.to_owned(), size, token)
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let all: Vec<u32> = (1..=5).collect();
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = page("numbers", 2, &token).expect("page");
            let after: u32 = page.after_as().expect("number").unwrap_or(0);
            let limit = usize::try_from(page.limit()).expect("small");
            let mut rows: Vec<u32> = all.iter().copied().filter(|n| *n > after).take(limit).collect();
            token = page.cut(&mut rows, u32::to_string);
            seen.extend(rows);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn foreign_and_broken_tokens_are_refused() {
        let token = seal("projects", "abc");
        page("projects", 0, &token).expect("own token");
        for bad in [seal("hosts", "abc"), token[..token.len() - 1].to_owned(), "?".to_owned(), "AAAA".to_owned()] {
            assert_eq!(page("projects", 0, &bad).expect_err(&bad).reason, Reason::InvalidPageToken);
        }
    }

    #[test]
    fn sizes_are_coerced_and_negative_ones_refused() {
        assert_eq!(page("x", 0, "").expect("default").size, DEFAULT);
        assert_eq!(page("x", 10_000, "").expect("coerced").size, MAX);
        assert_eq!(page("x", -1, "").expect_err("negative").violations[0].field, "page_size");
    }
}
