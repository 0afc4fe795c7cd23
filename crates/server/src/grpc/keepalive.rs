//! The rule by which grpc-go's server ends connections whose clients ping too often
//! (internal/transport/http2_server.go handlePing). Never reads a clock.

use std::time::{Duration, Instant};

/// Pings that may come too early before the connection ends.
const STRIKES_MAX: u32 = 2;

/// The least time between pings while no stream is open: grpc-go's default.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Counts pings that came too early.
#[derive(Debug)]
pub struct Strikes {
    interval_min: Duration,
    last: Option<Instant>,
    count: u32,
}

impl Strikes {
    /// Nothing counted yet; `interval_min` is the least time between two pings.
    pub fn new(interval_min: Duration) -> Strikes {
        Strikes {
            interval_min,
            last: None,
            count: 0,
        }
    }

    /// A ping came. True if the connection must end. After anything was sent on a stream all is
    /// forgiven: the client may be measuring the path.
    pub fn ping(&mut self, now: Instant, sent_since_last: bool, idle: bool) -> bool {
        let last = self.last.replace(now);
        if sent_since_last {
            self.count = 0;
            return false;
        }
        let interval = if idle {
            IDLE_PING_INTERVAL
        } else {
            self.interval_min
        };
        if last.is_some_and(|last| now.saturating_duration_since(last) < interval) {
            self.count += 1;
        }
        self.count > STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_early_pings_end_a_connection() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut strikes = Strikes::new(Duration::from_secs(5));
        let pings = [0, 1, 2, 3].map(|second| strikes.ping(at(second), false, false));
        assert_eq!(pings, [false, false, false, true]);

        let mut strikes = Strikes::new(Duration::from_secs(5));
        let pings = [0, 5, 10, 15, 20].map(|second| strikes.ping(at(second), false, false));
        assert_eq!(pings, [false; 5]);

        // With answers in between, any number; without a stream, hardly any.
        let mut strikes = Strikes::new(Duration::from_secs(5));
        assert!((0..10).all(|second| !strikes.ping(at(second), true, false)));
        let pings = [100, 110, 120].map(|second| strikes.ping(at(second), false, true));
        assert_eq!(pings, [false, false, true]);
    }
}
