//! A bit flips inside a stored value, which the data file's format cannot show: the comparison of the members' stores
//! has to find it. The last thing that happens in a world, since nothing is right on that member any more.

use std::time::Duration;

use crate::rot;
use crate::world::World;

/// One world of so many.
const ONE_IN: u8 = 3;

/// How long the comparison may take: several of its intervals, and elections between them.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// See the module.
    pub(crate) fn judge_flip(&mut self) {
        let mut chance = self.plan.chance("flip");
        if !self.plan.has("flip") || chance.u8(0..ONE_IN) != 0 {
            return;
        }
        let votes = |place: &usize| {
            let running = self.nodes[*place].running.as_ref();
            running.is_some_and(|running| !running.member.shared.pulse.is_learner())
        };
        let voters: Vec<usize> = (0..self.nodes.len()).filter(votes).collect();
        // The others must be a quorum, and able to say who differs.
        let Some(&place) = chance.choice(&voters).filter(|_| voters.len() > 2) else {
            return;
        };
        self.crash(place, None);
        let node = &self.nodes[place];
        let Some(rot) = rot::flip_value(&node.disk, &node.config.db_path(), &mut chance) else {
            return;
        };
        self.trace.tell(self.now, format!("m{place}: {}", rot.what));
        self.flipped = Some(place);
        self.start(place);
        let raised = |world: &World| world.trace.counts.get("CORRUPT raised").copied();
        let before = raised(self);
        let deadline = self.now + PATIENCE;
        while self.now < deadline {
            let soon = self.now + Duration::from_millis(500);
            self.run_until(soon);
            if !self.nodes[place].is_up() || raised(self) != before {
                self.trace.count("flipped values found");
                return;
            }
        }
        match self.differs(place, &voters) {
            // What compactions take away, and what is no row of a key, is in no hash.
            false => self.trace.count("flipped values that nobody has"),
            true => {
                self.flipped = None;
                self.wrong(format!("m{place} holds a flipped value, and nobody found it"));
            }
        }
    }

    /// Whether a member's store has another hash than somebody else's.
    fn differs(&self, place: usize, voters: &[usize]) -> bool {
        let hash = |place: usize| {
            let view = self.nodes[place].running.as_ref()?.member.views.load();
            view.hash_kv(0).ok()?.finish(bbolt::Wait::Yes).ok()
        };
        let own = hash(place);
        voters.iter().any(|other| {
            let other = hash(*other);
            let same_question = other.zip(own).is_some_and(|(other, own)| {
                (other.revision, other.compact_revision) == (own.revision, own.compact_revision)
            });
            same_question && other != own
        })
    }
}
