//! Those who make trouble all the time, where a world has them: an operator who adds, promotes and removes members, the
//! leader too; and a switch that cuts the leader off, alone or with another, so that it does not know for a while that
//! it leads no more.

use std::time::Duration;

use crate::damage;
use crate::faults::{self, Fault};
use crate::world::{Event, World};

impl World {
    pub(crate) fn operator_acts(&mut self) {
        let again = Duration::from_millis(self.rng.u64(200..1500));
        self.after(again, Event::Operator);
        if self.calm || damage::is_busy(self) {
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
    pub(crate) fn switch_acts(&mut self) {
        let again = Duration::from_millis(self.rng.u64(2500..8000));
        self.after(again, Event::Switch);
        if self.calm {
            return;
        }
        let leader = self.leading_place();
        let companion = self.rng.usize(0..self.nodes.len() + 1);
        let is_inside = |place: usize| place == leader || place == companion;
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| is_inside(*to) != is_inside(from)) {
                self.net.cut.insert((from, to));
            }
        }
        self.trace.count("leaders cut off");
        self.trace
            .tell(self.now, format!("m{leader} is cut off, with m{companion}"));
        let span = Duration::from_millis(self.rng.u64(1200..4000));
        self.after(span, Event::End(Fault::Partition));
    }
}
