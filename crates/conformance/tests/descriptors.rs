//! File descriptors: idle clients may hold as many connections as they like, and still the member must find
//! descriptors for its own files; who finds no place waits for one.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use conformance::{Home, Program, Rig, Stop, eventually};

/// With this limit there is room for 150 clients.
const LIMIT: u32 = 300;
const CLIENTS: usize = 400;
/// No answer takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(60);

const QUESTION: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Lets the server of the rig have so many file descriptors.
fn limited(mut rig: Rig, home: &Home, limit: u32) -> Rig {
    let script = home.dir.join("limited");
    let text = format!(
        "#!/bin/sh\nulimit -n {limit}\nexec '{}' \"$@\"\n",
        rig.mainstay.display()
    );
    // By another process: a file that is open for writing here is so in every process that another test begins just
    // now, and could not be run.
    let mut writer = Command::new("/bin/sh");
    writer
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&script);
    let mut writer = writer.stdin(Stdio::piped()).spawn().expect("a shell");
    let mut input = writer.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("the script is sent");
    drop(input);
    assert!(writer.wait().expect("it ends").success());
    rig.mainstay = script;
    rig
}

/// A connection that has asked for something.
fn asked(home: &Home) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", home.client_port())).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(QUESTION.as_bytes()).expect("asked");
    stream
}

/// Reads one answer, of which the connection goes on.
fn answer(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).expect("a head").to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse().ok())
        .unwrap_or_else(|| panic!("no length: {head}"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    head + &String::from_utf8_lossy(&body)
}

#[test]
fn idle_clients_do_not_keep_the_member_from_its_files() {
    let Some(rig) = Rig::find("descriptors") else {
        return;
    };
    let home = Home::new("descriptors");
    let rig = limited(rig, &home, LIMIT);
    let mut server = home.start(&rig, Program::Ours("3.7"), &[]);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| asked(&home)).collect();
    let mut served = clients.remove(0);
    assert!(answer(&mut served).contains("\"health\":\"true\""));

    // More than a segment of the log, one of which is made ahead: 120 times 0.75 MB.
    let value = "A".repeat(4 << 18);
    let body = format!("{{\"key\":\"YQ==\",\"value\":\"{value}\"}}");
    for number in 0..120 {
        let head = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        served.write_all(head.as_bytes()).expect("sent");
        served.write_all(body.as_bytes()).expect("sent");
        let put = answer(&mut served);
        assert!(put.contains(" 200 "), "put {number}: {put}\n{}", server.log());
    }
    let segments = fs::read_dir(home.data().join("member/wal")).expect("the log");
    let names = segments.map(|entry| entry.expect("an entry").file_name());
    let second = names.filter(|name| name.to_string_lossy().starts_with("0000000000000001-"));
    assert_eq!(second.count(), 1, "{}", server.log());

    // The last has waited; when others go, it is served.
    let mut last = clients.pop().expect("there is one");
    last.set_nonblocking(true).expect("set");
    assert!(
        last.read(&mut [0]).is_err(),
        "more are served than there is room for"
    );
    last.set_nonblocking(false).expect("set");
    drop(clients);
    assert!(answer(&mut last).contains("\"health\":\"true\""));
    assert!(server.ended().is_none());
    let log = server.log();
    assert!(!log.contains("failed to accept"), "{log}");
    server.stop(Stop::Term);
}

#[test]
fn a_handshake_that_fails_gives_its_place_back() {
    let Some(rig) = Rig::find("descriptors") else {
        return;
    };
    let home = Home::new("descriptors-tls");
    let rig = limited(rig, &home, LIMIT);
    let url = home.endpoint().replace("http:", "https:");
    let flags = [
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        "--auto-tls".to_string(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = home.spawn(&rig, Program::Ours("3.7"), &flags);
    eventually("it listens", || {
        TcpStream::connect(("127.0.0.1", home.client_port())).ok()
    });
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| asked(&home)).collect();
    for client in &mut clients {
        // What it is told depends on what it said; that it is over does not.
        match client.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
    server.stop(Stop::Term);
}

#[test]
fn a_limit_that_leaves_nothing_for_clients_is_refused() {
    let Some(rig) = Rig::find("descriptors") else {
        return;
    };
    let home = Home::new("descriptors-few");
    let rig = limited(rig, &home, 150);
    let mut server = home.spawn(&rig, Program::Ours("3.7"), &[]);
    assert!(!server.wait().success());
    let log = server.log();
    let last = log.lines().last().unwrap_or_default();
    for part in [
        "\"level\":\"fatal\"",
        "\"msg\":\"file descriptor limit of etcd process is too low; please set higher\"",
        "\"limit\":150",
        "\"recommended-limit\":150",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
}
