//! Our etcdctl and etcdutl beside etcd's: the same command lines, one after another, each at a server of its
//! own, must print the same and end the same. What differs must be listed with its reason in
//! docs/differences.md.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use conformance::differences::Differences;
use conformance::{Home, Program, Rig, Stop, copy, eventually};

const OURS: Program = Program::Ours("3.7");
const GO: Program = Program::Go("3.7");

fn tool(rig: &Rig, which: Program, tool: &str) -> Command {
    match which {
        Program::Go(line) => Command::new(rig.go(line, tool)),
        Program::Ours(_) => {
            let mut command = Command::new(&rig.mainstay);
            command.arg(if tool == "etcdctl" { "ctl" } else { "utl" });
            command
        }
    }
}

/// A command line: its words, and behind ` <<< ` what it reads, with `\n` for the end of a line.
fn run(rig: &Rig, which: Program, name: &str, line: &str, setup: impl Fn(&mut Command)) -> String {
    let (words, input) = line.split_once(" <<< ").unwrap_or((line, ""));
    let mut command = tool(rig, which, name);
    setup(&mut command);
    let words = words
        .split_whitespace()
        .map(|word| if word == "''" { "" } else { word });
    let mut child = command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // Who does not read need not.
    let _ = stdin.write_all(input.replace("\\n", "\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the tool ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    let error = errors.lines().find(|line| line.starts_with("Error: "));
    format!(
        "{:?} {} {}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        error.unwrap_or_default()
    )
}

/// Holds what both said against the page of differences.
fn settle(kind: &str, lines: &[&str], theirs: &[String], ours: &[String]) {
    let found: BTreeMap<String, (String, String)> = lines
        .iter()
        .zip(theirs.iter().zip(ours))
        .filter(|(_, (theirs, ours))| theirs != ours)
        .map(|(line, (theirs, ours))| ((*line).to_string(), (theirs.clone(), ours.clone())))
        .collect();
    Differences::of(kind).settle(&found);
}

const CTL: &[&str] = &[
    "put a 1",
    "put b",
    "put b <<< from a pipe",
    "put a 1 2 3",
    "put --ignore-value a x",
    "put --ignore-value a",
    "put --lease=zz a x",
    "put --lease=123 a x",
    "put a 2 --prev-kv",
    "put a 2 --prev-kv -w json",
    "put a 2 -w fields",
    "put a 2 -w table",
    "put a 2 -w nope",
    "put",
    "get",
    "get a",
    "get a b c",
    "get a -w json",
    "get a -w fields",
    "get a -w table",
    "get a --hex",
    "get a --hex -w fields",
    "get '' --prefix",
    "get '' --from-key",
    "get a --prefix --from-key",
    "get a b --prefix",
    "get a --order=x",
    "get a --sort-by=x",
    "get a --order=DESCEND --sort-by=MODIFY --prefix",
    "get a --limit=x",
    "get a --rev=99",
    "get a --keys-only",
    "get a --count-only",
    "get a --count-only -w fields",
    "get a --keys-only --count-only",
    "get a --print-value-only",
    "get a --print-value-only -w json",
    "get a --consistency=x",
    "get a --min-mod-rev=5 --max-mod-rev=3",
    "get nokey -w json",
    "get a --stream -w json",
    "get a --nosuch",
    "del",
    "del a b c",
    "del nokey",
    "del a --prev-kv",
    "put k1 v1",
    "put k2 v2",
    "del k1 k3 --range --prev-kv -w json",
    "put bin x<y>&z",
    "get bin -w json",
    "txn <<< mod(\"bin\") > \"0\"\\n\\nput x 1\\nget bin\\n\\nput y 2\\n\\n",
    "txn -w json <<< mod(\"bin\") > \"0\"\\n\\nput x 1\\nget bin\\ndel x\\n\\nput y 2\\n\\n",
    "txn -w fields <<< mod(\"bin\") > \"0\"\\n\\nput x 1\\ndel x --prev-kv\\n\\nput y 2\\n\\n",
    "txn <<< nonsense\\n\\n\\n\\n",
    "txn <<< mod(\"bin\") = \"x\"\\n\\n\\n\\n",
    "txn <<< \\n\\nfoo\\n\\n\\n",
    "txn <<< \\n\\nfoo bar\\n\\n\\n",
    "txn x <<< \\n\\n\\n\\n",
    "compaction",
    "compaction x",
    "compaction 99999",
    "compaction 3",
    "compaction 3",
    "compaction 4 --physical",
    "compact 5",
    "member nosuch",
    "member list",
    "member list -w json",
    "member list -w fields",
    "member list --hex -w json",
    "member add",
    "member add x",
    "member add x y --peer-urls=http://127.0.0.1:1",
    "member add x --peer-urls=nope",
    "member remove",
    "member remove x",
    "member remove 1",
    "member update zz --peer-urls=http://127.0.0.1:1",
    "member update 1",
    "member promote",
    "member promote 1",
    "endpoint health -w protobuf",
    "endpoint hashkv -w protobuf",
    "endpoint hashkv --rev=99",
    "endpoint nosuch",
    "alarm list",
    "alarm list x",
    "alarm list -w json",
    "alarm disarm -w fields",
    "alarm nosuch",
    "move-leader",
    "move-leader x",
    "move-leader 1",
    "downgrade validate",
    "downgrade validate x",
    "downgrade validate 3.6",
    "downgrade validate 3.3",
    "downgrade cancel",
    "lease grant",
    "lease grant x",
    "lease grant 99999999999",
    "lease revoke",
    "lease revoke zz",
    "lease revoke 77",
    "lease timetolive zz",
    "lease timetolive 77",
    "lease timetolive 77 -w json",
    "lease list -w json",
    "lease keep-alive zz",
    "lease keep-alive --once 77",
    "lock",
    "lock a true",
    "lock a false",
    "elect",
    "elect a",
    "elect a b -l",
    "snapshot save",
    "snapshot save /nope/x",
    "snapshot nosuch",
    "watch --rev=x a",
    "version",
    "nosuch",
    "--nosuch",
    "completion",
    "make-mirror",
    "make-mirror a b",
    "make-mirror --nosuch",
    "check perf --load=nope",
    "check datascale --load=nope",
    "check nosuch",
    "--discovery-srv=x.invalid get a",
    "--cacert=/nope get a",
    "--cert=/nope get a",
    "--cert= get a",
    "--endpoints= get a",
    "--endpoints=127.0.0.1:1 --command-timeout=1s --dial-timeout=1s get a",
    "user nosuch",
    "user add",
    "user add :x",
    "user add root:secret",
    "user add root:secret",
    "user add plain --no-password",
    "user add fl --new-user-password=pw -w json",
    "user list",
    "user list x",
    "user list -w json",
    "user list -w fields",
    "user get root",
    "user get nosuch",
    "user get root -w json",
    "role add root",
    "role add r1",
    "role add r1",
    "role add r2 -w fields",
    "role list",
    "role list -w fields",
    "role list -w table",
    "role grant-permission r1 readwrite foo",
    "role grant-permission r1 READ bar baz",
    "role grant-permission r1 write pre --prefix",
    "role grant-permission r1 write from --from-key",
    "role grant-permission r1 read '' --prefix",
    "role grant-permission r1 read x y --prefix",
    "role grant-permission r1 read x --prefix --from-key",
    "role grant-permission r1 nosuch x",
    "role grant-permission r1 read",
    "role get r1",
    "role get r1 -w json",
    "role get r1 -w fields",
    "role get root",
    "role get nosuch",
    "user grant-role root root",
    "user grant-role root nosuch",
    "user grant-role root r1 -w json",
    "user get root --detail",
    "user revoke-role root",
    "user revoke-role root r1",
    "role revoke-permission r1 foo",
    "role revoke-permission r1 bar baz",
    "role revoke-permission r1 pre --prefix",
    "role revoke-permission r1 from --from-key",
    "role revoke-permission r1 nosuch",
    "role delete r2",
    "role delete r2",
    "user passwd plain --interactive=false <<< newpw\\n",
    "user passwd fl <<< a\\nb\\n",
    "auth status",
    "auth status -w json",
    "auth status x",
    "auth nosuch",
    "auth enable",
    "get bin",
    "--user root:secret get bin",
    "--user root:wrong get bin",
    "--user root --password secret get bin",
    "--user root get bin <<< secret\\n",
    "--auth-jwt-token abc get bin",
    "--user root:secret user list",
    "--user root:secret auth disable",
    "auth disable",
    "user delete fl",
    "user delete nosuch",
];

/// Both clients, each at real etcd, which serves all that they can ask for.
#[test]
fn etcdctl_prints_what_etcds_prints() {
    let Some(rig) = Rig::find("etcdctl") else { return };
    let said = std::thread::scope(|scope| {
        [GO, OURS]
            .map(|which| {
                scope.spawn({
                    let rig = &rig;
                    move || ctl(rig, which)
                })
            })
            .map(|looked| looked.join().expect("the client can be looked at"))
    });
    settle("ctl", CTL, &said[0], &said[1]);
}

fn ctl(rig: &Rig, which: Program) -> Vec<String> {
    let home = Home::new(&format!("etcdctl-{which:?}").replace(['(', ')', '"', '.'], ""));
    let server = home.start(rig, GO, &[]);
    let list = rig.ask_one(&home.endpoint(), "etcdserverpb.Cluster/MemberList", "");
    let id = |value: &serde_json::Value| -> u64 {
        value.as_str().and_then(|text| text.parse().ok()).expect("an ID")
    };
    let ids = [
        (id(&list["header"]["clusterId"]), "CLUSTER"),
        (id(&list["members"][0]["ID"]), "MEMBER"),
    ];
    let (endpoint, peer) = (home.endpoint(), home.peer());
    let said = CTL
        .iter()
        .map(|line| {
            let mut text = run(rig, which, "etcdctl", line, |command| {
                if !line.contains("--endpoints") {
                    command.env("ETCDCTL_ENDPOINTS", &endpoint);
                }
            });
            for (id, name) in ids {
                text = text
                    .replace(&format!("{id:x}"), name)
                    .replace(&id.to_string(), name);
            }
            text.replace(&endpoint, "CLIENT").replace(&peer, "PEER")
        })
        .collect();
    server.stop(Stop::Term);
    said
}

const UTL: &[&str] = &[
    "snapshot status saved",
    "snapshot status saved --timeout=1s",
    "snapshot status saved --timeout=x",
    "snapshot status saved -w json",
    "snapshot status saved -w fields",
    "snapshot status saved -w protobuf",
    "snapshot status saved -w nope",
    "snapshot status nope",
    "snapshot status",
    "snapshot nosuch",
    "snapshot restore",
    "snapshot restore nope --data-dir=r1",
    "snapshot restore saved --data-dir=r2",
    "snapshot restore saved --data-dir=r2",
    "snapshot restore saved --data-dir=r3 --bump-revision=10",
    "snapshot restore saved --data-dir=r3 --bump-revision=10 --mark-compacted",
    "snapshot restore saved --data-dir=r4 --name=x",
    "hashkv",
    "hashkv nope",
    "hashkv r2/member/snap/db",
    "hashkv r2/member/snap/db -w json",
    "hashkv r2/member/snap/db --rev=99",
    "hashkv r2/member/snap/db x",
    "defrag",
    "defrag --data-dir=nope",
    "defrag --data-dir=r2",
    "migrate",
    "migrate --data-dir=r2",
    "migrate --data-dir=r2 --target-version=3",
    "migrate --data-dir=r2 --target-version=x.y",
    "migrate --data-dir=r2 --target-version=3.4",
    "migrate --data-dir=nope --target-version=3.6",
    "migrate --data-dir=r2 --target-version=3.7",
    "migrate --data-dir=r2 --target-version=3.6",
    "snapshot status r2/member/snap/db",
    "migrate --data-dir=r2 --target-version=3.5",
    "snapshot status r2/member/snap/db",
    "migrate --data-dir=r2 --target-version=3.9",
    "migrate --data-dir=r2 --target-version=4.0",
    "migrate --data-dir=r2 --target-version=3.9 --force",
    "snapshot status r2/member/snap/db",
    "migrate --data-dir=served --target-version=3.5",
    "migrate --data-dir=served --target-version=3.5 --force",
    "snapshot status served/member/snap/db",
    "version",
    "nosuch",
    "--nosuch",
];

/// Both offline tools on copies of the same files.
#[test]
fn etcdutl_does_what_etcds_does() {
    let Some(rig) = Rig::find("etcdutl") else { return };
    let home = Home::new("etcdutl");
    let server = home.start(&rig, GO, &[]);
    for n in 0..5 {
        home.ctl(&rig, &["put", &format!("key{n}"), "value", "--prev-kv"]);
    }
    let saved = home.dir.join("saved");
    home.ctl(&rig, &["snapshot", "save", &saved.to_string_lossy()]);
    server.stop(Stop::Term);
    let said = [GO, OURS].map(|which| {
        let dir = home.dir.join(if which == GO { "theirs" } else { "ours" });
        std::fs::create_dir_all(&dir).expect("a folder");
        copy(&saved, &dir.join("saved"));
        copy(&home.data(), &dir.join("served"));
        let look = |line: &&str| {
            run(&rig, which, "etcdutl", line, |command| {
                command.current_dir(&dir);
            })
        };
        UTL.iter().map(look).collect::<Vec<_>>()
    });
    settle("utl", UTL, &said[0], &said[1]);
}

/// A file that a member has is waited for, and no longer than is asked for.
#[test]
fn a_file_that_a_member_has_is_waited_for() {
    let Some(rig) = Rig::find("etcdutl waits") else {
        return;
    };
    let home = Home::new("etcdutl-waits");
    let server = home.start(&rig, OURS, &[]);
    let data = home.data().display().to_string();
    let defrag = |timeout: &str| {
        let line = format!("defrag --data-dir={data} --timeout={timeout}");
        run(&rig, OURS, "etcdutl", &line, |_| {})
    };
    let refused = defrag("200ms");
    assert!(
        refused.starts_with("Some(1)") && refused.contains("another process holds the lock"),
        "{refused}"
    );
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| defrag("1m"));
        server.stop(Stop::Term);
        waiting.join().expect("the tool ends")
    });
    assert!(waited.starts_with("Some(0)"), "{waited}");
}

/// Ends with the test, however that ends.
struct Mirror(Child);

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keys that are there and keys that come are at the destination under their other names, also after the
/// source was away.
#[test]
fn a_mirror_follows_its_source() {
    let Some(rig) = Rig::find("make-mirror") else {
        return;
    };
    let (source, destination) = (Home::new("mirror-source"), Home::new("mirror-destination"));
    let server = source.start(&rig, OURS, &[]);
    let there = destination.start(&rig, GO, &[]);
    source.ctl(&rig, &["put", "a/1", "one"]);
    source.ctl(&rig, &["put", "b/1", "not mirrored"]);
    let endpoint = format!("--endpoints={}", source.endpoint());
    let mirror = tool(&rig, OURS, "etcdctl")
        .args([&endpoint, "make-mirror", &destination.endpoint()])
        .args(["--prefix=a/", "--dest-prefix=copy/", "--max-txn-ops=2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mirror = Mirror(mirror);
    let holds = |wanted: &str| {
        eventually("the mirror has it all", || {
            let all = destination.ctl(&rig, &["get", "", "--prefix"]);
            (all == wanted).then_some(())
        });
    };
    holds("copy/1\none\n");
    source.ctl(&rig, &["put", "a/2", "two"]);
    source.ctl(&rig, &["del", "a/1"]);
    holds("copy/2\ntwo\n");
    server.stop(Stop::Kill);
    let server = source.start(&rig, OURS, &[]);
    for n in 3..8 {
        source.ctl(&rig, &["put", &format!("a/{n}"), "x"]);
    }
    source.ctl(&rig, &["del", "a/", "--prefix"]);
    source.ctl(&rig, &["put", "a/9", "last"]);
    holds("copy/9\nlast\n");
    drop(mirror);
    server.stop(Stop::Term);
    there.stop(Stop::Term);
}
