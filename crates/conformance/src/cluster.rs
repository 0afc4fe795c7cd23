//! Three members in any mix of programs: started, stopped, swapped and made to lead. Never judges what
//! clients see, but that members agree.

use serde_json::Value;

use crate::{Home, Program, Question, Rig, Server, Stop, eventually};

const STATUS: &str = "etcdserverpb.Maintenance/Status";
const HASH: &str = "etcdserverpb.Maintenance/HashKV";
const LIST: &str = "etcdserverpb.Cluster/MemberList";
const PUT: &str = "etcdserverpb.KV/Put";
const MOVE: &str = "etcdserverpb.Maintenance/MoveLeader";

/// How soon a snapshot is due, and how many entries are kept for those that lag behind it.
#[derive(Clone, Copy, Debug)]
pub struct Eager {
    /// A snapshot every so many entries.
    pub every: u32,
    /// So many entries are kept.
    pub kept: u32,
}

/// Three members with static bootstrap, named m0, m1 and m2.
pub struct Cluster<'a> {
    rig: &'a Rig,
    name: String,
    /// What runs, or runs next, on each directory.
    pub programs: [Program; 3],
    /// The directories.
    pub homes: Vec<Home>,
    /// The members that run.
    pub servers: Vec<Option<Server>>,
    /// The value of --initial-cluster.
    pub initial: String,
    eager: Option<Eager>,
    /// More flags for all members.
    flags: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// Starts all three and waits until they serve.
    pub fn start(rig: &'a Rig, name: &str, programs: [Program; 3], eager: Option<Eager>) -> Cluster<'a> {
        Cluster::with_flags(rig, name, programs, eager, &[])
    }

    /// As [`Cluster::start`], with more flags for all members.
    pub fn with_flags(
        rig: &'a Rig,
        name: &str,
        programs: [Program; 3],
        eager: Option<Eager>,
        flags: &[&str],
    ) -> Cluster<'a> {
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
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        for at in 0..3 {
            cluster.spawn(at);
        }
        for at in 0..3 {
            cluster.wait(at);
        }
        cluster
    }

    /// Starts a member; it need not get ready.
    pub fn spawn(&mut self, at: usize) {
        let line = match self.programs[at] {
            Program::Go(line) | Program::Ours(line) => line,
        };
        let mut flags = self.flags.clone();
        flags.push(format!("--name=m{at}"));
        flags.push(format!("--initial-cluster={}", self.initial));
        if let Some(eager) = self.eager {
            let kept = match line {
                "3.7" => "snapshot-catchup-entries",
                _ => "experimental-snapshot-catchup-entries",
            };
            flags.push(format!("--snapshot-count={}", eager.every));
            flags.push(format!("--{kept}={}", eager.kept));
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.servers[at] = Some(self.homes[at].spawn(self.rig, self.programs[at], &flags));
    }

    /// Waits until a member serves.
    pub fn wait(&mut self, at: usize) {
        if let Some(server) = &mut self.servers[at] {
            server.wait_until_ready();
        }
    }

    /// Stops a member.
    pub fn stop(&mut self, at: usize, how: Stop) {
        let server = self.servers[at].take().expect("it runs");
        server.stop(how);
    }

    /// Asks a member; nothing unless it says OK.
    pub fn ask(&self, at: usize, method: &str, request: &str) -> Option<Value> {
        let question = Question::new(method, request);
        let answer = self.rig.ask(&self.homes[at].endpoint(), &[question]).remove(0);
        (answer.code == "OK").then(|| answer.answers.into_iter().next().unwrap_or_default())
    }

    /// Puts a key through a member, as soon as there is a leader.
    pub fn put(&self, at: usize, key: &str) {
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
    pub fn make_leader(&self, at: usize) {
        let id = self.id(at);
        let what = format!("{}: member {at} of {:?} leads", self.name, self.programs);
        eventually(&what, || {
            for other in (0..3).filter(|other| self.servers[*other].is_some()) {
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

    /// Waits until all members hold the same.
    pub fn agree(&self) {
        self.agree_of(3);
    }

    /// As [`Cluster::agree`]; the cluster has so many members.
    pub fn agree_of(&self, size: usize) {
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
        assert_eq!(members[0].as_array().map(Vec::len), Some(size), "{what}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
