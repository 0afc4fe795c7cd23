//! One directory, two programs: real etcd and Mainstay take turns on it, stopped in order or
//! killed under load, and clients see the same on every leg.

use conformance::{Home, Program, Rig, Stop};
use serde_json::Value;

/// Runs the legs on one directory. The load goes on while a leg is stopped.
fn check(name: &str, legs: &[(Program, Stop)]) {
    let Some(rig) = Rig::find(name) else { return };
    let home = Home::new(name);
    let mut before: Option<Value> = None;
    for (leg, (program, stop)) in legs.iter().enumerate() {
        let server = home.start(&rig, *program, &[]);
        if let Some(before) = &before {
            eprintln!("{name} leg {leg} {program:?}: {}", home.verify(&rig).trim());
            same(
                before,
                &home.state(&rig, &pins(before)),
                &format!("{name} leg {leg} {program:?}"),
            );
        }
        let seed = format!("{}", leg + 1);
        let mut quiet = rig.load(&home.endpoint(), &home.account(), &["-seed", &seed]);
        quiet.wait_for_lines(&home.account(), 600);
        quiet.end();
        before = Some(home.state(&rig, &[]));
        // From here on nothing is compacted, so that the pinned revision stays readable.
        let seed = format!("{}", leg + 1001);
        let mut load = rig.load(
            &home.endpoint(),
            &home.account(),
            &["-seed", &seed, "-compact=false"],
        );
        load.wait_for_lines(&home.account(), 300);
        let status = server.stop(*stop);
        load.end();
        if *stop == Stop::Term {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(
                status.signal(),
                Some(15),
                "{program:?} dies by the signal that stops it: {status}"
            );
        }
        home.check_file(&rig);
    }
}

/// The revision at which `state` was read.
fn pins(state: &Value) -> Vec<i64> {
    state["revision"].as_i64().into_iter().collect()
}

/// What was pinned reads the same later; leases and members of then are there.
fn same(before: &Value, after: &Value, leg: &str) {
    let pin = before["revision"].to_string();
    assert_eq!(
        before["at"][&pin], after["at"][&pin],
        "{leg}: pinned reads and HashKV at {pin}"
    );
    assert_eq!(before["members"], after["members"], "{leg}: members");
    assert_eq!(before["alarms"], after["alarms"], "{leg}: alarms");
    let leases = before["leases"].as_object().expect("leases");
    for (id, lease) in leases {
        let now = after["leases"][id].as_str().unwrap_or_default();
        let granted = |text: &str| text.split(' ').next().unwrap_or_default().to_string();
        assert_eq!(
            granted(lease.as_str().unwrap_or_default()),
            granted(now),
            "{leg}: granted TTL of lease {id}"
        );
    }
}

fn alternate(line: &'static str, legs: usize) -> Vec<(Program, Stop)> {
    let programs = [Program::Go(line), Program::Ours(line)];
    // The way of stopping changes every second leg, so that each program meets both.
    (0..legs)
        .map(|leg| {
            (
                programs[leg % 2],
                if leg / 2 % 2 == 0 { Stop::Kill } else { Stop::Term },
            )
        })
        .collect()
}

fn legs() -> usize {
    if std::env::var("MAINSTAY_INTEROP").is_ok_and(|form| form == "all") {
        10
    } else {
        5
    }
}

#[test]
fn etcd_3_5_and_ours_take_turns() {
    check("swap-3.5", &alternate("3.5", legs()));
}

#[test]
fn etcd_3_6_and_ours_take_turns() {
    check("swap-3.6", &alternate("3.6", legs()));
}

#[test]
fn etcd_3_7_and_ours_take_turns() {
    check("swap-3.7", &alternate("3.7", legs()));
}

#[test]
fn upgrade_from_3_5_through_ours_to_3_6() {
    for stop in [Stop::Term, Stop::Kill] {
        check(
            "up-3.5-3.6",
            &[
                (Program::Go("3.5"), stop),
                (Program::Ours("3.5"), stop),
                (Program::Go("3.6"), stop),
            ],
        );
    }
}

#[test]
fn upgrade_from_3_6_to_ours_as_3_7() {
    for stop in [Stop::Term, Stop::Kill] {
        check(
            "up-3.6-3.7",
            &[
                (Program::Go("3.6"), stop),
                (Program::Ours("3.7"), stop),
                (Program::Go("3.7"), stop),
            ],
        );
    }
}
