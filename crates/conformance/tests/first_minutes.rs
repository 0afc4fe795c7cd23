//! The README's first five minutes, with our client and with those of etcd 3.5, 3.6 and 3.7.

use std::path::PathBuf;
use std::process::Command;

use conformance::{Home, Program, Rig, Stop};

/// A command-line client, as somebody types it.
struct Client {
    program: PathBuf,
    before: Vec<String>,
    line: &'static str,
}

impl Client {
    fn run(&self, args: &[&str]) -> String {
        let output = Command::new(&self.program)
            .args(&self.before)
            .args(args)
            .output()
            .expect("the client runs");
        assert!(
            output.status.success(),
            "{} {args:?}: {}{}",
            self.line,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn clients(rig: &Rig, endpoint: &str) -> Vec<Client> {
    let endpoints = format!("--endpoints={endpoint}");
    let mut clients = vec![Client {
        program: rig.mainstay.clone(),
        before: vec!["ctl".to_string(), endpoints.clone()],
        line: "ours",
    }];
    for line in ["3.5", "3.6", "3.7"] {
        clients.push(Client {
            program: rig.go(line, "etcdctl"),
            before: vec![endpoints.clone()],
            line,
        });
    }
    clients
}

#[test]
fn the_first_five_minutes() {
    let Some(rig) = Rig::find("first minutes") else {
        return;
    };
    let home = Home::new("minutes");
    let server = home.start(&rig, Program::Ours("3.7"), &[]);
    for client in clients(&rig, &home.endpoint()) {
        let line = client.line;
        assert_eq!(client.run(&["put", "greeting", "hello"]), "OK\n", "{line}");
        assert_eq!(client.run(&["get", "greeting"]), "greeting\nhello\n", "{line}");
        assert_eq!(client.run(&["put", "greeting", "hello again"]), "OK\n", "{line}");
        let json: serde_json::Value =
            serde_json::from_str(&client.run(&["get", "greeting", "-w", "json"])).expect("JSON");
        assert_eq!(json["kvs"][0]["value"], "aGVsbG8gYWdhaW4=", "{line}: {json}");
        let before = (json["kvs"][0]["mod_revision"].as_i64().expect("a revision") - 1).to_string();
        assert_eq!(
            client.run(&["get", "greeting", "--rev", &before]),
            "greeting\nhello\n",
            "{line}"
        );

        let granted = client.run(&["lease", "grant", "60"]);
        let id = granted.split(' ').nth(1).expect("an ID").to_string();
        assert!(granted.ends_with("granted with TTL(60s)\n"), "{line}: {granted}");
        assert_eq!(
            client.run(&["put", "session", "alive", &format!("--lease={id}")]),
            "OK\n",
            "{line}"
        );
        let left = client.run(&["lease", "timetolive", &id, "--keys"]);
        assert!(left.contains("attached keys([session])"), "{line}: {left}");
        assert_eq!(
            client.run(&["lease", "revoke", &id]),
            format!("lease {id} revoked\n"),
            "{line}"
        );
        assert_eq!(client.run(&["get", "session"]), "", "{line}");

        let status = client.run(&["endpoint", "status", "-w", "json"]);
        assert!(status.contains("\"version\":\"3.7.1\""), "{line}: {status}");
        assert!(
            client
                .run(&["endpoint", "status", "-w", "table"])
                .contains("3.7.1"),
            "{line}"
        );
        client.run(&["endpoint", "health"]);
        let members = client.run(&["member", "list"]);
        assert!(members.contains("started, default"), "{line}: {members}");
        client.run(&["endpoint", "hashkv"]);
        client.run(&["alarm", "list"]);
        client.run(&["defrag"]);
        assert_eq!(
            client.run(&["compaction", &before]),
            format!("compacted revision {before}\n"),
            "{line}"
        );
        assert_eq!(client.run(&["del", "greeting"]), "1\n", "{line}");

        let backup = home.dir.join(format!("backup-{line}.db"));
        let backup = backup.to_string_lossy();
        client.run(&["snapshot", "save", &backup]);
        let ours = Client {
            program: rig.mainstay.clone(),
            before: vec!["utl".to_string()],
            line: "our etcdutl",
        };
        let theirs = Client {
            program: rig.go("3.7", "etcdutl"),
            before: Vec::new(),
            line: "etcdutl",
        };
        for format in ["simple", "json", "fields", "table"] {
            let args = ["snapshot", "status", &backup, "-w", format];
            assert_eq!(ours.run(&args), theirs.run(&args), "{line}");
        }
        restore_and_serve(&rig, &ours, &backup, line);
    }
    server.stop(Stop::Term);
    home.check_file(&rig);
}

/// A restored directory is the start of a member, of ours and of real etcd.
fn restore_and_serve(rig: &Rig, utl: &Client, backup: &str, line: &str) {
    let programs = if line == "ours" {
        vec![Program::Ours("3.7"), Program::Go("3.7")]
    } else {
        vec![]
    };
    for program in programs {
        let home = Home::new("restored");
        let peer = home.peer();
        utl.run(&[
            "snapshot",
            "restore",
            backup,
            "--data-dir",
            &home.data().to_string_lossy(),
            &format!("--initial-cluster=default={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            "--bump-revision=1000",
            "--mark-compacted",
        ]);
        let server = home.start(rig, program, &[]);
        let state = home.state(rig, &[]);
        assert!(
            state["revision"].as_i64().is_some_and(|revision| revision > 1000),
            "{program:?}: {state}"
        );
        server.stop(Stop::Term);
        home.check_file(rig);
    }
}

#[test]
fn version_and_health_over_http() {
    let Some(rig) = Rig::find("http") else { return };
    let home = Home::new("http");
    let _server = home.start(&rig, Program::Ours("3.7"), &[]);
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        conformance::http(home.client_port(), &request).expect("an answer")
    };
    // The storage version follows the cluster version within a round of the monitor, as in etcd.
    conformance::eventually("the storage version follows", || {
        let version = get("/version");
        let wanted = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
        version.contains(wanted).then_some(())
    });
    let health = get("/health");
    assert!(health.ends_with(r#"{"health":"true","reason":""}"#), "{health}");
}
