//! Transfers between accounts keep the sum, at every moment that a snapshot shows and in the end.

/// A sum that somebody read in one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Who.
    pub client: u32,
    /// What.
    pub sum: i64,
}

/// Compares every sum with what it must be.
pub fn check(sums: &[Sum], must: i64) -> Vec<String> {
    let wrong = sums.iter().filter(|sum| sum.sum != must);
    wrong.map(|sum| format!("client {} read the sum {} instead of {must}", sum.client, sum.sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_out_of_nowhere_is_named() {
        let sums = [Sum { client: 1, sum: 800 }, Sum { client: 2, sum: 790 }];
        assert_eq!(check(&sums, 800), ["client 2 read the sum 790 instead of 800"]);
    }
}
