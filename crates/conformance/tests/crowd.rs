//! Many connections with many watches each, as Kubernetes' API servers keep them: no event may be missed,
//! doubled, out of order or overtaken by a progress notification, and each watch must be told of progress.

use conformance::{Home, Program, Rig, Stop};
use serde_json::Value;

/// What real etcd 3.7.1 needs for the long form, in kB: 439,000. Ours may not need more.
const MEMORY_KILOBYTES_MAX: u64 = 439_000;

/// Runs the tool's crowd at a fresh server; what it counted.
fn crowd(rig: &Rig, size: &[&str]) -> Value {
    let home = Home::new("crowd");
    let server = home.start(
        rig,
        Program::Ours("3.7"),
        &["--watch-progress-notify-interval=5s"],
    );
    let (endpoint, id) = (home.endpoint(), server.id().to_string());
    let args = [&["crowd", "-endpoint", &endpoint, "-pid", &id], size].concat();
    let counted = serde_json::from_str(&rig.tool(&args)).expect("the tool prints JSON");
    server.stop(Stop::Term);
    eprintln!("{counted}");
    counted
}

#[test]
fn a_crowd_of_watchers_hears_all() {
    let Some(rig) = Rig::find("crowd") else { return };
    let size: &[&str] = if rig.all {
        &["-connections=2000", "-watches=70", "-groups=20", "-writes=5000"]
    } else {
        &["-connections=100", "-watches=70", "-groups=5", "-writes=1000"]
    };
    let counted = crowd(&rig, size);
    let number = |name: &str| counted[name].as_u64().expect("a number");
    assert!(number("events") > number("writes"), "{counted}");
    assert!(number("end_kilobytes") < MEMORY_KILOBYTES_MAX, "{counted}");
}
