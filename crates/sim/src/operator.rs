//! An operator who changes the members all the time, where a world has one: adds, promotes, removes, the leader too.

use std::time::Duration;

use crate::faults;
use crate::world::{Event, World};

impl World {
    pub(crate) fn operator_acts(&mut self) {
        let again = Duration::from_millis(self.rng.u64(200..1500));
        self.after(again, Event::Operator);
        if self.calm {
            return;
        }
        let seats = &self.truth.model.aside.roster.seats;
        let has_learner = seats.values().any(|seat| seat.is_learner);
        let has_place = self.nodes.iter().any(|node| node.vacant);
        let at = self.rng.usize(0..self.nodes.len());
        match (has_learner, has_place) {
            (true, _) if self.rng.u8(0..6) > 0 => faults::promote(self),
            (false, true) => faults::add_learner(self),
            _ => faults::remove(self, at),
        }
    }
}
