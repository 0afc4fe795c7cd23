//! The network between places: who reaches whom, how late, and what is lost or comes twice.

use std::collections::BTreeSet;
use std::time::Duration;

/// How the network is now.
#[derive(Clone, Debug)]
pub struct Net {
    /// One-way cuts: from a place to a place.
    pub cut: BTreeSet<(usize, usize)>,
    /// The chance that a message is lost.
    pub loss: f64,
    /// The chance that a message comes twice.
    pub twice: f64,
    /// The longest delay of a message.
    pub delay_max: Duration,
    /// The chance that a message takes ten times as long.
    pub straggle: f64,
    /// The chance that the transfer of a snapshot is cut off.
    pub tear: f64,
    /// Half of what is sent to a place lies in queues, each message for up to so long.
    pub late: Option<(usize, Duration)>,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            cut: BTreeSet::new(),
            loss: 0.0,
            twice: 0.0,
            delay_max: Duration::from_millis(2),
            straggle: 0.0,
            tear: 0.0,
            late: None,
        }
    }
}

impl Net {
    /// When a message arrives, each time it does: not at all, once, or twice.
    pub fn arrivals(&self, from: usize, to: usize, rng: &mut fastrand::Rng) -> Vec<Duration> {
        if self.cut.contains(&(from, to)) || rng.f64() < self.loss {
            return Vec::new();
        }
        let count = if rng.f64() < self.twice { 2 } else { 1 };
        let queued = match self.late {
            Some((place, most)) if place == to && rng.bool() => most.mul_f64(0.1 + 0.9 * rng.f64()),
            _ => Duration::ZERO,
        };
        (0..count).map(|_| queued + self.delay(rng)).collect()
    }

    /// How long one message takes.
    pub fn delay(&self, rng: &mut fastrand::Rng) -> Duration {
        let delay = self.delay_max.mul_f64(0.1 + 0.9 * rng.f64());
        match rng.f64() < self.straggle {
            true => delay * 10,
            false => delay,
        }
    }
}
