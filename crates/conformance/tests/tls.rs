//! TLS on both sides of the wire: ours and real etcd, server and client, told apart by nothing but
//! their names. Certificates are made when the tests run.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conformance::{Home, Program, Rig, Server, Stop, eventually, free_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

const OURS: Program = Program::Ours("3.7");
const GO: Program = Program::Go("3.7");

/// A folder with authorities and the pairs that came from them.
struct Keys(PathBuf);

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Keys {
    fn new(home: &Home) -> Keys {
        let keys = Keys(home.dir.join("keys"));
        fs::create_dir_all(&keys.0).expect("a folder");
        let ca = keys.authority("ca");
        keys.pair("server", &ca, &["localhost", "127.0.0.1"]);
        keys.pair("client", &ca, &["localhost", "127.0.0.1"]);
        keys.pair("elsewhere", &ca, &["10.0.0.1", "10.0.0.2"]);
        let other = keys.authority("other");
        keys.pair("stranger", &other, &["localhost", "127.0.0.1"]);
        keys.write("expired", &ca, &["localhost", "127.0.0.1"], |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        });
        keys
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn authority(&self, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        fs::write(self.path(&format!("{name}.crt")), ca.pem()).expect("written");
        ca
    }

    fn pair(&self, name: &str, ca: &Authority, names: &[&str]) {
        self.write(name, ca, names, |_| {});
    }

    fn write(&self, name: &str, ca: &Authority, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, ca).expect("a certificate");
        fs::write(self.path(&format!("{name}.crt")), cert.pem()).expect("written");
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    /// Flags of a server with this folder's certificates on both sides.
    fn flags(&self, home: &Home) -> Vec<String> {
        let (client, peer) = (secure(&home.endpoint()), secure(&home.peer()));
        let mut flags = vec![
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        for prefix in ["", "peer-"] {
            flags.push(format!("--{prefix}cert-file={}", self.path("server.crt")));
            flags.push(format!("--{prefix}key-file={}", self.path("server.key")));
            flags.push(format!("--{prefix}trusted-ca-file={}", self.path("ca.crt")));
            flags.push(format!("--{prefix}client-cert-auth"));
        }
        flags
    }

    /// Flags of etcdctl: the authority, and a pair unless it is empty.
    fn client(&self, ca: &str, pair: &str) -> Vec<String> {
        let mut flags = vec![format!("--cacert={}", self.path(&format!("{ca}.crt")))];
        if !pair.is_empty() {
            flags.push(format!("--cert={}", self.path(&format!("{pair}.crt"))));
            flags.push(format!("--key={}", self.path(&format!("{pair}.key"))));
        }
        flags
    }
}

fn secure(url: &str) -> String {
    url.replace("http://", "https://")
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_string()).collect()
}

/// Starts a server and waits for the line that says that it serves clients.
fn start(rig: &Rig, home: &Home, program: Program, flags: &[String]) -> Server {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut server = home.spawn(rig, program, &flags);
    eventually("clients are served", || {
        if let Some(status) = server.ended() {
            panic!("{program:?} ended ({status}):\n{}", server.log());
        }
        server.log().contains("serving client traffic").then_some(())
    });
    server
}

/// Runs one of both clients; whether it succeeded, and both its outputs.
fn ctl(
    rig: &Rig,
    client: Program,
    env: &[(&str, String)],
    flags: &[String],
    args: &[&str],
) -> (bool, String) {
    let mut command = match client {
        Program::Go(line) => Command::new(rig.go(line, "etcdctl")),
        Program::Ours(_) => {
            let mut command = Command::new(&rig.mainstay);
            command.arg("ctl");
            command
        }
    };
    command.envs(env.iter().map(|(name, value)| (*name, value.as_str())));
    let output = command.args(flags).args(args).output().expect("the client runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn endpoint(home: &Home) -> String {
    format!("--endpoints={}", secure(&home.endpoint()))
}

#[track_caller]
fn works(rig: &Rig, home: &Home, client: Program, flags: &[String]) {
    let flags = [&[endpoint(home)], flags].concat();
    let (done, text) = ctl(rig, client, &[], &flags, &["put", "a", "b"]);
    assert!(done && text == "OK\n", "{client:?} {flags:?}: {text}");
    let (done, text) = ctl(rig, client, &[], &flags, &["get", "a"]);
    assert!(done && text == "a\nb\n", "{client:?} {flags:?}: {text}");
}

/// Tries in vain, and gives what was said.
#[track_caller]
fn fails(rig: &Rig, home: &Home, client: Program, flags: &[String]) -> String {
    let flags = [
        &[endpoint(home)],
        flags,
        &texts(&["--command-timeout=1s", "--dial-timeout=1s"]),
    ]
    .concat();
    let (done, text) = ctl(rig, client, &[], &flags, &["get", "a"]);
    assert!(!done, "{client:?} {flags:?}: {text}");
    text
}

/// Every client with every server: who is let in, who is not, and what each side says of it.
#[test]
fn both_clients_meet_both_servers() {
    let Some(rig) = Rig::find("tls both sides") else {
        return;
    };
    let unknown = "authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority";
    for server in [GO, OURS] {
        let home = Home::new("tls-both");
        let keys = Keys::new(&home);
        let running = start(&rig, &home, server, &keys.flags(&home));
        for client in [GO, OURS] {
            works(&rig, &home, client, &keys.client("ca", "client"));
            let env = [
                ("ETCDCTL_CACERT", keys.path("ca.crt")),
                ("ETCDCTL_CERT", keys.path("client.crt")),
                ("ETCDCTL_KEY", keys.path("client.key")),
            ];
            let (done, text) = ctl(&rig, client, &env, &[endpoint(&home)], &["get", "a"]);
            assert!(done && text == "a\nb\n", "{client:?}: {text}");
            let skip = [
                keys.client("other", "client"),
                texts(&["--insecure-skip-tls-verify"]),
            ]
            .concat();
            works(&rig, &home, client, &skip);
            let text = fails(&rig, &home, client, &keys.client("other", "client"));
            assert!(
                text.contains(unknown) && text.contains("context deadline exceeded"),
                "{client:?} at {server:?}: {text}"
            );
            fails(&rig, &home, client, &keys.client("ca", ""));
            fails(&rig, &home, client, &keys.client("ca", "stranger"));
            let (done, text) = ctl(
                &rig,
                client,
                &[],
                &[vec![endpoint(&home)], texts(&["--cert=nowhere", "--key=nowhere"])].concat(),
                &["get", "a"],
            );
            assert!(
                !done && text.contains("open nowhere: no such file or directory"),
                "{client:?}: {text}"
            );
            let half = [endpoint(&home), "--cert=x".into()];
            let (done, text) = ctl(&rig, client, &[], &half, &["get", "a"]);
            assert!(
                !done && text.contains("KeyFile and CertFile must both be present[key: , cert: x]"),
                "{client:?}: {text}"
            );
        }
        let log = running.log();
        for text in [
            "serving client traffic securely",
            "starting with client TLS",
            "starting with peer TLS",
            "remote error: tls: ",
            "tls: client didn't provide a certificate",
        ] {
            assert!(log.contains(text), "{server:?} did not say {text:?}:\n{log}");
        }
        running.stop(Stop::Term);
    }
}

/// What the log says of a connection that was turned away, without what differs by chance.
fn rejections(server: &Server) -> Vec<String> {
    let mut found = Vec::new();
    for line in server
        .log()
        .lines()
        .filter(|line| line.contains("rejected connection on"))
    {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("lines are JSON");
        let line = line.as_object_mut().expect("an object");
        let remote = line.remove("remote-addr").expect("where it came from");
        assert!(
            remote.as_str().is_some_and(|text| text.starts_with("127.0.0.1:")),
            "{remote}"
        );
        line.remove("ts");
        line.remove("caller");
        let text = serde_json::to_string(&line).expect("JSON");
        // The time of the handshake is another on each side.
        found.push(match text.split_once("current time ") {
            Some((before, after)) => format!("{before}{}", after.get(20..).unwrap_or_default()),
            None => text,
        });
    }
    found.sort();
    found
}

/// The first message of a client, by hand: no library of today offers so little.
fn hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    // Groups and signatures that every server takes, so that nothing else is missing.
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    let mut body = Vec::from(version);
    body.extend([7; 32]);
    body.extend([0, 0, 2]);
    body.extend(suite);
    body.extend([1, 0, 0, 16]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).expect("it is short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

/// Says something that is no handshake, and gives the alert that comes back, if one does.
fn say(port: u16, words: &[u8]) -> Option<[u8; 2]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.write_all(words).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("shut");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    match answer[..] {
        [21, _, _, 0, 2, level, what] => Some([level, what]),
        _ => None,
    }
}

/// Shakes hands as a client of this rig, and hangs up.
fn knock(port: u16, keys: &Keys, ca: &str, pair: &str) {
    let file = |end: &str| match pair {
        "" => String::new(),
        pair => keys.path(&format!("{pair}.{end}")),
    };
    let info = tls::Info {
        cert_file: file("crt"),
        key_file: file("key"),
        trusted_ca_file: keys.path(&format!("{ca}.crt")),
        ..tls::Info::default()
    };
    let side = tls::ClientSide::new(&info, &["h2"]).expect("a client");
    let name = "localhost".try_into().expect("a name");
    let mut connection =
        tls::rustls::ClientConnection::new(side.config().expect("a client"), name).expect("a client");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut stream = tls::rustls::Stream::new(&mut connection, &mut stream);
    // The outcome is in the server's log.
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(request).and_then(|()| stream.flush());
    let _ = stream.read(&mut [0; 1]);
}

#[test]
fn whoever_is_turned_away_is_logged_in_etcds_words() {
    let Some(rig) = Rig::find("tls rejections") else {
        return;
    };
    let mut logs = Vec::new();
    for program in [GO, OURS] {
        let mut alerts = Vec::new();
        let home = Home::new("tls-reject");
        let keys = Keys::new(&home);
        let server = start(&rig, &home, program, &keys.flags(&home));
        let peer = home
            .peer()
            .rsplit_once(':')
            .expect("a port")
            .1
            .parse()
            .expect("a port");
        for port in [home.client_port(), peer] {
            for words in [
                &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                &[0x80, 3, 3, 0, 1],
                &[0x16, 3],
                &hello([3, 1], [0xc0, 0x13]),
                &hello([3, 2], [0xc0, 0x13]),
                &hello([3, 3], [0xc0, 0x12]),
            ] {
                alerts.push(say(port, words));
            }
            knock(port, &keys, "other", "client");
            knock(port, &keys, "ca", "");
            knock(port, &keys, "ca", "stranger");
            // The port of members alone compares addresses.
            knock(port, &keys, "ca", "elsewhere");
            knock(port, &keys, "ca", "expired");
        }
        // One for each, but that the port of clients lets "elsewhere" in.
        let found = eventually("all lines", || {
            let found = rejections(&server);
            (found.len() >= 21).then_some(found)
        });
        server.stop(Stop::Term);
        logs.push((found, alerts));
    }
    assert_eq!(logs[1], logs[0], "ours and etcd's");
}

/// Certificate and key are those of the files at each handshake.
#[test]
fn certificates_are_exchanged_while_the_server_runs() {
    let Some(rig) = Rig::find("tls reload") else {
        return;
    };
    let home = Home::new("tls-reload");
    let keys = Keys::new(&home);
    let server = start(&rig, &home, OURS, &keys.flags(&home));
    works(&rig, &home, GO, &keys.client("ca", "client"));
    let copy = |from: &str, to: &str| fs::copy(keys.path(from), keys.path(to)).expect("copied");
    for end in ["crt", "key"] {
        copy(&format!("server.{end}"), &format!("kept.{end}"));
    }
    copy("stranger.crt", "server.crt");
    fails(&rig, &home, OURS, &keys.client("ca", "client"));
    let log = server.log();
    assert!(
        log.contains("failed to create peer certificate")
            && log.contains("tls: private key does not match public key"),
        "{log}"
    );
    copy("stranger.key", "server.key");
    works(&rig, &home, GO, &keys.client("other", "client"));
    fails(&rig, &home, OURS, &keys.client("ca", "client"));
    fs::remove_file(keys.path("server.key")).expect("removed");
    fails(&rig, &home, OURS, &keys.client("other", "client"));
    assert!(
        server.log().contains("failed to find peer cert files"),
        "{}",
        server.log()
    );
    for end in ["crt", "key"] {
        copy(&format!("kept.{end}"), &format!("server.{end}"));
    }
    works(&rig, &home, GO, &keys.client("ca", "client"));
    server.stop(Stop::Term);
}

/// Clients that never finish their handshakes keep nobody waiting, and are hung up on.
/// CVE-2026-73500.
#[test]
fn slow_handshakes_disturb_nobody() {
    let Some(rig) = Rig::find("tls slow") else {
        return;
    };
    let home = Home::new("tls-slow");
    let keys = Keys::new(&home);
    let server = start(&rig, &home, OURS, &keys.flags(&home));
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|at| {
            let mut stream = TcpStream::connect(("127.0.0.1", home.client_port())).expect("connected");
            // Nothing at all, a piece of a header, and a header without what it promises.
            let said: [&[u8]; 3] = [b"", &[22, 3], &[22, 3, 1, 2, 0, 1, 0]];
            stream.write_all(said[at % 3]).expect("sent");
            stream
        })
        .collect();
    works(&rig, &home, GO, &keys.client("ca", "client"));
    for stream in &mut slow {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a limit for a broken server");
        let read = stream.read_to_end(&mut Vec::new());
        assert!(
            read.as_ref()
                .err()
                .is_none_or(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
            "{read:?}"
        );
    }
    assert!(server.log().contains("i/o timeout"), "{}", server.log());
    works(&rig, &home, GO, &keys.client("ca", "client"));
    server.stop(Stop::Term);
}

/// What one server made for itself serves the other: the binary is exchanged on the same directory.
#[test]
fn self_made_certificates_are_kept() {
    let Some(rig) = Rig::find("tls auto") else {
        return;
    };
    for order in [[GO, OURS, OURS, GO], [OURS, GO, OURS, OURS]] {
        let home = Home::new("tls-auto");
        // One address for both kinds of connections.
        let (client, peer) = (home.endpoint(), secure(&home.peer()));
        let flags = [
            format!("--listen-client-urls={},{client}", secure(&client)),
            format!("--advertise-client-urls={}", secure(&client)),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--auto-tls".into(),
            "--peer-auto-tls".into(),
            "--self-signed-cert-validity=3".into(),
        ];
        let cert = home.data().join("fixtures/client/cert.pem");
        let mut first = None;
        for program in order {
            let server = start(&rig, &home, program, &flags);
            let log = server.log();
            let made = log.matches("automatically generate certificates").count();
            assert_eq!(made, if first.is_none() { 2 } else { 0 }, "{program:?}:\n{log}");
            let now = fs::read(&cert).expect("a certificate");
            assert_eq!(first.get_or_insert(now.clone()), &now, "{program:?}");
            for client in [GO, OURS] {
                works(&rig, &home, client, &[format!("--cacert={}", cert.display())]);
                works(&rig, &home, client, &texts(&["--insecure-skip-tls-verify"]));
                let plain = [format!("--endpoints={}", home.endpoint())];
                let (done, text) = ctl(&rig, client, &[], &plain, &["get", "a"]);
                assert!(done && text == "a\nb\n", "{program:?} {client:?}: {text}");
            }
            server.stop(Stop::Term);
        }
        let mode = fs::metadata(home.data().join("fixtures/client/key.pem")).expect("a key");
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
            0o600
        );
    }
}

/// Sockets in the file system, with TLS and without, and what clients call them.
#[test]
fn sockets_in_the_file_system_are_encrypted_too() {
    let Some(rig) = Rig::find("tls unix") else {
        return;
    };
    for program in [GO, OURS] {
        let home = Home::new("tls-unix");
        let keys = Keys::new(&home);
        // The name of the file is the server's.
        let (secure, plain) = (home.dir.join("localhost"), home.dir.join("plain"));
        let urls = format!("unixs://{},unix://{}", secure.display(), plain.display());
        let mut flags = keys.flags(&home);
        flags.push(format!("--listen-client-urls={urls}"));
        flags.push(format!("--advertise-client-urls={urls}"));
        let server = start(&rig, &home, program, &flags);
        for client in [GO, OURS] {
            let get = |endpoint: String, flags: &[String]| {
                let flags = [&[format!("--endpoints={endpoint}")], flags].concat();
                ctl(&rig, client, &[], &flags, &["get", "a"])
            };
            let (done, text) = get(
                format!("unixs://{}", secure.display()),
                &keys.client("ca", "client"),
            );
            assert!(done, "{program:?} {client:?}: {text}");
            let (done, text) = get(format!("unix://{}", plain.display()), &[]);
            assert!(done, "{program:?} {client:?}: {text}");
            let (done, text) = get(
                format!("unixs://{}", plain.display()),
                &keys.client("ca", "client"),
            );
            assert!(!done, "{program:?} {client:?}: {text}");
        }
        server.stop(Stop::Term);
    }
}

/// Settings that do not go together stop both servers, for the same reason.
#[test]
fn wrong_settings_are_refused_in_etcds_words() {
    let Some(rig) = Rig::find("tls settings") else {
        return;
    };
    let home = Home::new("tls-settings");
    let keys = Keys::new(&home);
    let client = secure(&home.endpoint());
    let https = [
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
    ];
    let file = |flag: &str, name: &str| format!("--{flag}={}", keys.path(name));
    let pair = [file("cert-file", "server.crt"), file("key-file", "server.key")];
    let peer = secure(&home.peer());
    for (flags, text) in [
        (
            https.to_vec(),
            "TLS key/cert (--cert-file, --key-file) must be provided for client url",
        ),
        (
            vec![format!("--listen-peer-urls={peer}")],
            "KeyFile and CertFile are not presented",
        ),
        (
            vec![format!("--listen-metrics-urls=https://127.0.0.1:{}", free_port())],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (
            [&https[..], &[file("cert-file", "server.crt")]].concat(),
            "KeyFile and CertFile must both be present[key: , cert: ",
        ),
        (
            [
                &https[..],
                &[file("cert-file", "server.crt"), file("key-file", "client.key")],
            ]
            .concat(),
            "tls: private key does not match public key",
        ),
        (
            [
                &https[..],
                &pair,
                &[format!("--listen-client-http-urls={client}")],
            ]
            .concat(),
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url",
        ),
        (
            [&https[..], &pair, &[file("trusted-ca-file", "nowhere.crt")]].concat(),
            "nowhere.crt: no such file or directory",
        ),
        (
            [&https[..], &pair, &[file("client-cert-file", "client.crt")]].concat(),
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: ",
        ),
        (
            texts(&["--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA,NONSENSE"]),
            "unexpected TLS cipher suite \\\"NONSENSE\\\"",
        ),
        (
            texts(&["--tls-min-version=TLS1.0"]),
            "unexpected TLS version \\\"TLS1.0\\\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            texts(&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"]),
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            texts(&[
                "--tls-min-version=TLS1.3",
                "--cipher-suites=TLS_AES_128_GCM_SHA256",
            ]),
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            [
                &https[..],
                &texts(&["--auto-tls", "--self-signed-cert-validity=0"]),
            ]
            .concat(),
            "selfSignedCertValidity is invalid,it should be greater than 0",
        ),
    ] {
        for program in [GO, OURS] {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let mut server = home.spawn(&rig, program, &flags);
            assert!(!server.wait().success(), "{program:?} {flags:?}");
            let log = server.log();
            assert!(
                log.contains(text),
                "{program:?} {flags:?} ended without {text:?}:\n{log}"
            );
            drop(server);
            let _ = fs::remove_dir_all(home.data());
        }
    }
}

/// A gateway passes TLS on as it is, and leaves members alone that are not there.
#[test]
fn a_gateway_passes_connections_on() {
    let Some(rig) = Rig::find("tls gateway") else {
        return;
    };
    let home = Home::new("tls-gateway");
    let keys = Keys::new(&home);
    let server = start(&rig, &home, OURS, &keys.flags(&home));
    for program in [GO, OURS] {
        let (listen, dead) = (free_port(), free_port());
        let mut command = match program {
            GO => Command::new(rig.go("3.7", "etcd")),
            _ => Command::new(&rig.mainstay),
        };
        let log = home.dir.join("gateway.log");
        let file = fs::File::create(&log).expect("a log file");
        let mut gateway = command
            .args(["gateway", "start", "--retry-delay=1s"])
            .arg(format!("--listen-addr=127.0.0.1:{listen}"))
            .arg(format!(
                "--endpoints=https://127.0.0.1:{dead},127.0.0.1:{}",
                home.client_port()
            ))
            .stderr(file)
            .spawn()
            .expect("the gateway runs");
        let read = || fs::read_to_string(&log).unwrap_or_default();
        let says = |text: &str| eventually(text, || read().contains(text).then_some(()));
        says("ready to proxy client requests");
        for client in [GO, OURS] {
            let flags = [
                vec![format!("--endpoints=https://127.0.0.1:{listen}")],
                keys.client("ca", "client"),
            ]
            .concat();
            for _ in 0..2 {
                let (done, text) = ctl(&rig, client, &[], &flags, &["put", "a", "b"]);
                assert!(done && text == "OK\n", "{program:?} {client:?}: {text}");
            }
        }
        says("deactivated endpoint");
        says("failed to activate endpoint (stay inactive for another interval)");
        let listener = std::net::TcpListener::bind(("127.0.0.1", dead)).expect("the port is free");
        says("\"activated\"");
        drop(listener);
        gateway.kill().expect("killed");
        gateway.wait().expect("ended");
    }
    server.stop(Stop::Term);
    for (args, text) in [
        (
            &["gateway", "start", "--endpoints=nowhere"][..],
            "error parsing endpoint \"nowhere\"",
        ),
        (
            &[
                "gateway",
                "start",
                "--listen-addr=127.0.0.1:1",
                "--endpoints=127.0.0.1:1",
            ],
            "should not resolve to the gateway listen addr (127.0.0.1:1)",
        ),
    ] {
        for program in [rig.go("3.7", "etcd"), rig.mainstay.clone()] {
            let output = Command::new(&program).args(args).output().expect("it runs");
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.code() == Some(1) && out.contains(text),
                "{program:?} {args:?}: {out}"
            );
        }
    }
}
