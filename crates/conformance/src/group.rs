//! Members that form one cluster, of any programs: started, stopped, swapped, made to lead, replaced, and asked, also
//! through real etcdctl. Never judges what clients see, but that members agree.

use std::io::Write;
use std::process::{Command, Stdio};
use std::{fs, thread};

use serde_json::Value;

use crate::{Home, Program, Question, Rig, Server, Stop, eventually};

const HASH: &str = "etcdserverpb.Maintenance/HashKV";
const LIST: &str = "etcdserverpb.Cluster/MemberList";

/// How soon a snapshot is due, and how many entries are kept for those that lag behind it.
#[derive(Clone, Copy, Debug)]
pub struct Eager {
    /// A snapshot every so many entries.
    pub every: u32,
    /// So many entries are kept.
    pub kept: u32,
}

/// A cluster and where its members live.
pub struct Group<'a> {
    /// The programs and where they are.
    pub rig: &'a Rig,
    /// What each member runs, or runs next.
    pub programs: Vec<Program>,
    /// Where each member lives.
    pub homes: Vec<Home>,
    /// The processes that run.
    pub servers: Vec<Option<Server>>,
    /// Flags of all members.
    pub flags: Vec<String>,
    /// If snapshots are to come soon.
    pub eager: Option<Eager>,
    /// `https` if members speak TLS with each other.
    pub scheme: &'static str,
}

impl<'a> Group<'a> {
    /// A cluster that has not been started.
    pub fn new(rig: &'a Rig, name: &str, programs: &[Program], flags: &[&str]) -> Group<'a> {
        let homes = (0..programs.len()).map(|at| Home::new(&format!("{name}-{at}")));
        Group {
            rig,
            programs: programs.to_vec(),
            homes: homes.collect(),
            servers: programs.iter().map(|_| None).collect(),
            flags: flags.iter().map(ToString::to_string).collect(),
            eager: None,
            scheme: "http",
        }
    }

    /// A cluster that serves.
    pub fn start(rig: &'a Rig, name: &str, programs: &[Program], flags: &[&str]) -> Group<'a> {
        let mut group = Group::new(rig, name, programs, flags);
        group.start_all();
        group
    }

    /// As [`Group::start`], where snapshots come soon.
    pub fn start_eager(rig: &'a Rig, name: &str, programs: &[Program], eager: Eager) -> Group<'a> {
        let mut group = Group::new(rig, name, programs, &[]);
        group.eager = Some(eager);
        group.start_all();
        group
    }

    /// The numbers of all members.
    pub fn all(&self) -> Vec<usize> {
        (0..self.homes.len()).collect()
    }

    /// Starts all and waits until they serve.
    pub fn start_all(&mut self) {
        for at in 0..self.homes.len() {
            self.spawn(at, &[]);
        }
        for at in 0..self.homes.len() {
            self.wait(at);
        }
    }

    /// The peer URL of a member.
    pub fn peer(&self, at: usize) -> String {
        self.homes[at].peer().replace("http", self.scheme)
    }

    /// `--initial-cluster` with these members.
    pub fn initial(&self, of: &[usize]) -> String {
        let member = |at: &usize| format!("m{at}={}", self.peer(*at));
        let members: Vec<String> = of.iter().map(member).collect();
        format!("--initial-cluster={}", members.join(","))
    }

    /// Starts a member, which need not get ready; flags that come later win.
    pub fn spawn(&mut self, at: usize, more: &[&str]) {
        let peer = self.peer(at);
        let mut own = vec![
            format!("--name=m{at}"),
            self.initial(&self.all()),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ];
        if let Some(eager) = self.eager {
            let kept = match self.programs[at] {
                Program::Go("3.7") | Program::Ours("3.7") => "snapshot-catchup-entries",
                _ => "experimental-snapshot-catchup-entries",
            };
            own.push(format!("--snapshot-count={}", eager.every));
            own.push(format!("--{kept}={}", eager.kept));
        }
        let flags = own.iter().chain(&self.flags).map(String::as_str);
        let flags: Vec<&str> = flags.chain(more.iter().copied()).collect();
        self.servers[at] = Some(self.homes[at].spawn(self.rig, self.programs[at], &flags));
    }

    /// Waits until a member serves.
    pub fn wait(&mut self, at: usize) {
        self.server(at).wait_until_ready();
    }

    /// A member's process.
    pub fn server(&mut self, at: usize) -> &mut Server {
        self.servers[at].as_mut().expect("it runs")
    }

    /// Stops a member.
    pub fn stop(&mut self, at: usize, how: Stop) {
        let server = self.servers[at].take().expect("it runs");
        server.stop(how);
    }

    /// Stops, starts, and waits.
    pub fn restart(&mut self, at: usize, how: Stop) {
        self.stop(at, how);
        self.spawn(at, &[]);
        self.wait(at);
    }

    /// Runs etcdctl against one member, with what it reads; whether it succeeded, and what it printed.
    pub fn try_ctl(&self, at: usize, args: &[&str], input: &str) -> (bool, String) {
        let mut child = Command::new(self.rig.go("3.7", "etcdctl"))
            .arg(format!("--endpoints={}", self.homes[at].endpoint()))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_owned();
        // Whoever reads nothing may be gone before all is written.
        let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().expect("etcdctl ends");
        writer.join().expect("the writer ends");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    /// Runs etcdctl against one member: it must succeed.
    pub fn ctl(&self, at: usize, args: &[&str]) -> String {
        let (done, text) = self.try_ctl(at, args, "");
        assert!(
            done,
            "etcdctl {args:?} through member {at} of {:?}: {text}",
            self.programs
        );
        text
    }

    /// Runs etcdctl against one member until it succeeds: while members come and go.
    pub fn ctl_at_last(&self, at: usize, args: &[&str]) -> String {
        let what = format!("etcdctl {args:?} through member {at} of {:?}", self.programs);
        eventually(&what, || {
            let (done, text) = self.try_ctl(at, args, "");
            done.then_some(text)
        })
    }

    /// Asks a member; nothing unless it says OK.
    pub fn ask(&self, at: usize, method: &str, request: &str) -> Option<Value> {
        let question = Question::new(method, request);
        let answer = self.rig.ask(&self.homes[at].endpoint(), &[question]).remove(0);
        (answer.code == "OK").then(|| answer.answers.into_iter().next().unwrap_or_default())
    }

    /// A put through a member, as soon as there is a leader.
    pub fn put(&self, at: usize, key: &str) {
        self.ctl_at_last(at, &["put", key, key]);
    }

    /// A member's status.
    pub fn status(&self, at: usize) -> Option<Value> {
        let (done, text) = self.try_ctl(at, &["endpoint", "status", "-w", "json"], "");
        let value: Value = serde_json::from_str(text.lines().next()?).ok()?;
        done.then(|| value[0]["Status"].clone())
    }

    /// A member's ID as etcdctl writes it.
    pub fn id(&self, at: usize) -> String {
        let status = eventually("a status", || self.status(at));
        format!("{:x}", status["header"]["member_id"].as_u64().expect("an ID"))
    }

    /// Which of the members that run leads.
    pub fn leader(&self) -> usize {
        eventually("somebody leads", || {
            (0..self.homes.len()).find(|&at| {
                self.servers[at].is_some()
                    && self.status(at).is_some_and(|status| {
                        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
                    })
            })
        })
    }

    /// Makes a member lead, through the one that does.
    pub fn make_leader(&self, at: usize) {
        let id = self.id(at);
        eventually(&format!("member {at} of {:?} leads", self.programs), || {
            let leader = self.leader();
            if leader != at {
                self.try_ctl(leader, &["move-leader", &id], "");
            }
            (leader == at).then_some(())
        });
    }

    /// Waits until the members hold the same keys, as HashKV says. They must also know the same members; how many
    /// these are.
    pub fn agree(&self, members: &[usize]) -> usize {
        let what = format!("{members:?} of {:?} agree", self.programs);
        eventually(&what, || {
            let hash = |at: &usize| {
                let hash = self.ask(*at, HASH, "")?;
                Some((hash["hash"].clone(), hash["header"]["revision"].clone()))
            };
            let hashes: Vec<(Value, Value)> = members.iter().map(hash).collect::<Option<_>>()?;
            hashes.iter().all(|other| *other == hashes[0]).then_some(())
        });
        let list = |at: &usize| self.ask(*at, LIST, "").expect("members")["members"].clone();
        let lists: Vec<Value> = members.iter().map(list).collect();
        assert!(lists.iter().all(|other| *other == lists[0]), "{what}: {lists:?}");
        lists[0].as_array().map_or(0, Vec::len)
    }

    /// Replaces a member that has lost its data, as docs/clustering.md says, through another one: removed, added,
    /// wiped, started to join.
    pub fn replace(&mut self, at: usize, through: usize, program: Program, how: &[&str]) {
        let id = self.id(at);
        self.stop(at, Stop::Kill);
        self.ctl_at_last(through, &["member", "remove", &id]);
        let (name, url) = (format!("m{at}"), format!("--peer-urls={}", self.peer(at)));
        let add = [&["member", "add", name.as_str(), url.as_str()], how].concat();
        self.ctl_at_last(through, &add);
        fs::remove_dir_all(self.homes[at].data().join("member")).expect("its data is removed");
        self.programs[at] = program;
        self.spawn(at, &["--initial-cluster-state=existing"]);
    }

    /// Stops all, and looks at their files.
    pub fn end(mut self) {
        for at in 0..self.homes.len() {
            if self.servers[at].is_some() {
                self.stop(at, Stop::Term);
                self.homes[at].check_file(self.rig);
            }
        }
    }
}
