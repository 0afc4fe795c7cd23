//! Worlds of a few seconds: none may show what cannot be, and each is told again by its seed. The long
//! form is `cargo xtask sim`.

use std::time::Duration;

const SPAN: Duration = Duration::from_secs(12);

#[test]
fn worlds_hold_what_is_promised() {
    for seed in 1..=25 {
        let report = sim::run(seed, SPAN);
        let told = report.timeline.join("\n");
        assert_eq!(report.violation, None, "seed {seed}\n{told}");
        assert!(
            report.counts["answers"] > 0,
            "seed {seed}: nobody was served\n{told}"
        );
    }
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in [3, 8] {
        let first = sim::run(seed, SPAN);
        let second = sim::run(seed, SPAN);
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
        assert_ne!(first.digest, sim::run(seed + 1, SPAN).digest);
    }
}

/// What was found once: the seed and what it was. The seeds are of the moment; what they did is told
/// beside them.
#[test]
fn what_was_found_once_stays_mended() {
    for (seed, _what) in [
        // A state of the leader that was being read was forgotten when another message came.
        (1, "installation of a snapshot never ended"),
        // Pages whose sync had failed were taken for durable by the next process.
        (2, "a log with a hole after a failed sync, a restart and a crash"),
    ] {
        let report = sim::run(seed, Duration::from_secs(30));
        assert_eq!(
            report.violation,
            None,
            "seed {seed}\n{}",
            report.timeline.join("\n")
        );
    }
}
