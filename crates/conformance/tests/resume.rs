//! What stands for long in etcdctl, a watch, the renewal of a lease, a lock, an office, outlives its member: it goes on at whoever
//! answers next, tells nothing twice and leaves nothing out. Real etcd's etcdctl stands beside ours.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use conformance::{Home, Program, Rig, Stop, eventually};

/// A tool that stands, and what it has printed.
struct Standing {
    child: Child,
    told: PathBuf,
}

impl Standing {
    fn begin(program: &Path, first: &[&str], home: &Home, told: &str, args: &[&str]) -> Standing {
        let told = home.dir.join(told);
        let out = File::create(&told).expect("a file for what is printed");
        let child = Command::new(program)
            .args(first)
            .arg(format!("--endpoints={}", home.endpoint()))
            .args(args)
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .expect("the tool runs");
        Standing { child, told }
    }

    fn lines(&mut self) -> Vec<String> {
        let ended = self.child.try_wait().expect("the tool is there");
        assert_eq!(ended, None, "{} has ended", self.told.display());
        let text = fs::read_to_string(&self.told).expect("what is printed is text");
        text.lines().map(str::to_owned).collect()
    }

    fn tells(&mut self, wanted: &[String]) {
        eventually("all events are told", || {
            let lines = self.lines();
            assert!(wanted.starts_with(&lines), "{lines:?} of {wanted:?}");
            (lines == wanted).then_some(())
        });
    }

    fn is_renewed_after(&mut self, count: usize) -> usize {
        eventually("the lease is renewed", || {
            Some(self.lines().len()).filter(|lines| *lines > count)
        })
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_and_a_lease_outlive_their_member() {
    let Some(rig) = Rig::find("resume") else { return };
    let home = Home::new("resume");
    let mut server = home.start(&rig, Program::Ours("3.7"), &[]);
    let granted = home.ctl(&rig, &["lease", "grant", "6"]);
    let lease = granted.split(' ').nth(1).expect("the ID of the lease");
    let go = rig.go("3.7", "etcdctl");
    let tools: [(&Path, &[&str], &str); 2] = [(&rig.mainstay, &["ctl"], "ours"), (&go, &[], "etcd")];
    let begin = |what: &str, args: &[&str]| {
        tools.map(|(program, first, who)| {
            Standing::begin(program, first, &home, &format!("{what}-{who}"), args)
        })
    };
    let mut watches = begin("watch", &["watch", "k", "--rev=1"]);
    let mut renewals = begin("lease", &["lease", "keep-alive", lease]);
    let mut events: Vec<String> = Vec::new();
    let mut write = |value: &str, watches: &mut [Standing; 2]| {
        home.ctl(&rig, &["put", "k", value]);
        events.extend(["PUT", "k", value].map(str::to_owned));
        watches.iter_mut().for_each(|watch| watch.tells(&events));
    };
    write("before", &mut watches);
    for stop in [Stop::Kill, Stop::Term] {
        let renewed = renewals.each_mut().map(|tool| tool.is_renewed_after(0));
        server.stop(stop);
        server = home.start(&rig, Program::Ours("3.7"), &[]);
        write(&format!("after {stop:?}"), &mut watches);
        for (tool, before) in renewals.iter_mut().zip(renewed) {
            tool.is_renewed_after(before);
        }
    }
    drop((watches, renewals));
    server.stop(Stop::Term);
}

/// Who holds a lock, who waits for one, who leads and who watches that: none of them notices that a member was restarted,
/// and a command under a lock is never left alone.
#[test]
fn a_lock_and_an_office_outlive_their_member() {
    let Some(rig) = Rig::find("resume-lock") else {
        return;
    };
    let home = Home::new("resume-lock");
    let mut server = home.start(&rig, Program::Ours("3.7"), &[]);
    let go = rig.go("3.7", "etcdctl");
    let tools: [(&Path, &[&str], &str); 2] = [(&rig.mainstay, &["ctl"], "ours"), (&go, &[], "etcd")];
    for (program, first, who) in tools {
        let begin = |what: &str, args: &[&str]| {
            Standing::begin(program, first, &home, &format!("{what}-{who}"), args)
        };
        let in_row = |name: &str, wanted: usize| {
            eventually("places in the row", || {
                let keys = home.ctl(&rig, &["get", "--prefix", "--keys-only", &format!("{name}/")]);
                (keys.lines().filter(|line| !line.is_empty()).count() == wanted).then_some(())
            });
        };
        let done = home.dir.join(format!("done-{who}"));
        // In a file, since the tools take what begins with a dash for theirs.
        let script = home.dir.join(format!("script-{who}"));
        let until_done = format!("echo held; until [ -e {} ]; do sleep 0.1; done", done.display());
        fs::write(&script, until_done).expect("a file");
        let script = script.to_str().expect("a path of text");
        let lock = format!("lock-{who}");
        let office = format!("office-{who}");
        let mut holds = begin("holds", &["lock", "--ttl=5", &lock, "sh", script]);
        in_row(&lock, 1);
        let mut waits = begin("waits", &["lock", "--ttl=5", &lock, "echo", "mine"]);
        in_row(&lock, 2);
        let mut leads = begin("leads", &["elect", &office, "first"]);
        in_row(&office, 1);
        let mut observes = begin("observes", &["elect", "-l", &office]);
        eventually("who leads is seen", || {
            let told = (leads.lines().len(), observes.lines().len());
            (told == (2, 2)).then_some(())
        });
        holds.tells(&["held".to_owned()]);

        server.stop(Stop::Kill);
        server = home.start(&rig, Program::Ours("3.7"), &[]);
        let key = home.ctl(
            &rig,
            &["get", "--prefix", "--keys-only", "--limit=1", &format!("{lock}/")],
        );
        let lease = key.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let mut remaining = i64::MAX;
        eventually("the lease of who holds the lock is renewed", || {
            let told = home.ctl(&rig, &["lease", "timetolive", &lease]);
            let seconds = told.split("remaining(").nth(1)?.split('s').next()?.parse().ok()?;
            let before = std::mem::replace(&mut remaining, seconds);
            (seconds > before).then_some(())
        });
        in_row(&lock, 2);
        assert_eq!((waits.lines().len(), leads.lines().len()), (0, 2));
        fs::write(&done, "").expect("a file");
        eventually("the lock is handed on", || {
            let told = fs::read_to_string(&waits.told).expect("text");
            (told == "mine\n").then_some(())
        });
        in_row(&lock, 0);
        in_row(&office, 1);
        assert_eq!(observes.lines().len(), 2, "who leads is told once");
    }
    server.stop(Stop::Term);
}
