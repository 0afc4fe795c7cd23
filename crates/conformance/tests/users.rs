//! Authentication in a cluster where etcd enforces it and ours does not yet: ours applies what the others decide, byte
//! for byte, serves the other members, and lets no client in.

use std::path::Path;

use conformance::group::Group;
use conformance::{Program, Rig, Stop, eventually, run};

const ROOT: &str = "--user=root:root-secret";
const USER: &str = "--user=user:user-secret";
const REFUSED: &str = "authentication is enabled, which this release does not enforce yet";

/// The rows of a bucket in a stopped member's data file.
fn rows(rig: &Rig, db: &Path, bucket: &str) -> Vec<(String, String)> {
    let (bbolt, db) = (rig.peers.join("bbolt"), db.to_string_lossy());
    let (done, keys) = run(&bbolt, &["keys", &db, bucket]);
    assert!(done, "{keys}");
    let value = |key: &str| {
        let (done, value) = run(&bbolt, &["get", "--format=hex", &db, bucket, key]);
        assert!(done, "{value}");
        (key.to_owned(), value)
    };
    keys.lines().map(value).collect()
}

fn refused(group: &Group<'_>, at: usize) {
    for args in [
        &["get", "own"][..],
        &[ROOT, "get", "own"],
        &["put", "own", "x"],
        &["get", "own", "--consistency=s"],
        &["member", "list"],
        &["lease", "list"],
        &["snapshot", "save", "/dev/null"],
    ] {
        let (done, text) = group.try_ctl(at, &[args, &["--command-timeout=2s"]].concat(), "");
        assert!(!done, "{args:?} through member {at}: {text}");
        // With a name and a password etcdctl asks for a token first.
        assert!(
            text.contains(REFUSED) || text.contains("deadline"),
            "{args:?}: {text}"
        );
    }
    assert!(group.homes[at].healthy(), "which is no sickness");
}

/// Users, roles, and writes of all kinds through real etcd, some of which it refuses.
fn work(group: &Group<'_>, at: usize, round: usize) {
    let key = |name: &str| format!("{name}-{round}");
    let may = |args: &[&str], expected: bool| {
        let (done, text) = group.try_ctl(at, args, "");
        assert_eq!(done, expected, "{args:?}: {text}");
    };
    may(&[USER, "put", "own", &key("own")], true);
    may(&[USER, "put", "foreign", "x"], false);
    may(&[USER, "put", "written", "x"], true);
    may(&[USER, "get", "written"], false);
    may(&[ROOT, "put", "foreign", &key("foreign")], true);
    may(&[ROOT, "role", "add", &key("role")], true);
    // More permissions than Go sorts by insertion, with keys that are equal.
    for n in 0..16 {
        let (from, to) = (format!("k{}", (7 * n) % 4), format!("l{}", (5 * n) % 7));
        may(
            &[
                ROOT,
                "role",
                "grant-permission",
                &key("role"),
                "readwrite",
                &from,
                &to,
            ],
            true,
        );
    }
    may(
        &[ROOT, "role", "revoke-permission", &key("role"), "k0", "l0"],
        true,
    );
    may(&[ROOT, "user", "add", &format!("{}:secret", key("user"))], true);
    may(&[ROOT, "user", "grant-role", &key("user"), &key("role")], true);
    may(&[ROOT, "user", "grant-role", &key("user"), "own"], true);
    let (done, text) = group.try_ctl(
        at,
        &[ROOT, "user", "passwd", &key("user"), "--interactive=false"],
        "other\n",
    );
    assert!(done, "{text}");
    if round > 0 {
        may(&[ROOT, "role", "delete", &format!("role-{}", round - 1)], true);
        may(&[ROOT, "user", "delete", &format!("user-{}", round - 1)], true);
    }
    let text = group.ctl(at, &[ROOT, "lease", "grant", "2"]);
    let lease = text.split(' ').nth(1).expect("an ID");
    may(&[ROOT, "put", "foreign", "leased", "--lease", lease], true);
    // It expires by the word of whoever leads.
    eventually("the lease ends", || {
        let (done, text) = group.try_ctl(at, &[ROOT, "get", "foreign", "--print-value-only"], "");
        (done && text.is_empty()).then_some(())
    });
}

/// etcd issue 14571: permissions hold after a restart and after a state that was sent.
#[test]
fn a_member_of_ours_lives_with_users() {
    let Some(rig) = Rig::find("users") else { return };
    let lines: &[&str] = if rig.all { &["3.7", "3.6", "3.5"] } else { &["3.7"] };
    for &line in lines {
        let (go, ours) = (Program::Go(line), Program::Ours(line));
        let kept = match line {
            "3.7" => "--snapshot-catchup-entries=5",
            _ => "--experimental-snapshot-catchup-entries=5",
        };
        let flags = ["--snapshot-count=20", kept];
        let mut group = Group::start(&rig, &format!("users-{line}"), &[go, go, ours], &flags);
        for args in [
            &["user", "add", "root:root-secret"][..],
            &["user", "grant-role", "root", "root"],
            &["role", "add", "own"],
            &["role", "grant-permission", "own", "readwrite", "own"],
            &["role", "grant-permission", "own", "write", "w", "x"],
            &["user", "add", "user:user-secret"],
            &["user", "grant-role", "user", "own"],
            &["user", "add", "certified", "--no-password"],
            &["auth", "enable"],
        ] {
            group.ctl(0, args);
        }
        work(&group, 0, 0);
        refused(&group, 2);
        group.agree(&[0, 1, 2]);
        // As the leader, too: it lets leases expire for others.
        let id = group.id(2);
        eventually("ours leads", || {
            let leader = group.leader();
            if leader != 2 {
                group.try_ctl(leader, &[ROOT, "move-leader", &id], "");
            }
            (leader == 2).then_some(())
        });
        work(&group, 1, 1);
        refused(&group, 2);
        group.agree(&[0, 1, 2]);
        // From its own files, and from a state that was sent (etcd issue 14571).
        group.restart(2, Stop::Kill);
        work(&group, 0, 2);
        group.agree(&[0, 1, 2]);
        group.stop(2, Stop::Kill);
        work(&group, 0, 3);
        group.spawn(2, &[]);
        group.wait(2);
        assert!(group.server(2).log().contains("\"applied snapshot\""));
        work(&group, 0, 4);
        group.agree(&[0, 1, 2]);
        group.ctl(0, &[ROOT, "auth", "disable"]);
        group.put(2, "let in again");
        group.ctl(0, &["auth", "enable"]);
        refused(&group, 2);
        group.agree(&[0, 1, 2]);
        for at in 0..3 {
            group.stop(at, Stop::Term);
        }
        for bucket in ["auth", "authUsers", "authRoles"] {
            let theirs = rows(&rig, &group.homes[0].db(), bucket);
            assert!(!theirs.is_empty());
            assert_eq!(
                theirs,
                rows(&rig, &group.homes[2].db(), bucket),
                "{line}: {bucket}, etcd on the left"
            );
        }
    }
}
