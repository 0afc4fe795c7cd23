//! Authentication in a cluster where etcd enforces it and ours does not yet: ours applies what the others decide, byte
//! for byte, serves the other members, and lets no client in.

use std::path::Path;

use conformance::group::Group;
use conformance::{Home, Program, Rig, Stop, eventually, http, run};
use serde_json::Value;

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
        let known = [REFUSED, "authentication is not supported yet"];
        assert!(known.iter().any(|words| text.contains(words)), "{args:?}: {text}");
    }
    assert!(group.homes[at].healthy(), "which is no sickness");
}

/// The members' stores are the same, by what they tell other members.
fn agree(group: &Group<'_>) {
    eventually("the members agree", || {
        let hash = |home: &Home| {
            let port = home.peer().rsplit(':').next()?.parse().ok()?;
            let head = "GET /members/hashkv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
            let request = format!("{head}Content-Length: 14\r\n\r\n{{\"revision\":0}}");
            let answer = http(port, &request).ok()?;
            let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1.trim()).ok()?;
            let hash = body["hash"].as_u64()?;
            Some((hash, body["header"]["revision"].as_i64()?))
        };
        let hashes: Vec<(u64, i64)> = group.homes.iter().map(hash).collect::<Option<_>>()?;
        hashes.iter().all(|other| *other == hashes[0]).then_some(())
    });
}

/// The ID of who leads, by the word of one of etcd.
fn leader(group: &Group<'_>, at: usize) -> u64 {
    let text = group.ctl_at_last(at, &[ROOT, "endpoint", "status", "-w", "json"]);
    let value: Value = serde_json::from_str(text.lines().next().unwrap_or_default()).expect("a status");
    value[0]["Status"]["leader"].as_u64().unwrap_or_default()
}

/// Users, roles, and writes of all kinds through real etcd, some of which it refuses.
fn work(group: &Group<'_>, at: usize, round: usize) {
    let key = |name: &str| format!("{name}-{round}");
    let may = |args: &[&str], expected: bool| {
        let (done, text) = group.try_ctl(at, args, "");
        assert_eq!(done, expected, "{args:?}: {text}");
    };
    // Whoever led may just have been killed, and a restarted member may lead again at once.
    eventually("a write is taken", || {
        let (done, _) = group.try_ctl(at, &[ROOT, "put", "foreign", "before"], "");
        done.then_some(())
    });
    may(&[USER, "put", "own", &key("own")], true);
    may(&[USER, "put", "foreign", "x"], false);
    may(&[USER, "put", "written", "x"], true);
    may(&[USER, "get", "written"], false);
    may(&[ROOT, "put", "foreign", &key("foreign")], true);
    may(&[ROOT, "role", "add", &key("role")], true);
    // More permissions than Go sorts by insertion, with keys that are equal.
    let permissions = if round.is_multiple_of(3) { 16 } else { 3 };
    for n in 0..permissions {
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
    if round > 1 {
        return;
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
        // Passwords are hashed with care elsewhere.
        let flags = ["--snapshot-count=20", kept, "--bcrypt-cost=4"];
        let mut group = Group::start(&rig, &format!("users-{line}"), &[go, go, ours], &flags);
        let id = |at| u64::from_str_radix(&group.id(at), 16).expect("an ID");
        let ids = [id(0), id(1), id(2)];
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
        agree(&group);
        // As the leader, too: it lets leases expire for others.
        eventually("ours leads", || {
            let leads = leader(&group, 0);
            if let Some(at) = ids[..2].iter().position(|id| *id == leads) {
                group.try_ctl(at, &[ROOT, "move-leader", &format!("{:x}", ids[2])], "");
            }
            (leads == ids[2]).then_some(())
        });
        work(&group, 1, 1);
        refused(&group, 2);
        agree(&group);
        // From its own files, and from a state that was sent (etcd issue 14571).
        group.restart(2, Stop::Kill);
        work(&group, 0, 2);
        agree(&group);
        group.stop(2, Stop::Kill);
        work(&group, 0, 3);
        group.spawn(2, &[]);
        group.wait(2);
        eventually("a state is sent", || {
            group
                .server(2)
                .log()
                .contains("\"applied snapshot\"")
                .then_some(())
        });
        work(&group, 0, 4);
        agree(&group);
        group.ctl(0, &[ROOT, "auth", "disable"]);
        group.put(2, "let in again");
        group.ctl(0, &["auth", "enable"]);
        refused(&group, 2);
        agree(&group);
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
