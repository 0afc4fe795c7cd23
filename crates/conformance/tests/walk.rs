//! Everything that a cluster of ours offers, through real etcdctl on every member; then members are killed, come back,
//! lose their disks and are replaced as docs/clustering.md says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use conformance::group::Group;
use conformance::{Program, Rig, Stop};

const OURS: Program = Program::Ours("3.7");

/// What an etcdctl that goes on prints until `wanted` comes; it is ended then.
fn until(group: &Group<'_>, at: usize, args: &[&str], wanted: &str, then: impl FnOnce()) {
    let mut child = Command::new(group.rig.go("3.7", "etcdctl"))
        .arg(format!("--endpoints={}", group.homes[at].endpoint()))
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("etcdctl runs");
    then();
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut seen = Vec::new();
    let found = lines.map_while(Result::ok).any(|line| {
        seen.push(line);
        seen.last().is_some_and(|line| line == wanted)
    });
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    assert!(found, "{args:?} through member {at}: {seen:?}");
}

fn keys(group: &Group<'_>, at: usize) {
    let key = format!("walk-{at}");
    group.ctl(at, &["put", &key, "1"]);
    for through in 0..group.homes.len() {
        assert_eq!(group.ctl(through, &["get", &key]), format!("{key}\n1\n"));
    }
    let txn = format!("value(\"{key}\") = \"1\"\n\nput {key} 2\n\nput {key} 3\n\n");
    let (done, text) = group.try_ctl(at, &["txn"], &txn);
    assert!(done && text.contains("SUCCESS"), "{text}");
    let text = group.ctl(at, &["get", &key, "-w", "fields"]);
    let revision: i64 = text
        .lines()
        .find_map(|line| line.strip_prefix("\"ModRevision\" : "))
        .and_then(|number| number.parse().ok())
        .expect("a revision");
    // A watch from the past, and what comes while it is there.
    let from = format!("--rev={revision}");
    until(group, at, &["watch", &key, &from], "4", || {
        group.ctl(at, &["put", &key, "4"]);
    });
    group.ctl(at, &["compact", &revision.to_string()]);
    let (done, text) = group.try_ctl(at, &["get", &key, "--rev=1"], "");
    assert!(
        !done && text.contains("required revision has been compacted"),
        "{text}"
    );
    assert_eq!(group.ctl(at, &["del", &key]), "1\n");
}

fn leases(group: &Group<'_>, at: usize) {
    let text = group.ctl(at, &["lease", "grant", "600"]);
    let lease = text.split(' ').nth(1).expect("an ID").to_owned();
    let key = format!("leased-{at}");
    group.ctl(at, &["put", &key, "x", "--lease", &lease]);
    for through in 0..group.homes.len() {
        let text = group.ctl(through, &["lease", "keep-alive", "--once", &lease]);
        assert!(text.contains("keepalived with TTL(600)"), "{text}");
        let text = group.ctl(through, &["lease", "timetolive", &lease, "--keys"]);
        assert!(
            text.contains("granted with TTL(600s)") && text.contains(&key),
            "{text}"
        );
        assert!(group.ctl(through, &["lease", "list"]).contains(&lease));
    }
    group.ctl(at, &["lease", "revoke", &lease]);
    assert_eq!(group.ctl(at, &["get", &key]), "");
}

fn recipes(group: &Group<'_>, at: usize) {
    let lock = format!("lock-{at}");
    assert_eq!(group.ctl(at, &["lock", &lock, "echo", "held"]), "held\n");
    let office = format!("office-{at}");
    until(group, at, &["elect", &office, "me"], "me", || {});
}

fn maintenance(group: &Group<'_>, at: usize) {
    let text = group.ctl(at, &["defrag"]);
    assert!(text.contains("Finished defragmenting"), "{text}");
    let file = group.homes[at].dir.join("copy.db");
    group.ctl(at, &["snapshot", "save", &file.to_string_lossy()]);
    group.rig.tool(&["check", &file.to_string_lossy()]);
    fs::remove_file(&file).expect("removed");
    assert_eq!(group.ctl(at, &["alarm", "list"]), "");
    assert_eq!(group.ctl(at, &["alarm", "disarm"]), "");
    let members = group.ctl(at, &["member", "list"]);
    assert_eq!(members.lines().count(), group.homes.len(), "{members}");
    assert!(group.ctl(at, &["endpoint", "health"]).contains("is healthy"));
    assert_eq!(
        group
            .ctl(at, &["endpoint", "status", "--cluster"])
            .lines()
            .count(),
        group.homes.len()
    );
    // Users are not there yet, and nobody is told otherwise.
    let (done, text) = group.try_ctl(at, &["role", "add", "r"], "");
    assert!(!done && text.contains("Unimplemented"), "{text}");
}

#[test]
fn everything_through_every_one_of_three() {
    let Some(rig) = Rig::find("walk") else { return };
    let mut group = Group::start(&rig, "walk-3", &[OURS; 3], &[]);
    for at in 0..3 {
        group.make_leader(at);
        for through in 0..3 {
            // Through every member while another one leads each time; all of it in the long form.
            if rig.all || through == at || through == (at + 1) % 3 {
                keys(&group, through);
                leases(&group, through);
            }
        }
        recipes(&group, at);
        maintenance(&group, at);
    }
    // A follower and the leader are killed and come back; both lose their disks and are replaced.
    let mut replaced = None;
    for leads in [false, true] {
        for how in [Stop::Kill, Stop::Term] {
            let leader = group.leader();
            let at = if leads { leader } else { (leader + 1) % 3 };
            group.stop(at, how);
            group.put((at + 1) % 3, "without");
            group.spawn(at, &[]);
            group.wait(at);
            group.put(at, "with");
            group.agree(&[0, 1, 2]);
        }
        let leader = group.leader();
        let at = if leads { leader } else { (leader + 1) % 3 };
        let through = (at + 1) % 3;
        lost(&mut group, at, replaced == Some(at));
        replaced = Some(at);
        group.replace(at, through, OURS, &[]);
        group.wait(at);
        group.put(at, "replaced");
        group.agree(&[0, 1, 2]);
        keys(&group, at);
        leases(&group, at);
        maintenance(&group, at);
    }
    group.end();
}

/// A member with an empty disk must not come back under its old identity, nor under the one that was removed.
fn lost(group: &mut Group<'_>, at: usize, was_replaced: bool) {
    let data = group.homes[at].data();
    let kept = group.homes[at].dir.join("kept");
    group.stop(at, Stop::Kill);
    fs::rename(&data, &kept).expect("put aside");
    group.spawn(at, &[]);
    let status = group.server(at).wait();
    let log = group.server(at).log();
    let (code, words) = match was_replaced {
        false => (1, "has already been bootstrapped"),
        true => (0, "the member has been permanently removed from the cluster"),
    };
    assert_eq!(status.code(), Some(code), "{log}");
    assert!(log.contains(words), "{log}");
    drop(fs::remove_dir_all(&data));
    fs::rename(&kept, &data).expect("put back");
    group.spawn(at, &[]);
    group.wait(at);
}

#[test]
fn five_go_on_without_two() {
    let Some(rig) = Rig::find("walk-five") else { return };
    let mut group = Group::start(&rig, "walk-5", &[OURS; 5], &[]);
    for at in 0..5 {
        group.put(at, &format!("k{at}"));
        if rig.all {
            keys(&group, at);
            leases(&group, at);
            recipes(&group, at);
            maintenance(&group, at);
        }
    }
    leases(&group, 4);
    let leader = group.leader();
    let (one, other) = ((leader + 1) % 5, (leader + 2) % 5);
    group.stop(leader, Stop::Kill);
    group.stop(one, Stop::Kill);
    group.put(other, "three are enough");
    for at in [leader, one] {
        group.spawn(at, &[]);
    }
    for at in [leader, one] {
        group.wait(at);
    }
    let leader = group.leader();
    let through = (leader + 1) % 5;
    // As a learner first, as the recipe says.
    group.replace(leader, through, OURS, &["--learner"]);
    let list = group.ctl(through, &["member", "list", "-w", "fields"]);
    assert_eq!(list.matches("\"IsLearner\" : true").count(), 1, "{list}");
    let id = {
        let list = group.ctl(through, &["member", "list"]);
        let line = list
            .lines()
            .find(|line| line.ends_with("true"))
            .expect("the learner");
        line.split(',').next().expect("an ID").to_owned()
    };
    group.ctl_at_last(through, &["member", "promote", &id]);
    group.wait(leader);
    group.put(leader, "replaced");
    group.agree(&[0, 1, 2, 3, 4]);
    group.end();
}
