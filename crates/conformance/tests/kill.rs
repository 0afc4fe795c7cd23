//! SIGKILL under load, again and again: nothing that was acknowledged is lost.

use conformance::{Home, Program, Rig, Stop};

#[test]
fn every_acknowledged_write_survives_sigkill() {
    let Some(rig) = Rig::find("kill") else { return };
    let home = Home::new("kill");
    let rounds = if rig.all { 300 } else { 6 };
    for round in 1..=rounds {
        let server = home.start(
            &rig,
            Program::Ours("3.7"),
            &["--snapshot-count=500", "--snapshot-catchup-entries=50"],
        );
        // The account grows without end in the long form: a whole look at it now and then is enough.
        if home.account().exists() && (round < 10 || round % 10 == 0) {
            eprintln!("kill round {round}: {}", home.verify(&rig).trim());
        }
        let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", &round.to_string()]);
        load.wait_for_lines(&home.account(), 100 + round * 37 % 400);
        server.stop(Stop::Kill);
        load.end();
        if round % 5 == 0 {
            home.check_file(&rig);
        }
    }
    let server = home.start(&rig, Program::Ours("3.7"), &[]);
    eprintln!("kill: {}", home.verify(&rig).trim());
    server.stop(Stop::Term);
    home.check_file(&rig);
}
