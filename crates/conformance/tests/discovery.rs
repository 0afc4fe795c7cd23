//! New clusters whose members find each other by a token: a service of real etcd and one of ours, members of both.

use conformance::{Home, Program, Question, Rig, Server, Stop, eventually};

const TOKEN: &str = "6F5B3A1C-token";
const LIST: &str = "etcdserverpb.Cluster/MemberList";
const PUT: &str = "etcdserverpb.KV/Put";

fn flags(name: &str, service: &Home) -> Vec<String> {
    vec![
        format!("--name={name}"),
        "--initial-cluster=".to_owned(),
        format!("--discovery-token={TOKEN}"),
        format!("--discovery-endpoints={}", service.endpoint()),
    ]
}

fn spawn(rig: &Rig, home: &Home, program: Program, flags: &[String]) -> Server {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    home.spawn(rig, program, &flags)
}

fn members_find_each_other(rig: &Rig, name: &str, service: Program, members: [Program; 3]) {
    let at = Home::new(&format!("{name}-service"));
    let running = at.start(rig, service, &[]);
    let size = format!("/_etcd/registry/{TOKEN}/_config/size");
    rig.ask_one(&at.endpoint(), PUT, &format!("key: '{size}' value: '3'"));

    let homes: Vec<Home> = (0..3).map(|n| Home::new(&format!("{name}-{n}"))).collect();
    let start = |n: usize| spawn(rig, &homes[n], members[n], &flags(&format!("m{n}"), &at));
    let mut servers: Vec<Server> = (0..3).map(start).collect();
    for server in &mut servers {
        server.wait_until_ready();
    }
    let names = eventually("three members that have told their names", || {
        let answer = rig
            .ask(&homes[0].endpoint(), &[Question::new(LIST, "")])
            .remove(0);
        let list = answer.answers.first()?["members"].as_array()?.clone();
        let mut names: Vec<String> = list
            .iter()
            .map(|member| member["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        (names.len() == 3 && !names[0].is_empty()).then_some(names)
    });
    assert_eq!(names, ["m0", "m1", "m2"], "{name}");

    // The token has been used up.
    for late in [Program::Go("3.7"), Program::Ours("3.7")] {
        let home = Home::new(&format!("{name}-late"));
        let mut server = spawn(rig, &home, late, &flags("late", &at));
        let status = server.wait();
        assert!(!status.success(), "{name}: {late:?} came in");
        let log = server.log();
        for text in [
            "failed to join discovery cluster (discovery: cluster is full)",
            "do not reuse discovery token; generate a new one to bootstrap a cluster",
        ] {
            assert!(log.contains(text), "{name}: {late:?}: {log}");
        }
    }

    // Who has a log asks nobody.
    running.stop(Stop::Term);
    servers.remove(2).stop(Stop::Term);
    let mut again = start(2);
    again.wait_until_ready();
    assert!(
        again
            .log()
            .contains("discovery token is ignored since cluster already initialized; valid logs are found"),
        "{name}: {}",
        again.log()
    );
}

#[test]
fn three_of_ours_meet_at_real_etcd() {
    let Some(rig) = Rig::find("three_of_ours_meet_at_real_etcd") else {
        return;
    };
    let ours = Program::Ours("3.7");
    members_find_each_other(&rig, "discovery-go", Program::Go("3.7"), [ours, ours, ours]);
}

#[test]
fn real_etcd_and_ours_meet_at_ours() {
    let Some(rig) = Rig::find("real_etcd_and_ours_meet_at_ours") else {
        return;
    };
    let (ours, go) = (Program::Ours("3.7"), Program::Go("3.7"));
    members_find_each_other(&rig, "discovery-ours", ours, [go, ours, go]);
}

/// What no service can put right ends the start, in etcd's words; what one that comes up later can, does not.
#[test]
fn what_a_service_does_not_know_is_told() {
    let Some(rig) = Rig::find("what_a_service_does_not_know_is_told") else {
        return;
    };
    let service = Home::new("discovery-sizes");
    let running = service.start(&rig, Program::Go("3.7"), &[]);
    let size = format!("/_etcd/registry/{TOKEN}/_config/size");
    for (value, error) in [
        (None, "discovery: size key not found"),
        (Some("many"), "discovery: size key is bad"),
    ] {
        if let Some(value) = value {
            rig.ask_one(
                &service.endpoint(),
                PUT,
                &format!("key: '{size}' value: '{value}'"),
            );
        }
        for program in [Program::Go("3.7"), Program::Ours("3.7")] {
            let home = Home::new("discovery-size");
            let mut server = spawn(&rig, &home, program, &flags("m", &service));
            assert_eq!(server.wait().code(), Some(1), "{program:?}");
            assert!(server.log().contains(error), "{program:?}: {}", server.log());
        }
    }
    rig.ask_one(&service.endpoint(), PUT, &format!("key: '{size}' value: '1'"));
    running.stop(Stop::Term);
    let home = Home::new("discovery-later");
    let mut server = spawn(&rig, &home, Program::Ours("3.7"), &flags("m", &service));
    eventually("a second attempt", || {
        server
            .log()
            .contains("retry connecting to discovery service")
            .then_some(())
    });
    let _running = service.start(&rig, Program::Go("3.7"), &[]);
    server.wait_until_ready();
}
