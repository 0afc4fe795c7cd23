//! What went wrong in etcd with disks, found in worlds: seeds are tried until one gets there. docs/bug-history.md has
//! all of it.

use std::time::Duration;

/// Worlds that are tried at most: what is looked for comes once in ten or twenty.
const WORLDS: u64 = 150;

/// Tries worlds until something has happened in so many of them; none may show what cannot be.
fn check(what: &str, worlds: u64) {
    let mut met = 0;
    for seed in 5001..5001 + WORLDS {
        let report = sim::run(seed, Duration::from_secs(20));
        let told = report.timeline.join("\n");
        assert_eq!(report.violation, None, "seed {seed}\n{told}");
        met += u64::from(report.counts.get(what).is_some_and(|count| *count > 0));
        if met == worlds {
            return;
        }
    }
    panic!("{what}: in {met} of {WORLDS} worlds");
}

/// Such a member ends with an error that names the file; it is replaced, and the world ends with all members serving.
#[test]
fn etcd_14102_damage_stops_one_member_which_is_replaced() {
    check("members that refused to start from a damaged disk", 2);
}

/// Nobody may miss what a majority's disks said to have: the member is taken away and replaced.
#[test]
fn bbolt_562_what_a_lying_disk_has_lost_is_not_served() {
    check("machines that died while their disk lied", 2);
}
