//! The one place where clocks are read for the member.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::clock::Instant;

/// The clock that never goes back, counted from the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock {
            start: std::time::Instant::now(),
        }
    }

    /// The present moment.
    pub fn now(self) -> Instant {
        Instant::from_start(self.start.elapsed())
    }

    /// A moment as the standard library's, for timers.
    pub fn to_std(self, at: Instant) -> std::time::Instant {
        self.start + at.since_start()
    }
}

/// Milliseconds of the time of day since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
