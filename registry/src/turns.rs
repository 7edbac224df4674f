//! Turns: how many transfers of content go on at once, for everybody and for each caller.
//!
//! A caller has at most its share of what the site does at once; what is more waits, in the order in which it came,
//! in a queue that is bounded as a whole and for each caller, and for a bounded time. Beyond that the caller is told
//! whose limit it is: its own, or the site's. Callers without a token, of whom anybody can be as many as they have
//! addresses, have half of everything together: the other half is for those whom the site knows. So one caller with a thousand connections delays itself, and nobody
//! waits without an end. A turn lasts until it is dropped: for an answer, until its last byte was taken.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Who is counted as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// The holder of a token, by its id.
    Token(String),
    /// Somebody without one, by address; a network of IPv6 by its first.
    Address(IpAddr),
    /// Somebody within this process.
    Nobody,
}

impl Who {
    /// Is this somebody whom the site does not know?
    const fn is_stranger(&self) -> bool {
        !matches!(self, Self::Token(_))
    }
}

/// How many turns there are.
#[derive(Debug, Clone)]
pub struct Limits {
    /// At once, for everybody together; half of them for all without a token.
    pub at_once: usize,
    /// At once, for one caller.
    pub for_each: usize,
    /// How many may wait, for everybody together; half of them for one caller, and for all without a token.
    pub waiting: usize,
    /// How long each may wait.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            at_once: 128,
            for_each: 32,
            waiting: 1024,
            patience: Duration::from_secs(20),
        }
    }
}

/// There is no turn to be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTurn {
    /// The caller has its share already.
    #[error("this caller has as many transfers under way as one may have")]
    Caller,
    /// Others without a token have all that there are for them.
    #[error("callers without a token have as many transfers under way as the site takes on for them")]
    Strangers,
    /// Others have all of them.
    #[error("the site has as many transfers under way as it takes on")]
    Site,
}

/// One caller: a semaphore of its own, and how many stand before or behind it.
#[derive(Debug)]
struct Share {
    turns: Arc<Semaphore>,
    /// Those who wait for a turn or have one; with none left the caller is forgotten.
    present: usize,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Callers {
    shares: HashMap<Who, Share>,
    waiting: usize,
    /// Those of them who have no token.
    strangers_waiting: usize,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    callers: Mutex<Callers>,
}

/// The turns of a site. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Inner>);

impl Turns {
    /// Begins with nobody.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            all: Arc::new(Semaphore::new(limits.at_once)),
            strangers: Arc::new(Semaphore::new(limits.at_once.div_ceil(2))),
            limits,
            callers: Mutex::default(),
        }))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// When too many wait already, or it takes too long.
    pub async fn take(&self, who: Who) -> Result<Turn, NoTurn> {
        let strangers = who.is_stranger().then(|| Arc::clone(&self.0.strangers));
        let (presence, turns) = self.enter(who)?;
        let waiting = async {
            // From the narrowest to the widest: who waits holds nothing that others than their like wait for.
            let own = acquire(turns).await;
            let strangers = match strangers {
                Some(strangers) => Some(acquire(strangers).await),
                None => None,
            };
            (own, strangers, acquire(Arc::clone(&self.0.all)).await)
        };
        let Ok((own, strangers, all)) = timeout(self.0.limits.patience, waiting).await else {
            return Err(self.refusal(&presence));
        };
        Ok(Turn {
            _all: all,
            _strangers: strangers,
            _own: own,
            _presence: presence.seated(),
        })
    }

    /// Does anybody wait for a turn that others have?
    #[must_use]
    pub fn crowded(&self) -> bool {
        let callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |turns: &Semaphore| turns.available_permits() == 0;
        let strangers = callers.strangers_waiting > 0 && taken(&self.0.strangers);
        strangers || (callers.waiting > 0 && taken(&self.0.all))
    }

    /// Counts somebody who comes, unless too many wait.
    fn enter(&self, who: Who) -> Result<(Presence, Arc<Semaphore>), NoTurn> {
        let limits = &self.0.limits;
        let mut callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let half = limits.waiting.div_ceil(2);
        let site_full = callers.waiting >= limits.waiting && self.0.all.available_permits() == 0;
        let strangers_full = who.is_stranger()
            && callers.strangers_waiting >= half
            && self.0.strangers.available_permits() == 0;
        let share = callers.shares.entry(who.clone()).or_insert_with(|| Share {
            turns: Arc::new(Semaphore::new(limits.for_each)),
            present: 0,
            waiting: 0,
        });
        let refused = if share.turns.available_permits() == 0 && share.waiting >= half {
            Some(NoTurn::Caller)
        } else if strangers_full {
            Some(NoTurn::Strangers)
        } else {
            site_full.then_some(NoTurn::Site)
        };
        if let Some(refused) = refused {
            if share.present == 0 {
                callers.shares.remove(&who);
            }
            return Err(refused);
        }
        share.present += 1;
        share.waiting += 1;
        let turns = Arc::clone(&share.turns);
        callers.waiting += 1;
        callers.strangers_waiting += usize::from(who.is_stranger());
        let presence = Presence {
            turns: self.clone(),
            who,
            waiting: true,
        };
        Ok((presence, turns))
    }

    /// Says whose limit it was that somebody waited for.
    fn refusal(&self, presence: &Presence) -> NoTurn {
        let callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let share = callers.shares.get(&presence.who);
        match share {
            Some(share) if share.turns.available_permits() == 0 => NoTurn::Caller,
            _ if presence.who.is_stranger() && self.0.strangers.available_permits() == 0 => NoTurn::Strangers,
            _ => NoTurn::Site,
        }
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = semaphore.acquire_owned().await;
    permit.expect("the semaphore is never closed")
}

/// Somebody who is counted, until dropped.
#[derive(Debug)]
struct Presence {
    turns: Turns,
    who: Who,
    waiting: bool,
}

impl Presence {
    fn seated(mut self) -> Self {
        self.stop_waiting();
        self
    }

    fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.waiting) {
            let mut callers = self
                .turns
                .0
                .callers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            callers.waiting -= 1;
            callers.strangers_waiting -= usize::from(self.who.is_stranger());
            if let Some(share) = callers.shares.get_mut(&self.who) {
                share.waiting -= 1;
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.stop_waiting();
        let mut callers = self
            .turns
            .0
            .callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = callers.shares.get_mut(&self.who) {
            share.present -= 1;
            if share.present == 0 {
                callers.shares.remove(&self.who);
            }
        }
    }
}

/// A turn, until dropped.
#[derive(Debug)]
pub struct Turn {
    _all: OwnedSemaphorePermit,
    _strangers: Option<OwnedSemaphorePermit>,
    _own: OwnedSemaphorePermit,
    _presence: Presence,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(at_once: usize, for_each: usize, waiting: usize) -> Turns {
        Turns::new(Limits {
            at_once,
            for_each,
            waiting,
            patience: Duration::from_millis(20),
        })
    }

    fn named(name: &str) -> Who {
        Who::Token(name.to_owned())
    }

    #[tokio::test]
    async fn one_caller_cannot_take_what_is_left_for_others() {
        let turns = turns(4, 2, 8);
        let _a = turns.take(named("greedy")).await.unwrap();
        let _b = turns.take(named("greedy")).await.unwrap();
        assert_eq!(turns.take(named("greedy")).await.unwrap_err(), NoTurn::Caller);
        assert!(turns.take(named("other")).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_a_turn_ends() {
        let turns = turns(1, 1, 8);
        let first = turns.take(named("a")).await.unwrap();
        let (second, ()) = tokio::join!(turns.take(named("b")), async { drop(first) });
        assert!(second.is_ok());
    }

    #[tokio::test]
    async fn who_waits_for_others_makes_a_crowd_who_waits_for_themselves_does_not() {
        let turns = turns(2, 1, 8);
        let _a = turns.take(named("a")).await.unwrap();
        let (again, crowded) = tokio::join!(turns.take(named("a")), async { turns.crowded() });
        assert!(again.is_err() && !crowded);
        let _b = turns.take(named("b")).await.unwrap();
        assert!(!turns.crowded());
        let (third, crowded) = tokio::join!(turns.take(named("c")), async { turns.crowded() });
        assert!(third.is_err() && crowded);
    }

    #[tokio::test]
    async fn a_full_site_says_so() {
        let turns = turns(1, 1, 0);
        let turn = turns.take(named("a")).await.unwrap();
        assert_eq!(turns.take(named("a")).await.unwrap_err(), NoTurn::Caller);
        assert_eq!(turns.take(named("b")).await.unwrap_err(), NoTurn::Site);
        drop(turn);
        assert!(turns.take(named("b")).await.is_ok());
    }

    #[tokio::test]
    async fn callers_without_a_token_leave_half_to_those_with_one() {
        let turns = turns(4, 2, 2);
        let address = |n| Who::Address(IpAddr::from([192, 0, 2, n]));
        let _a = turns.take(address(1)).await.unwrap();
        let _b = turns.take(address(2)).await.unwrap();
        assert_eq!(turns.take(address(3)).await.unwrap_err(), NoTurn::Strangers);
        assert_eq!(turns.take(Who::Nobody).await.unwrap_err(), NoTurn::Strangers);
        let _c = turns.take(named("known")).await.unwrap();
        let _d = turns.take(named("known")).await.unwrap();
        assert_eq!(turns.take(named("other")).await.unwrap_err(), NoTurn::Site);
    }

    #[tokio::test]
    async fn nobody_is_remembered_who_has_gone() {
        let turns = turns(1, 1, 8);
        let turn = turns.take(named("a")).await.unwrap();
        assert!(turns.take(named("b")).await.is_err());
        drop(turn);
        let callers = turns.0.callers.lock().unwrap();
        assert!(callers.shares.is_empty());
        assert_eq!((callers.waiting, callers.strangers_waiting), (0, 0));
    }
}
