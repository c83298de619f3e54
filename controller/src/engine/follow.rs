//! Drives one family's follower. A follower holds the data plane's rows a second time, and answers sooner
//! ([`tandem_core::plane::Follower`]).
//!
//! A follower that is put in waits until the data plane holds everything that is known. Then it is renewed from the
//! table, and follows each change. If it fails, it is renewed later, from the table again; and so it is if it had no
//! room for something. If the data plane is opened again, the follower waits again.
//!
//! A follower that waits is told of no change. It goes on with what it holds until the data plane acknowledges a
//! change. At that moment it is switched off.
//!
//! Invariant: a follower never holds anything up. Its failure is not a failure of the change.
//!
//! Invariant: a follower is on only if it holds the rows that the data plane acknowledged last, under the data plane's
//! rules. One that an earlier run left is the exception: until the data plane changes, it works as it was found.

mod seat;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_core::family::{Family, IpFamily};
use tandem_core::id::ServiceId;
use tandem_core::plane::{Behind, Delta, Follower, Left, RuleSettings};
use tandem_core::table::Table;

pub use seat::Seat;

use crate::backoff::Retry;

use super::Now;
use super::observer::Observer;
use super::snapshot::{FamilyStatus, FollowState, FollowStatus};
use seat::News;

/// If a follower fails after it was on for this long, its waits begin anew with the shortest. If it fails sooner, each
/// wait is longer than the one before. So a follower that fails at each change takes little of the engine's time.
const CALM: Duration = Duration::from_mins(1);

/// An observer that drives a follower. It must be added before the observers that judge what both hold.
pub struct Follow<F: Family> {
    seat: Seat<F>,
    seated: Option<Seated<F>>,
    /// The time of the present step.
    now: Now,
    /// Whether this run opened the data plane. Before that, a follower that an earlier run left is as good as the data
    /// plane's rows, which this run has not touched either.
    opened: bool,
    status: FollowStatus,
    named: Named,
    /// How long the last call took.
    took: Duration,
}

/// The lists that are left, as they are named in the status.
#[derive(Default)]
struct Named {
    left: BTreeMap<ServiceId, Left>,
    /// Whether some belong to no Service port yet.
    some_unknown: bool,
}

/// A follower and where it is in its life.
struct Seated<F: Family> {
    follower: Box<dyn Follower<F>>,
    stage: Stage,
    /// Since when it has been on without a pause, if that is known.
    on: Option<Now>,
    retry: Retry,
    /// When it is renewed because it left something for which there was no room; none if it did not.
    room: Option<Retry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is renewed as soon as the data plane holds everything. It may be on, with what it held before.
    Waiting,
    /// The same, but it was switched off, because the data plane may hold other rows or have other rules.
    Paused,
    /// It holds exactly what the data plane holds, and is on.
    Current,
    /// It failed, and is off. It is renewed when the time has come.
    Behind,
}

impl<F: Family> Follow<F> {
    /// Nothing is followed yet. Followers are put in and taken out through the seat.
    pub fn new(now: Now) -> (Self, Seat<F>) {
        let seat = Seat::default();
        let follow = Self {
            seat: seat.clone(),
            seated: None,
            now,
            opened: false,
            status: FollowStatus::default(),
            named: Named::default(),
            took: Duration::ZERO,
        };
        (follow, seat)
    }

    /// Takes the follower that was put in, or takes out the one that is in. Returns whether anything was asked.
    fn take_news(&mut self) -> bool {
        let Some(news) = self.seat.take() else { return false };
        let mut before = self.seated.take();
        // The rows that an earlier run left are now this follower's. If nothing changed meanwhile, they still answer.
        let stood_in = before.take_if(|before| !before.follower.ready() && matches!(news, News::Put(_)));
        if let Some(mut before) = before {
            before.follower.switch_off();
        }
        let untouched = stood_in.as_ref().is_some_and(|before| before.stage == Stage::Waiting);
        self.seated = match news {
            News::Clear => None,
            News::Put(follower) => Some(Seated {
                follower,
                stage: stood_in.map_or(Stage::Waiting, |before| before.stage),
                on: None,
                retry: Retry::default(),
                room: None,
            }),
        };
        self.note();
        if self.opened && !untouched {
            self.pause();
        }
        true
    }

    /// Has the follower wait until the data plane holds everything.
    fn wait(&mut self) {
        if let Some(seated) = &mut self.seated
            && seated.stage == Stage::Current
        {
            seated.stage = Stage::Waiting;
            self.note();
        }
    }

    /// Switches the follower off until the data plane holds everything.
    fn pause(&mut self) {
        if let Some(seated) = &mut self.seated
            && matches!(seated.stage, Stage::Waiting | Stage::Current)
        {
            seated.follower.switch_off();
            (seated.stage, seated.on) = (Stage::Paused, None);
            self.note();
        }
    }

    /// Notes that the follower holds what it was told to hold, after it was renewed or told of a change.
    fn succeed(&mut self, renewed: bool) {
        if let Some(seated) = &mut self.seated {
            // A kernel that has no memory now may have some later.
            let lacks_room = seated.follower.left().values().any(Left::is_for_room);
            let room = seated.room.take().filter(|_| lacks_room);
            seated.room = match room {
                Some(room) if !renewed => Some(room),
                room => lacks_room.then(|| room.unwrap_or_default().failed(self.now.monotonic)),
            };
            let before = std::mem::replace(&mut seated.stage, Stage::Current);
            seated.on.get_or_insert(self.now);
            self.status.last_change = Some(self.now.wall);
            self.status.last_change_took = self.took;
            if before == Stage::Behind {
                tracing::info!("{} sockets are on again", F::FAMILY);
            }
            self.note();
        }
    }

    /// Notes that the follower failed, and when to renew it.
    fn fail(&mut self, behind: &Behind) {
        let now = self.now;
        let Some(seated) = &mut self.seated else { return };
        let calm = |on: Now| now.monotonic.saturating_duration_since(on.monotonic) >= CALM;
        if seated.on.take().is_some_and(calm) {
            seated.retry = Retry::default();
        }
        seated.retry = std::mem::take(&mut seated.retry).failed(now.monotonic);
        seated.stage = Stage::Behind;
        let retry_in = seated.retry.at().map(|at| at.saturating_duration_since(now.monotonic));
        let why: Arc<str> = behind.to_string().into();
        let before = match &self.status.state {
            FollowState::Behind { since, why } => Some((*since, why)),
            _ => None,
        };
        if before.is_none_or(|(_, known)| *known != why) {
            tracing::error!("{}", off(F::FAMILY, &why, retry_in));
        }
        let since = before.map_or(now.wall, |(since, _)| since);
        self.status.failures += 1;
        self.status.state = FollowState::Behind { since, why };
        self.note();
    }

    /// Brings the status up to date. While a follower is behind, its failure is the status.
    fn note(&mut self) {
        let now = self.now.wall;
        let Some(seated) = &self.seated else {
            (self.status.state, self.status.taken) = (FollowState::Off, 0);
            return;
        };
        let waiting = |off| FollowState::Waiting {
            since: match &self.status.state {
                FollowState::Waiting { since, .. } => *since,
                _ => now,
            },
            off,
        };
        let (state, is_off) = match seated.stage {
            Stage::Waiting => (waiting(false), false),
            Stage::Paused => (waiting(true), true),
            Stage::Current if !seated.follower.answers() => {
                let since = match &self.status.state {
                    FollowState::Beside { since } => *since,
                    _ => now,
                };
                (FollowState::Beside { since }, true)
            }
            Stage::Current => {
                let since = seated.on.map_or(now, |on| on.wall);
                (FollowState::On { since }, false)
            }
            Stage::Behind => (self.status.state.clone(), true),
        };
        self.status.taken = if is_off { 0 } else { seated.follower.taken() };
        self.status.state = state;
    }

    /// Names the Service ports that are left to the data plane, if others are left than before.
    fn name_left(&mut self, table: &Table<F>) {
        static NONE: BTreeMap<ServiceId, Left> = BTreeMap::new();
        let left = self.seated.as_ref().map_or(&NONE, |seated| seated.follower.left());
        if *left == self.named.left && !self.named.some_unknown {
            return;
        }
        let owned = |(id, left): (&ServiceId, &Left)| Some((table.owner(*id)?.clone(), *left));
        self.status.left = Arc::new(left.iter().filter_map(owned).collect());
        self.named.some_unknown = left.keys().any(|id| table.owner(*id).is_none());
        self.named.left.clone_from(left);
    }
}

/// What the log says of a follower that failed. An operator knows it as sockets.
fn off(family: IpFamily, why: &str, retry_in: Option<Duration>) -> String {
    let again = retry_in.unwrap_or_default().as_secs_f64();
    format!("{family} sockets are off: {why}; nftables serves {family}; tried again in {again} s")
}

/// Calls it, and notes how long it took.
#[cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "the time is only shown; nothing is decided by it"
    )
)]
fn timed<T>(took: &mut Duration, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = call();
    *took = began.elapsed();
    result
}

impl<F: Family> Observer<F> for Follow<F> {
    fn begin(&mut self, now: Now) -> bool {
        self.now = now;
        self.take_news()
    }

    fn opening(&mut self, rules: &RuleSettings) {
        if self.seated.as_ref().is_some_and(|seated| !seated.follower.fits(rules)) {
            self.pause();
        }
    }

    fn reopened(&mut self, strays: &Delta<F>) {
        self.opened = true;
        self.wait();
        if !strays.is_empty() {
            self.pause();
        }
    }

    fn committed(&mut self, delta: &Delta<F>, _orphans: bool) {
        let Some(seated) = self.seated.as_mut().filter(|_| !delta.is_empty()) else {
            return;
        };
        match seated.stage {
            Stage::Current => match timed(&mut self.took, || seated.follower.follow(delta)) {
                Ok(()) => {
                    self.status.changes += 1;
                    self.succeed(false);
                }
                Err(behind) => self.fail(&behind),
            },
            // Other rows do not make what it holds wrong.
            Stage::Waiting if delta.stored().is_empty() => {}
            Stage::Waiting => self.pause(),
            Stage::Paused | Stage::Behind => {}
        }
    }

    fn abandoned(&mut self, unknown: bool) {
        if unknown {
            self.pause();
        }
    }

    fn loaded(&mut self, table: &Table<F>, rules: &RuleSettings) {
        let Some(seated) = &mut self.seated else { return };
        let due = match seated.stage {
            Stage::Waiting | Stage::Paused => seated.follower.ready(),
            Stage::Behind => seated.retry.due(self.now.monotonic),
            Stage::Current => seated.room.as_ref().is_some_and(|room| room.due(self.now.monotonic)),
        };
        if !due {
            return;
        }
        match timed(&mut self.took, || seated.follower.renew(rules, &table.rows())) {
            Ok(()) => {
                self.status.renewals += 1;
                self.succeed(true);
            }
            Err(behind) => self.fail(&behind),
        }
    }

    fn next_try(&self) -> Option<Instant> {
        let seated = self.seated.as_ref()?;
        match seated.stage {
            Stage::Waiting | Stage::Paused => seated.follower.ready().then_some(self.now.monotonic),
            Stage::Behind => seated.retry.at(),
            Stage::Current => seated.room.as_ref().and_then(Retry::at),
        }
    }

    fn report(&mut self, table: &Table<F>, status: &mut FamilyStatus) {
        self.name_left(table);
        status.followed.clone_from(&self.status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_in_an_operators_words_that_sockets_are_off() {
        let said = |wait| off(IpFamily::V4, "the map LISTS4 is full", wait);
        assert_eq!(
            said(Some(Duration::from_millis(200))),
            "IPv4 sockets are off: the map LISTS4 is full; nftables serves IPv4; tried again in 0.2 s"
        );
        assert!(said(Some(Duration::from_mins(1))).ends_with("tried again in 60 s"));
    }
}
