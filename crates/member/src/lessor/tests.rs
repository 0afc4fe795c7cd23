//! Stories of leases: what is granted, when it is offered for revocation, who is told.

use super::*;

const EXTEND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

fn config(checkpoint: bool) -> LessorConfig {
    LessorConfig {
        checkpoint,
        checkpoint_interval: CHECKPOINT_INTERVAL,
        retry_interval: Duration::from_secs(7),
    }
}

fn primary(checkpoint: bool) -> Lessor<u32> {
    let mut lessor = Lessor::new(config(checkpoint), []);
    lessor.promote(at(0), EXTEND);
    lessor
}

/// Polls at every wake-up until `end`, and tells what was offered when.
fn run(lessor: &mut Lessor<u32>, end: Instant) -> Vec<(u128, Proposals)> {
    let mut seen = Vec::new();
    let mut now = at(0);
    while let Some(wake) = lessor.next_wake() {
        now = wake.max(now);
        if now > end {
            break;
        }
        let proposals = lessor.poll(now);
        if proposals != Proposals::default() {
            seen.push((now.since_start().as_millis(), proposals));
        }
    }
    seen
}

fn revokes(ids: &[i64]) -> Proposals {
    Proposals {
        revokes: ids.to_vec(),
        checkpoints: Vec::new(),
    }
}

#[test]
fn an_expired_lease_is_offered_at_the_next_beat_and_again_after_the_retry_interval() {
    let mut lessor = primary(false);
    lessor.granted(7, 2, at(100));
    assert_eq!(lessor.poll(at(0)), Proposals::default());
    let seen = run(&mut lessor, at(8000));
    assert_eq!(seen, [(2100, revokes(&[7]))]);
    // The proposal was lost: the slot is free again, and the lease comes up after 7 s.
    lessor.revoke_finished(7);
    assert_eq!(run(&mut lessor, at(10_000)), [(9100, revokes(&[7]))]);
    assert!(lessor.revoked(7).is_empty());
    assert_eq!(lessor.next_wake(), None);
}

#[test]
fn a_member_that_does_not_decide_lets_nothing_expire() {
    let mut lessor = Lessor::<u32>::new(config(false), [(1, 2, 0)]);
    lessor.granted(2, 2, at(0));
    assert_eq!(lessor.next_wake(), None);
    assert_eq!(lessor.poll(at(99_000)), Proposals::default());
    assert_eq!(lessor.renew(1, at(0)), Renewal::NotPrimary);
    assert_eq!(lessor.time_to_live(1, at(0)), None);
    assert_eq!(lessor.wait(1, 5), Some(5));

    lessor.promote(at(100_000), EXTEND);
    let times = lessor.time_to_live(1, at(100_000)).unwrap();
    assert_eq!((times.remaining_seconds, times.granted_seconds), (3, 2));
    assert_eq!(run(&mut lessor, at(102_999)), []);
    assert_eq!(run(&mut lessor, at(103_000)), [(103_000, revokes(&[1, 2]))]);
    let _ = lessor.demote();
    assert_eq!(lessor.next_wake(), None);
    assert!(!lessor.is_primary());
}

#[test]
fn a_renewal_gives_all_the_time_again() {
    let mut lessor = primary(false);
    lessor.granted(7, 10, at(0));
    assert_eq!(lessor.renew(7, at(9_999)), Renewal::Renewed(10));
    assert_eq!(lessor.renew(8, at(9_999)), Renewal::NotFound);
    let times = lessor.time_to_live(7, at(10_999)).unwrap();
    assert_eq!((times.remaining_seconds, times.granted_seconds), (9, 10));
    assert_eq!(run(&mut lessor, at(19_998)), []);
    assert_eq!(run(&mut lessor, at(30_000)), [(19_999, revokes(&[7]))]);
}

#[test]
fn a_renewal_of_an_expired_lease_waits_for_its_end() {
    let mut lessor = primary(false);
    lessor.granted(7, 2, at(0));
    lessor.granted(8, 2, at(0));
    assert_eq!(lessor.renew(7, at(2000)), Renewal::Expired);
    assert_eq!(lessor.wait(7, 41), None);
    assert_eq!(lessor.wait(7, 42), None);
    assert_eq!(lessor.wait(8, 43), None);
    assert_eq!(lessor.waiting(), 3);
    assert_eq!(lessor.revoked(7), [41, 42]);
    assert_eq!(lessor.wait(8, 45), None);
    lessor.keep_waiting(|waiter| *waiter != 45);
    assert_eq!(lessor.waiting(), 1);
    assert_eq!(lessor.wait(7, 44), Some(44));
    assert_eq!(lessor.demote(), [43]);
    assert_eq!(lessor.waiting(), 0);
    let over = primary(false).time_to_live(1, at(0));
    assert_eq!(over, None);
}

#[test]
fn times_of_an_expired_lease_are_cut_towards_zero() {
    let mut lessor = primary(false);
    lessor.granted(7, 2, at(0));
    for (now, expected) in [(0, 2), (1, 1), (1999, 0), (2000, 0), (2999, 0), (3000, -1)] {
        assert_eq!(
            lessor.time_to_live(7, at(now)).unwrap().remaining_seconds,
            expected,
            "{now}"
        );
    }
}

#[test]
fn only_so_many_are_revoked_at_a_time() {
    let mut lessor = primary(false);
    for id in 1..=700 {
        lessor.granted(id, 2, at(0));
    }
    let first = lessor.poll(at(2000));
    assert_eq!(first.revokes, (1..=16).collect::<Vec<i64>>());
    assert_eq!(lessor.poll(at(2001)), Proposals::default());
    let mut offered = first.revokes;
    let mut next = 0;
    while next < offered.len() {
        assert!(lessor.revoked(offered[next]).is_empty());
        next += 1;
        offered.extend(lessor.poll(at(2002)).revokes);
    }
    // A beat finds 500; the other 200 come with the next one.
    assert_eq!(offered, (1..=500).collect::<Vec<i64>>());
    assert_eq!(lessor.next_wake(), Some(at(2500)));
    assert_eq!(lessor.poll(at(2500)).revokes, (501..=516).collect::<Vec<i64>>());
}

#[test]
fn a_lease_revoked_by_a_client_is_not_offered() {
    let mut lessor = primary(false);
    for id in 1..=20 {
        lessor.granted(id, 2, at(0));
    }
    assert_eq!(lessor.poll(at(2000)).revokes.len(), 16);
    assert!(lessor.revoked(17).is_empty());
    lessor.revoke_finished(1);
    lessor.revoke_finished(2);
    assert_eq!(lessor.poll(at(2000)).revokes, [18, 19]);
}

#[test]
fn expiries_that_pile_up_are_spread() {
    let leases = (1..=3000).map(|id| (id, 60, 0));
    let mut lessor = Lessor::<u32>::new(config(false), leases);
    lessor.promote(at(0), EXTEND);
    let mut in_second = BTreeMap::<u64, usize>::new();
    for id in 1..=3000 {
        let left = lessor.time_to_live(id, at(0)).unwrap().remaining_seconds;
        assert!(left >= 61, "lease {id} lost time: {left}");
        *in_second.entry(left as u64).or_default() += 1;
    }
    // 750 and one more stay; each further 750 come about a second later.
    assert_eq!(
        in_second.into_iter().collect::<Vec<_>>(),
        [(61, 750), (62, 749), (63, 750), (64, 750), (65, 1)]
    );

    let mut few = Lessor::<u32>::new(config(false), (1..=999).map(|id| (id, 60, 0)));
    few.promote(at(0), EXTEND);
    assert!((1..=999).all(|id| few.time_to_live(id, at(0)).unwrap().remaining_seconds == 61));
}

/// Leases 1 to 40 expire together; 40 waits for its turn while it is revoked and granted anew.
#[test]
fn the_turn_of_an_expired_lease_is_not_that_of_the_next_one_with_its_id() {
    let mut lessor = primary(false);
    for id in 1..=40 {
        lessor.granted(id, 2, at(0));
    }
    let mut offered = lessor.poll(at(2000)).revokes;
    assert_eq!(offered.len(), REVOKES_IN_FLIGHT_MAX);
    assert!(lessor.revoked(40).is_empty());
    lessor.granted(40, 3600, at(2001));
    // No other revocation comes through, so that all are found expired once more.
    for millis in [2001, 10_000, 20_000] {
        for id in offered.clone() {
            lessor.revoke_finished(id);
            offered.extend(lessor.poll(at(millis)).revokes);
        }
    }
    offered.sort_unstable();
    offered.dedup();
    assert_eq!(offered, (1..40).collect::<Vec<i64>>());
    assert!(lessor.contains(40));
}

#[test]
fn remaining_times_are_recorded_every_five_minutes() {
    let mut lessor = primary(true);
    lessor.granted(7, 1000, at(0));
    lessor.granted(8, 300, at(0));
    let checkpoint = |list: &[(i64, i64)]| Proposals {
        revokes: vec![],
        checkpoints: vec![list.to_vec()],
    };
    let mut seen = run(&mut lessor, at(300_999));
    assert_eq!(
        seen.remove(0),
        (
            300_000,
            Proposals {
                revokes: vec![8],
                checkpoints: vec![vec![(7, 700)]]
            }
        )
    );
    lessor.checkpointed(7, 700, at(300_100));
    assert_eq!(
        run(&mut lessor, at(601_000)),
        [(600_100, checkpoint(&[(7, 400)]))]
    );
    lessor.checkpointed(7, 400, at(600_200));

    // The next leader starts from what was recorded; a renewal clears it first.
    let mut next = Lessor::<u32>::new(config(true), [(7, 1000, 400)]);
    next.promote(at(0), EXTEND);
    assert_eq!(next.time_to_live(7, at(0)).unwrap().remaining_seconds, 401);
    assert_eq!(next.renew(7, at(0)), Renewal::ClearFirst);
    next.checkpointed(7, 0, at(0));
    assert_eq!(next.renew(7, at(0)), Renewal::Renewed(1000));
    assert_eq!(next.time_to_live(7, at(0)).unwrap().remaining_seconds, 1000);
}

#[test]
fn without_the_feature_nothing_is_recorded() {
    let mut lessor = primary(false);
    lessor.granted(7, 1000, at(0));
    assert_eq!(run(&mut lessor, at(999_999)), []);
    // What an earlier configuration recorded still counts, as in etcd.
    let mut next = Lessor::<u32>::new(config(false), [(7, 1000, 400)]);
    next.promote(at(0), Duration::ZERO);
    assert_eq!(next.renew(7, at(0)), Renewal::Renewed(1000));
    assert_eq!(next.time_to_live(7, at(0)).unwrap().remaining_seconds, 400);
}

#[test]
fn lists_are_in_the_order_of_expiry() {
    let mut lessor = primary(false);
    for (id, ttl) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        lessor.granted(id, ttl, at(0));
    }
    assert_eq!(lessor.list(), [2, 4, 3, 1]);
    assert!(lessor.demote().is_empty());
    assert_eq!(lessor.list(), [1, 2, 3, 4]);
    assert_eq!(lessor.len(), 4);
}

#[test]
fn the_longest_lease_does_not_overflow() {
    let mut lessor = primary(true);
    lessor.granted(7, 9_000_000_000, at(0));
    lessor.granted(8, i64::MAX, at(u64::MAX));
    assert_eq!(
        lessor.time_to_live(7, at(0)).unwrap().remaining_seconds,
        9_000_000_000
    );
    assert_eq!(lessor.poll(at(400_000)).checkpoints, [[(7, 8_999_999_600)]]);
}

#[test]
fn the_minimum_is_rounded_up() {
    assert_eq!(min_ttl_seconds(10, Duration::from_millis(100)), 2);
    assert_eq!(min_ttl_seconds(10, Duration::from_millis(200)), 3);
    assert_eq!(min_ttl_seconds(10, Duration::from_millis(1)), 1);
    assert_eq!(min_ttl_seconds(0, Duration::from_millis(1)), 0);
}
