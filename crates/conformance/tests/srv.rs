//! New clusters whose members find each other by SRV records, of real etcd and of ours. The name server is the test's
//! own, in a network and with a `/etc/resolv.conf` that only this test and its children see.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use conformance::{Home, Program, Question, Rig, Server, Stop, eventually};

const LIST: &str = "etcdserverpb.Cluster/MemberList";
const PUT: &str = "etcdserverpb.KV/Put";

/// The name of the machine that all members are on.
const MACHINE: &str = "members.test";

/// Kinds of records (RFC 1035, RFC 2782).
const A: u8 = 1;
const SRV: u8 = 33;

/// Set where the test runs in a network of its own.
const INSIDE: &str = "MAINSTAY_TEST_OWN_NETWORK";

/// Whether this is the inside of a network of its own. If not, the test `name` is run in one; where the system
/// allows nobody to make one, it is skipped.
fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let settings = format!("mainstay-srv-{}.conf", std::process::id());
    let settings = std::env::temp_dir().join(settings);
    std::fs::write(&settings, "nameserver 127.0.0.1\noptions timeout:2\n").expect("the settings are written");
    let script = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let run = |args: &[&str]| {
        Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--net",
                "--mount",
                "sh",
                "-c",
                script,
            ])
            .arg(&settings)
            .args(args)
            .env(INSIDE, "1")
            .status()
    };
    if run(&["true"]).map_or(true, |status| !status.success()) {
        eprintln!("{name}: skipped, the system lets nobody make a network");
        return false;
    }
    let own = std::env::current_exe().expect("the test's own file");
    let own = own.to_str().expect("its name is text");
    let status = run(&[own, "--exact", name, "--nocapture"]).expect("it was run before");
    assert!(status.success(), "inside: {status}");
    std::fs::remove_file(settings).expect("the settings are removed");
    false
}

/// Answers one question: where the members of a domain are, all of `found.test` at once, those of `cut.test` by UDP
/// only to the middle of a record, and of no other domain; and the address of the one machine that all are on.
fn answer(question: &[u8], ports: &[u16], by_tcp: bool) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    let (name, kind) = (labels.join("."), question[at + 2]);
    let is_cut = name == "_etcd-server._tcp.cut.test";
    let is_srv = is_cut || name == "_etcd-server._tcp.found.test";
    let mut records: Vec<Vec<u8>> = Vec::new();
    if is_srv && kind == SRV {
        // Priority and weight, port, target.
        let record = |port: &u16| [&[0; 4][..], &port.to_be_bytes(), b"\x07members\x04test\x00"].concat();
        records.extend(ports.iter().map(record));
    } else if name == MACHINE && kind == A {
        records.push(vec![127, 0, 0, 1]);
    }
    let byte = |number: usize| u8::try_from(number).expect("a small number");
    let mut message = question[..2].to_vec();
    // A response; recursion is wanted and there. No such name, where it is not known.
    let is_known = is_srv || name == MACHINE;
    message.extend([0x81, if is_known { 0x80 } else { 0x83 }]);
    message.extend([0, 1, 0, byte(records.len()), 0, 0, 0, 0]);
    message.extend(&question[12..at + 5]);
    for record in &records {
        // The name of the question, the kind, IN, a time to live, the length.
        message.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, byte(record.len())]);
        message.extend(record);
    }
    if is_cut && !by_tcp {
        message[2] |= 0x02;
        message.truncate(message.len() - 20);
    }
    message
}

/// A name server for as long as the test runs.
fn serve_names(ports: Vec<u16>) {
    let udp = UdpSocket::bind("127.0.0.1:53").expect("the port of names");
    let tcp = TcpListener::bind("127.0.0.1:53").expect("the port of names");
    let of_tcp = ports.clone();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let answer = answer(&buffer[..length], &ports, false);
            udp.send_to(&answer, from).expect("the answer is sent");
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).expect("a question");
            let answer = answer(&question, &of_tcp, true);
            let length = u16::try_from(answer.len()).expect("a short answer");
            let whole = [&length.to_be_bytes()[..], &answer].concat();
            stream.write_all(&whole).expect("the answer is sent");
        }
    });
}

fn spawn(rig: &Rig, home: &Home, program: Program, name: &str, domain: &str) -> Server {
    let flags = [
        format!("--name={name}"),
        "--initial-cluster=".to_owned(),
        format!("--discovery-srv={domain}"),
        format!(
            "--initial-advertise-peer-urls={}",
            home.peer().replace("127.0.0.1", MACHINE)
        ),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    home.spawn(rig, program, &flags)
}

fn members_meet(rig: &Rig, homes: &[Home], members: [Program; 3], domain: &str) {
    let start = |(at, home): (usize, &Home)| spawn(rig, home, members[at], &format!("m{at}"), domain);
    let mut servers: Vec<Server> = homes.iter().enumerate().map(start).collect();
    for server in &mut servers {
        server.wait_until_ready();
    }
    rig.ask_one(&homes[0].endpoint(), PUT, "key: 'a' value: 'b'");
    for home in homes {
        let names = eventually("three members that have told their names", || {
            let answer = rig.ask(&home.endpoint(), &[Question::new(LIST, "")]).remove(0);
            let list = answer.answers.first()?["members"].as_array()?.clone();
            let name = |member: &serde_json::Value| member["name"].as_str().unwrap_or_default().to_owned();
            let mut names: Vec<String> = list.iter().map(name).collect();
            names.sort();
            (names.len() == 3 && !names[0].is_empty()).then_some(names)
        });
        assert_eq!(names, ["m0", "m1", "m2"], "{members:?} by {domain}");
    }
    for server in servers {
        server.stop(Stop::Term);
    }
    for home in homes {
        std::fs::remove_dir_all(home.data()).expect("its data is removed");
    }
}

#[test]
fn members_find_each_other_by_names() {
    let Some(rig) = Rig::find("srv") else { return };
    if !is_inside("members_find_each_other_by_names") {
        return;
    }
    let homes: Vec<Home> = (0..3).map(|at| Home::new(&format!("srv-{at}"))).collect();
    let port = |home: &Home| home.peer().rsplit(':').next()?.parse().ok();
    serve_names(homes.iter().map(|home| port(home).expect("a port")).collect());
    let (ours, go) = (Program::Ours("3.7"), Program::Go("3.7"));
    members_meet(&rig, &homes, [go, ours, go], "found.test");
    members_meet(&rig, &homes, [ours, go, ours], "cut.test");
    // Nobody is there: the start ends in etcd's words.
    for program in [go, ours] {
        let mut server = spawn(&rig, &homes[0], program, "m0", "nobody.test");
        assert_eq!(server.wait().code(), Some(1), "{program:?}");
        let log = server.log();
        for service in ["etcd-server", "etcd-server-ssl"] {
            let text = format!("lookup _{service}._tcp.nobody.test on 127.0.0.1:53: no such host");
            assert!(log.contains(&text), "{program:?}: {log}");
        }
    }
}
