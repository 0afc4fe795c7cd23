//! Clusters of three, of ours and of real etcd in any mix: they elect and replicate, go on while any member
//! is down, take it back, and bring up one that missed more than the leader's log holds.

use conformance::{Home, Program, Question, Rig, Server, Stop, eventually};
use serde_json::Value;

const STATUS: &str = "etcdserverpb.Maintenance/Status";
const HASH: &str = "etcdserverpb.Maintenance/HashKV";
const LIST: &str = "etcdserverpb.Cluster/MemberList";
const PUT: &str = "etcdserverpb.KV/Put";
const MOVE: &str = "etcdserverpb.Maintenance/MoveLeader";

struct Cluster<'a> {
    rig: &'a Rig,
    name: String,
    programs: [Program; 3],
    homes: Vec<Home>,
    servers: Vec<Option<Server>>,
    initial: String,
    /// Snapshots are due soon, and little is kept for those that lag.
    eager: bool,
}

impl<'a> Cluster<'a> {
    fn start(rig: &'a Rig, name: &str, programs: [Program; 3], eager: bool) -> Cluster<'a> {
        let homes: Vec<Home> = (1..=3).map(|n| Home::new(&format!("{name}-{n}"))).collect();
        let members = homes.iter().enumerate();
        let members: Vec<String> = members
            .map(|(at, home)| format!("m{at}={}", home.peer()))
            .collect();
        let mut cluster = Cluster {
            rig,
            name: name.to_owned(),
            programs,
            homes,
            servers: vec![None, None, None],
            initial: members.join(","),
            eager,
        };
        for at in 0..3 {
            cluster.spawn(at);
        }
        for at in 0..3 {
            cluster.wait(at);
        }
        cluster
    }

    fn spawn(&mut self, at: usize) {
        let line = match self.programs[at] {
            Program::Go(line) | Program::Ours(line) => line,
        };
        let kept = match line {
            "3.7" => "--snapshot-catchup-entries=5",
            _ => "--experimental-snapshot-catchup-entries=5",
        };
        let (own, initial) = (
            format!("--name=m{at}"),
            format!("--initial-cluster={}", self.initial),
        );
        let mut flags = vec![own.as_str(), initial.as_str()];
        if self.eager {
            flags.extend(["--snapshot-count=10", kept]);
        }
        self.servers[at] = Some(self.homes[at].spawn(self.rig, self.programs[at], &flags));
    }

    fn wait(&mut self, at: usize) {
        if let Some(server) = &mut self.servers[at] {
            server.wait_until_ready();
        }
    }

    fn stop(&mut self, at: usize, how: Stop) {
        let server = self.servers[at].take().expect("it runs");
        server.stop(how);
    }

    fn ask(&self, at: usize, method: &str, request: &str) -> Option<Value> {
        let question = Question::new(method, request);
        let answer = self.rig.ask(&self.homes[at].endpoint(), &[question]).remove(0);
        (answer.code == "OK").then(|| answer.answers.into_iter().next().unwrap_or_default())
    }

    /// Puts a key through a member, as soon as there is a leader.
    fn put(&self, at: usize, key: &str) {
        let what = format!("{}: a put through member {at} of {:?}", self.name, self.programs);
        eventually(&what, || {
            self.ask(at, PUT, &format!("key: '{key}' value: '{key}'"))
        });
    }

    fn id(&self, at: usize) -> String {
        let status = eventually("a status", || self.ask(at, STATUS, ""));
        text(&status["header"]["memberId"])
    }

    /// Makes a member lead.
    fn make_leader(&self, at: usize) {
        let id = self.id(at);
        let what = format!("{}: member {at} of {:?} leads", self.name, self.programs);
        eventually(&what, || {
            for other in 0..3 {
                let status = self.ask(other, STATUS, "")?;
                if text(&status["leader"]) == id {
                    return Some(());
                }
                if text(&status["leader"]) == text(&status["header"]["memberId"]) {
                    self.ask(other, MOVE, &format!("targetID: {id}"));
                }
            }
            None
        });
    }

    /// All members hold the same.
    fn agree(&self) {
        let what = format!("{}: {:?} agree", self.name, self.programs);
        eventually(&what, || {
            let hashes: Vec<Value> = (0..3).map(|at| self.ask(at, HASH, "")).collect::<Option<_>>()?;
            let same = |of: fn(&Value) -> &Value| hashes.iter().all(|hash| of(hash) == of(&hashes[0]));
            (same(|hash| &hash["hash"]) && same(|hash| &hash["header"]["revision"])).then_some(())
        });
        let members: Vec<Value> = (0..3)
            .map(|at| self.ask(at, LIST, "").expect("members")["members"].clone())
            .collect();
        assert!(
            members.iter().all(|list| *list == members[0]),
            "{what}: {members:?}"
        );
        assert_eq!(members[0].as_array().map(Vec::len), Some(3), "{what}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Every member leads, is stopped in both ways, and comes back to what was written meanwhile.
fn survive(rig: &Rig, name: &str, programs: [Program; 3]) {
    let mut cluster = Cluster::start(rig, name, programs, false);
    for (round, how) in [Stop::Kill, Stop::Term].into_iter().enumerate() {
        for at in 0..3 {
            cluster.make_leader(at);
            for through in 0..3 {
                cluster.put(through, &format!("led-{round}-{at}-{through}"));
            }
            cluster.stop(at, how);
            for other in [(at + 1) % 3, (at + 2) % 3] {
                cluster.put(other, &format!("without-{round}-{at}-{other}"));
            }
            cluster.spawn(at);
            cluster.wait(at);
            cluster.agree();
        }
    }
    // And all at once.
    for at in 0..3 {
        cluster.stop(at, Stop::Kill);
    }
    for at in 0..3 {
        cluster.spawn(at);
    }
    for at in 0..3 {
        cluster.wait(at);
    }
    cluster.put(0, "after all");
    cluster.agree();
    for at in 0..3 {
        cluster.stop(at, Stop::Term);
        cluster.homes[at].check_file(rig);
    }
}

/// A member that missed more than the leader keeps gets a snapshot, and goes on from it: also after it was
/// killed at once.
fn catch_up(rig: &Rig, name: &str, leader: Program, lagging: Program, third: Program) {
    let mut cluster = Cluster::start(rig, name, [leader, lagging, third], true);
    cluster.make_leader(0);
    cluster.stop(1, Stop::Kill);
    let home = &cluster.homes[0];
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "7"]);
    load.wait_for_lines(&home.account(), 2500);
    load.end();
    cluster.make_leader_of_two(0);
    cluster.spawn(1);
    cluster.wait(1);
    cluster.agree();
    let log = cluster.servers[1].as_ref().expect("it runs").log();
    assert!(log.contains("\"applied snapshot\""), "{name}: {log}");
    cluster.stop(1, Stop::Kill);
    cluster.put(0, "later");
    cluster.spawn(1);
    cluster.wait(1);
    cluster.put(1, "last");
    cluster.agree();
    for at in 0..3 {
        cluster.stop(at, Stop::Term);
        cluster.homes[at].check_file(rig);
    }
}

impl Cluster<'_> {
    /// As `make_leader`, while member 1 is down.
    fn make_leader_of_two(&self, at: usize) {
        let id = self.id(at);
        eventually("the leader of two", || {
            for other in [0, 2] {
                let status = self.ask(other, STATUS, "")?;
                if text(&status["leader"]) == id {
                    return Some(());
                }
                if text(&status["leader"]) == text(&status["header"]["memberId"]) {
                    self.ask(other, MOVE, &format!("targetID: {id}"));
                }
            }
            None
        });
    }
}

/// The release lines that are tried.
fn lines(rig: &Rig) -> &'static [&'static str] {
    if rig.all { &["3.7", "3.6", "3.5"] } else { &["3.7"] }
}

#[test]
fn three_of_ours_survive() {
    let Some(rig) = Rig::find("cluster-ours") else {
        return;
    };
    for &line in lines(&rig) {
        let ours = Program::Ours(line);
        survive(&rig, &format!("cluster-ours-{line}"), [ours, ours, ours]);
    }
}

#[test]
fn ours_among_members_of_etcd_survive() {
    let Some(rig) = Rig::find("cluster-mixed") else {
        return;
    };
    for &line in lines(&rig) {
        let (go, ours) = (Program::Go(line), Program::Ours(line));
        survive(&rig, &format!("cluster-one-{line}"), [go, ours, go]);
        if rig.all {
            survive(&rig, &format!("cluster-two-{line}"), [ours, go, ours]);
        }
    }
}

#[test]
fn who_missed_much_gets_a_snapshot() {
    let Some(rig) = Rig::find("cluster-snapshot") else {
        return;
    };
    for &line in lines(&rig) {
        let (go, ours) = (Program::Go(line), Program::Ours(line));
        catch_up(&rig, &format!("cluster-to-ours-{line}"), go, ours, ours);
        catch_up(&rig, &format!("cluster-to-go-{line}"), ours, go, ours);
        if rig.all {
            catch_up(&rig, &format!("cluster-among-ours-{line}"), ours, ours, ours);
        }
    }
}
