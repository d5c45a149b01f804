//! Time for the scheduler's machine, which reads no clock: the machine gets timestamps that only grow.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since an origin that the owner of the clock chooses. Only timestamps with the same origin are comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The time that lies `since_origin` after the origin.
    pub const fn after_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later than `self`.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}
