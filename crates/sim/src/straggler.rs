//! A member that cannot keep up, where a world has one: its threads stand still by turns while it is cut off and comes
//! back, so that it is sent the whole state while it has not done with what came before. Stands still only itself; the others
//! go on.

use std::time::Duration;

use member::JobKind;

use crate::faults::{self, Fault};
use crate::node::Stage;
use crate::pool::Pace;
use crate::world::{Event, World};

/// What the system says of it.
const NO_ROOM: &str = "No space left on device";

/// How slow the pools of a world's members are.
#[derive(Clone, Copy, Debug)]
pub struct Pools {
    /// One of so many jobs takes long; 0: none.
    pub one_in: u32,
    /// The longest that one takes, in milliseconds.
    pub most_ms: u64,
}

impl Pools {
    /// Draws for a world.
    pub fn draw(rng: &mut fastrand::Rng) -> Pools {
        Pools {
            one_in: match rng.u8(0..3) {
                0 => rng.u32(2..12),
                _ => 0,
            },
            most_ms: rng.u64(20..4000),
        }
    }

    fn pace(self, rng: &mut fastrand::Rng) -> Option<Pace> {
        if self.one_in == 0 || rng.u32(0..self.one_in) > 0 {
            return None;
        }
        let long = Duration::from_millis(rng.u64(10..=self.most_ms.max(10)));
        let none = Duration::ZERO;
        let (works, tells) = if rng.bool() { (long, none) } else { (none, long) };
        Some(Pace { works, tells })
    }
}

impl World {
    /// The jobs that a member's stages have asked for begin.
    pub(crate) fn begin_jobs(&mut self, place: usize) {
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        for job in running.queues.jobs() {
            let long = match self.calm {
                true => None,
                false => self.pools.pace(&mut self.rng),
            };
            if long.is_some() {
                self.trace.count("jobs that took long");
                if job.kind == JobKind::Install {
                    self.trace.count("installations that took long");
                }
            }
            let usual = || Pace {
                works: Duration::from_micros(self.rng.u64(10..2000)),
                tells: Duration::ZERO,
            };
            let pace = long.unwrap_or_else(usual);
            running.pool.take(job, self.now, pace);
        }
    }

    /// A stage of a member has no turn for so long.
    pub(crate) fn stall(&mut self, place: usize, stage: Stage, span: Duration) {
        self.trace.count("stages that stood still");
        let what = format!("{stage:?} of m{place} stands still for {span:?}");
        self.trace.tell(self.now, what);
        let until = self.now + span;
        let stalled = self.nodes[place].stalls.entry(stage).or_default();
        *stalled = until.max(*stalled);
    }

    /// Somebody who follows falls behind: it is cut off once or several times, and what it is sent after that comes to
    /// stages that stand still.
    pub(crate) fn straggler_acts(&mut self) {
        let ms = |rng: &mut fastrand::Rng, from, to| Duration::from_millis(rng.u64(from..to));
        let mut span = ms(&mut self.rng, 200, 1200);
        let leader = faults::leader(self);
        let behind = |place: &usize| self.nodes[*place].is_up() && Some(*place) != leader;
        let candidates: Vec<usize> = (0..self.nodes.len()).filter(behind).collect();
        let chosen = self.rng.choice(candidates).filter(|_| !self.calm);
        if let Some(place) = chosen {
            for _ in 0..self.rng.u8(1..4) {
                let lasts = ms(&mut self.rng, 200, 1400);
                self.after(span, Event::CutOff(place, lasts));
                span += lasts + ms(&mut self.rng, 300, 1200);
            }
            let stages: &[Stage] = match self.rng.u8(0..6) {
                0 => &[Stage::Committer],
                1 => &[Stage::Apply, Stage::Job],
                2 | 3 => &[Stage::Job],
                _ => &[Stage::Apply],
            };
            for stage in stages {
                self.stall(place, *stage, span);
            }
        }
        let again = span + ms(&mut self.rng, 200, 2000);
        self.after(again, Event::Straggler);
    }

    /// A place hears nobody for so long.
    pub(crate) fn cut_off(&mut self, place: usize, span: Duration) {
        if self.calm {
            return;
        }
        for other in (0..self.nodes.len()).filter(|other| *other != place) {
            self.net.cut.extend([(place, other), (other, place)]);
        }
        let what = format!("m{place} is cut off for {span:?}");
        self.trace.tell(self.now, what);
        self.after(span, Event::End(Fault::Partition));
    }

    /// Whether a single write that found no room kept a process from starting. Who runs must get over each.
    pub(crate) fn lacked_room(&mut self, place: usize, reason: &str) -> bool {
        let is_start = !self.nodes[place].is_up();
        if is_start && self.see_refused(place) > 0 && reason.contains(NO_ROOM) {
            self.trace.count("starts without room");
            return true;
        }
        false
    }
}
