//! A cluster of real etcd becomes one of ours, member by member on the same directories, and goes back the
//! same way, under load. Each member leads in each mix. What clients are told never shows it.

use std::time::Instant;

use conformance::group::{Eager, Group};
use conformance::witness::Witness;
use conformance::{Program, Rig, Stop};

/// Now and then a member that was away gets a snapshot, and logs are cut.
const EAGER: Eager = Eager {
    every: 1000,
    kept: 100,
};

/// Operations that are acknowledged through each member while another one leads.
const LED: u32 = 25;

/// Swaps the members one by one for ours, and back, each stopped as `how` tells.
fn roll(rig: &Rig, line: &'static str, name: &str, steps: &[(usize, Program)], how: impl Fn(usize) -> Stop) {
    let began = Instant::now();
    let mut group = Group::start_eager(rig, name, &[Program::Go(line); 3], EAGER);
    let endpoints: Vec<String> = group.homes.iter().map(|home| home.endpoint()).collect();
    let mut witness = Witness::start(rig, &endpoints, &["-seed", &line.replace('.', "")]);
    lead_all(&group, &mut witness, 0);
    for (step, (at, program)) in steps.iter().enumerate() {
        group.stop(*at, how(step));
        group.programs[*at] = *program;
        group.spawn(*at, &[]);
        group.wait(*at);
        // Who is swapped next leads last, or does not: a leader goes at every second step.
        lead_all(&group, &mut witness, at + 1 + step % 2);
        let counted = witness.check();
        eprintln!("{name} {:?} {:.1?}: {counted}", group.programs, began.elapsed());
    }
    eprintln!("{name}: {}", witness.end());
    for at in 0..3 {
        group.stop(at, how(at));
        group.homes[at].check_file(rig);
    }
}

/// Each member leads once, the given one last.
fn lead_all(group: &Group<'_>, witness: &mut Witness, last: usize) {
    for at in 1..=3 {
        group.make_leader((last + at) % 3);
        witness.wait(LED);
    }
}

/// All the way and back.
fn there_and_back(line: &'static str) -> Vec<(usize, Program)> {
    let there = (0..3).map(|at| (at, Program::Ours(line)));
    there.chain((0..3).map(|at| (at, Program::Go(line)))).collect()
}

/// The long form; the short form of one line goes all the way, of the others one step and back.
fn check(line: &'static str) {
    let Some(rig) = Rig::find("rolling") else { return };
    let steps = there_and_back(line);
    if rig.all {
        roll(&rig, line, &format!("rolling-term-{line}"), &steps, |_| {
            Stop::Term
        });
        roll(&rig, line, &format!("rolling-kill-{line}"), &steps, |_| {
            Stop::Kill
        });
        return;
    }
    let alternate = |step: usize| {
        if step.is_multiple_of(2) {
            Stop::Kill
        } else {
            Stop::Term
        }
    };
    let steps = if line == "3.6" { &steps } else { &steps[..1] };
    roll(&rig, line, &format!("rolling-{line}"), steps, alternate);
}

#[test]
fn clients_of_3_5_do_not_notice() {
    check("3.5");
}

#[test]
fn clients_of_3_6_do_not_notice() {
    check("3.6");
}

#[test]
fn clients_of_3_7_do_not_notice() {
    check("3.7");
}
