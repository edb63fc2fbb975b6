//! Documents that must not drift from the code.

use std::collections::BTreeSet;

use windlass_core::Reason;

#[test]
fn the_error_page_lists_each_reason_once_and_no_other() {
    let page = include_str!("../../docs/errors.md");
    let listed: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(listed.len(), known.len(), "a reason is listed twice");
}
