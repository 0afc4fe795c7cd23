//! What a run is: a seed, and for who looks for the cause of a violation what is left out of the seed's world.

use std::collections::BTreeSet;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// How long faults and clients go on.
    pub span: Duration,
    /// Kinds of faults that do not come.
    pub without_kinds: BTreeSet<String>,
    /// Single faults that do not come, by number from 1.
    pub without_faults: BTreeSet<u64>,
    /// Actors (clients, watchers and the like) that do nothing.
    pub without_actors: BTreeSet<String>,
    /// Whether the story has the messages between members.
    pub tells_messages: bool,
}

impl Plan {
    /// All of a seed's world.
    pub fn new(seed: u64, span: Duration) -> Plan {
        Plan {
            seed,
            span,
            without_kinds: BTreeSet::new(),
            without_faults: BTreeSet::new(),
            without_actors: BTreeSet::new(),
            tells_messages: false,
        }
    }

    /// Chance for one actor: what others draw, or whether they are there, does not matter to it.
    pub fn chance(&self, actor: &str) -> fastrand::Rng {
        // FNV-1a.
        let mut sum = 0xcbf2_9ce4_8422_2325 ^ self.seed;
        for byte in actor.bytes() {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        fastrand::Rng::with_seed(sum)
    }

    /// Whether an actor is there.
    pub fn has(&self, actor: &str) -> bool {
        !self.without_actors.contains(actor)
    }

    /// Whether a fault comes.
    pub fn lets(&self, number: u64, kind: &str) -> bool {
        !self.without_faults.contains(&number) && !self.without_kinds.contains(kind)
    }

    /// What is left out, for people.
    pub fn tell(&self) -> String {
        let mut out = format!("seed {}, {} s", self.seed, self.span.as_secs_f64());
        if !self.without_kinds.is_empty() {
            out.push_str(&format!(", without faults of the kinds {:?}", self.without_kinds));
        }
        if !self.without_actors.is_empty() {
            out.push_str(&format!(", without {:?}", self.without_actors));
        }
        if !self.without_faults.is_empty() {
            out.push_str(&format!(", without {} single faults", self.without_faults.len()));
        }
        out
    }
}
