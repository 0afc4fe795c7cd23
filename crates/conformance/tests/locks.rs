//! Locks and elections, as a client of the gateway meets them: who waits, who leaves, whose lease ends, and
//! what is left after a restart. Each scenario runs against real etcd as well, and both must tell the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use conformance::{Home, Program, Rig, Stop, agree, eventually, run, without};
use serde_json::{Value, json};

fn request(path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /v3/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // Longer than anybody waits here for a lock.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The HTTP status and the answer, without what differs between two runs of one program.
fn post(port: u16, path: &str, body: &Value) -> Value {
    let answer = ask(port, &request(path, body)).expect("the server answers");
    // Go's protobuf writes plain spaces or unbreakable ones, so that nobody relies on its words.
    let answer = answer.replace('\u{a0}', " ");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).unwrap_or_default().to_string();
    let mut body: Value = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    without(
        &mut body,
        &["cluster_id", "member_id", "raft_term", "revision", "rev"],
    );
    json!([path, status, body])
}

/// Asks in another thread: what it asks for takes its time.
fn wait_for(port: u16, path: &'static str, body: Value) -> JoinHandle<Value> {
    spawn(move || post(port, path, &body))
}

/// Base64, as bytes are written in JSON.
fn bytes(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, n| {
            bits << 8 | three.get(n).map_or(0, |b| usize::from(*b))
        });
        for n in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * n) & 63]);
            out.push(if n <= three.len() { letter } else { '=' });
        }
    }
    out
}

fn grant(port: u16, lease: i64, seconds: i64) {
    post(port, "lease/grant", &json!({ "ID": lease, "TTL": seconds }));
}

/// Waits until so many keys stand in the row below a name.
fn in_row(port: u16, name: &str, wanted: usize) {
    eventually("places in the row", || {
        let (from, to) = (bytes(&format!("{name}/")), bytes(&format!("{name}0")));
        let found = post(port, "kv/range", &json!({ "key": from, "range_end": to }));
        let count = found[2]["kvs"].as_array().map_or(0, Vec::len);
        (count == wanted).then_some(())
    });
}

fn locks(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let server = home.start(rig, program, &[]);
    let port = home.client_port();
    let lock = |name: &str, lease: i64| json!({ "name": bytes(name), "lease": lease.to_string() });
    let mut facts = vec![
        post(port, "lock/lock", &lock("l", 404)),
        post(port, "lock/lock", &json!({ "name": 5 })),
        post(port, "lock/unlock", &json!({})),
        post(port, "lock/unlock", &json!({ "key": bytes("none") })),
    ];
    for lease in 7..10 {
        grant(port, lease, 100);
    }
    facts.push(post(port, "lock/lock", &lock("l", 7)));
    // Who holds it may ask again.
    facts.push(post(port, "lock/lock", &lock("l", 7)));
    let waiter = wait_for(port, "lock/lock", lock("l", 8));
    in_row(port, "l", 2);
    let mut leaver = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    leaver
        .write_all(request("lock/lock", &lock("l", 9)).as_bytes())
        .expect("the server reads");
    in_row(port, "l", 3);
    drop(leaver);
    in_row(port, "l", 2);
    facts.push(post(port, "lock/unlock", &json!({ "key": bytes("l/7") })));
    facts.push(waiter.join().expect("the waiter has an answer"));

    // A lease that ends hands over, and one that ends while its owner waits has waited in vain.
    grant(port, 10, 2);
    grant(port, 11, 100);
    facts.push(post(port, "lock/lock", &lock("m", 10)));
    facts.push(post(port, "lock/lock", &lock("m", 11)));
    grant(port, 12, 2);
    let late = wait_for(port, "lock/lock", lock("m", 12));
    in_row(port, "m", 2);
    in_row(port, "m", 1);
    facts.push(post(port, "lock/unlock", &json!({ "key": bytes("m/b") })));
    facts.push(late.join().expect("the late one has an answer"));

    // What is held is held after a restart.
    server.stop(Stop::Term);
    let server = home.start(rig, program, &[]);
    facts.push(post(port, "lock/lock", &lock("l", 8)));
    let waiter = wait_for(port, "lock/lock", lock("l", 9));
    in_row(port, "l", 2);
    post(port, "lease/revoke", &json!({ "ID": 8 }));
    facts.push(waiter.join().expect("the waiter has an answer"));
    server.stop(Stop::Term);
    facts
}

#[test]
fn locks_are_held_waited_for_and_lost_as_in_etcd() {
    agree("locks", locks);
}

fn elections(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let server = home.start(rig, program, &[]);
    let port = home.client_port();
    let campaign =
        |lease: i64, value: &str| json!({ "name": bytes("e"), "lease": lease, "value": bytes(value) });
    let name = json!({ "name": bytes("e") });
    let mut facts = vec![
        post(port, "election/leader", &name),
        post(port, "election/campaign", &campaign(404, "x")),
        post(port, "election/proclaim", &json!({})),
        post(port, "election/resign", &json!({})),
        post(port, "election/resign", &json!({ "leader": { "lease": 404 } })),
        post(port, "election/observe", &json!({ "name": 5 })),
    ];
    for lease in 20..23 {
        grant(port, lease, 100);
    }
    facts.push(post(port, "election/campaign", &campaign(20, "one")));
    // Who is elected may campaign again, with other words.
    facts.push(post(port, "election/campaign", &campaign(20, "one more")));
    facts.push(post(port, "election/leader", &name));
    let second = wait_for(port, "election/campaign", campaign(21, "two"));
    in_row(port, "e", 2);
    let mut leaver = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    leaver
        .write_all(request("election/campaign", &campaign(22, "three")).as_bytes())
        .expect("the server reads");
    in_row(port, "e", 3);
    drop(leaver);
    in_row(port, "e", 2);
    post(port, "lease/revoke", &json!({ "ID": 20 }));
    facts.push(second.join().expect("the second is elected"));
    let gone = json!({ "name": bytes("e"), "key": bytes("e/14"), "rev": 2, "lease": 21 });
    let proclaim = json!({ "leader": gone, "value": bytes("again") });
    facts.push(post(port, "election/proclaim", &proclaim));
    facts.push(post(port, "election/resign", &json!({ "leader": gone })));
    facts.push(post(port, "election/leader", &name));
    server.stop(Stop::Term);
    facts
}

#[test]
fn elections_are_won_and_lost_as_in_etcd() {
    agree("elections", elections);
}

/// Our tool's recipe beside real etcd's services: both stand in the same row.
#[test]
fn the_tool_waits_in_the_same_row() {
    let Some(rig) = Rig::find("tool-locks") else {
        return;
    };
    let home = Home::new("tool-locks");
    let server = home.start(&rig, Program::Ours("3.7"), &[]);
    let port = home.client_port();
    let endpoints = format!("--endpoints={}", home.endpoint());
    let show = [
        "ctl",
        &endpoints,
        "lock",
        "t",
        "--",
        "sh",
        "-c",
        "echo key=$ETCD_LOCK_KEY; exit 3",
    ];
    let (done, told) = run(&rig.mainstay, &show);
    assert!(
        !done && told.contains("key=t/") && told.contains("exit status 3"),
        "{told}"
    );
    grant(port, 30, 100);
    post(port, "lock/lock", &json!({ "name": bytes("t"), "lease": 30 }));
    let mut waiter = Command::new(&rig.mainstay)
        .args(["ctl", &endpoints, "lock", "t", "true"])
        .spawn()
        .expect("the tool runs");
    in_row(port, "t", 2);
    assert!(waiter.try_wait().expect("the tool is there").is_none());
    post(port, "lock/unlock", &json!({ "key": bytes("t/1e") }));
    assert!(waiter.wait().expect("the tool ends").success());
    in_row(port, "t", 0);
    server.stop(Stop::Term);
}
