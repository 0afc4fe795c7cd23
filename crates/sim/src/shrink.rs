//! Makes a failing world smaller: leaves out what the violation does not need, one thing after the other, and keeps
//! what still ends in the same violation. Always tries the same things in the same order.

use std::time::Duration;

use crate::plan::Plan;
use crate::world::{Report, run_plan};

/// How often a world is run at most.
const ATTEMPTS_MAX: usize = 160;

/// What a violation is, numbers aside: the same defect in a smaller world has other indices and members.
fn class(violation: &str) -> String {
    let word = |word: &str| {
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        let is_hex = word.len() > 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if has_digit || is_hex {
            "#".to_owned()
        } else {
            word.to_owned()
        }
    };
    let words: Vec<String> = violation.split([' ', ':', ',']).take(12).map(word).collect();
    words.join(" ")
}

/// A world in which the same happens, and how it ended.
pub struct Smaller {
    /// What is left.
    pub plan: Plan,
    /// Its end, with the messages in its story.
    pub report: Report,
    /// How many worlds were run.
    pub attempts: usize,
}

struct Search {
    wanted: String,
    plan: Plan,
    report: Report,
    attempts: usize,
}

impl Search {
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.attempts >= ATTEMPTS_MAX || plan == self.plan {
            return false;
        }
        self.attempts += 1;
        let report = run_plan(&plan);
        let same = report
            .violation
            .as_deref()
            .is_some_and(|text| class(text) == self.wanted);
        if same {
            (self.plan, self.report) = (plan, report);
        }
        same
    }

    fn change(&mut self, make: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.plan.clone();
        make(&mut plan);
        self.attempt(plan)
    }

    /// Ends the world's busy time early.
    fn shorten(&mut self) {
        if self.report.time < self.plan.span {
            let end = Duration::from_secs(self.report.time.as_secs() + 1);
            self.change(|plan| plan.span = end);
        }
        for part in [0.25, 0.5, 0.75, 0.9] {
            let end = Duration::from_millis(self.plan.span.mul_f64(part).as_millis() as u64);
            if self.change(|plan| plan.span = end) {
                break;
            }
        }
    }

    fn drop_kinds(&mut self) {
        let mut kinds: Vec<String> = self.report.faults.iter().map(|(_, kind)| kind.clone()).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            self.change(|plan| {
                plan.without_kinds.insert(kind);
            });
        }
    }

    fn drop_actors(&mut self) {
        for actor in self.report.actors.clone() {
            self.change(|plan| {
                plan.without_actors.insert(actor);
            });
        }
    }

    /// Drops halves of the faults that are left, then quarters, down to single ones.
    fn drop_faults(&mut self) {
        let mut parts = 2;
        loop {
            let numbers: Vec<u64> = self.report.faults.iter().map(|(number, _)| *number).collect();
            if numbers.is_empty() {
                return;
            }
            let size = numbers.len().div_ceil(parts);
            for chunk in numbers.chunks(size) {
                self.change(|plan| plan.without_faults.extend(chunk.iter().copied()));
            }
            if size == 1 || self.attempts >= ATTEMPTS_MAX {
                return;
            }
            parts *= 2;
        }
    }
}

/// Shrinks the world of a plan; `None` if it shows no violation.
pub fn shrink(plan: Plan) -> Option<Smaller> {
    let report = run_plan(&plan);
    let wanted = class(report.violation.as_deref()?);
    let mut search = Search {
        wanted,
        plan,
        report,
        attempts: 1,
    };
    search.shorten();
    search.drop_kinds();
    search.drop_actors();
    search.drop_faults();
    search.shorten();
    let mut plan = search.plan;
    plan.tells_messages = true;
    let report = run_plan(&plan);
    Some(Smaller {
        plan,
        report,
        attempts: search.attempts + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_make_another_violation() {
        let one = class("member 89ab12ffee00 is at revision 17 after entry 20, the log says 18");
        assert_eq!(
            one,
            class("member ffeeddccbbaa is at revision 3 after entry 4, the log says 9")
        );
        assert_ne!(
            one,
            class("member 1 votes for 2 in term 3, in which it has voted for 4")
        );
    }
}
