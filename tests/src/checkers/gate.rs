//! P6: after each start or promotion no application enters before this epoch's barrier is committed.
//!
//! All times in here are of one server's clock: when a session was in, when barriers were written.

/// A session of an application was in a server that takes writes. Times are seconds of the server's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// Which server.
    pub member: String,
    /// The epoch that it proved.
    pub epoch: u64,
    /// When it was first in.
    pub at: f64,
}

/// A barrier row in the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Barrier {
    /// Its epoch.
    pub epoch: u64,
    /// When it was written.
    pub at: f64,
}

/// Every login has a barrier of its epoch behind it. Barriers are written anew after restarts, so only logins that were
/// made before the first barrier of their epoch are breaches for sure.
pub fn check(logins: &[Login], barriers: &[Barrier]) -> Vec<String> {
    let mut found = Vec::new();
    for login in logins {
        let first = barriers.iter().filter(|barrier| barrier.epoch == login.epoch).map(|barrier| barrier.at);
        let first = first.min_by(f64::total_cmp);
        match first {
            None => {
                found.push(format!("{} let an application in and epoch {} has no barrier", login.member, login.epoch))
            }
            Some(at) if at > login.at => found.push(format!(
                "{} let an application in {:.3} s before the first barrier of epoch {}",
                login.member,
                at - login.at,
                login.epoch
            )),
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(epoch: u64, at: f64) -> Login {
        Login { member: "m1".into(), epoch, at }
    }

    #[test]
    fn who_comes_after_the_barrier_is_welcome() {
        let barriers = [Barrier { epoch: 1, at: 5.0 }, Barrier { epoch: 1, at: 9.0 }];
        assert_eq!(check(&[login(1, 6.0)], &barriers), Vec::<String>::new());
    }

    #[test]
    fn who_comes_before_it_or_without_one_is_named() {
        let barriers = [Barrier { epoch: 1, at: 5.0 }];
        let found = check(&[login(1, 4.5), login(2, 6.0)], &barriers);
        assert_eq!(
            found,
            [
                "m1 let an application in 0.500 s before the first barrier of epoch 1",
                "m1 let an application in and epoch 2 has no barrier"
            ]
        );
    }
}
