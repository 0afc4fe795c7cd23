//! Handshakes between both sides, in memory: who is let in, who is not, and in which words.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tls::{ClientSide, Info, ServerSide, Version, rustls, words};

/// A folder with the authority `ca`, the pairs `server` and `client` of it, and odd ones.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let ca = authority();
        folder.write("ca.crt", &ca.pem());
        folder.write("other-ca.crt", &authority().pem());
        folder.pair("server", &ca, params());
        folder.pair("client", &ca, params());
        folder.pair("stranger", &authority(), params());
        let mut server_only = params();
        server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        folder.pair("server-only", &ca, server_only);
        let mut old = params();
        old.not_after = date_time_ymd(2000, 1, 1);
        folder.pair("expired", &ca, old);
        let mut own = params();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        folder.self_signed("self", own.clone());
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        folder.self_signed("self-client", own.clone());
        own.extended_key_usages.clear();
        own.not_after = date_time_ymd(2000, 1, 1);
        folder.self_signed("self-expired", own);
        for (name, golden) in [
            ("etcd.crt", "etcd-auto-tls-cert.pem"),
            ("etcd.key", "etcd-auto-tls-key.pem"),
            ("openssl-ca.crt", "openssl-ca.crt"),
            ("v1.crt", "openssl-v1.crt"),
            ("v1.key", "openssl-v1.key"),
            ("other.key", "openssl-other.key"),
            ("ca-leaf.crt", "openssl-ca-leaf.crt"),
            ("ca-leaf.key", "openssl-ca-leaf.key"),
        ] {
            let path = format!("{}/tests/golden/{golden}", env!("CARGO_MANIFEST_DIR"));
            folder.write(name, &fs::read_to_string(path).unwrap());
        }
        folder
    }

    fn path(&self, name: &str) -> String {
        match name {
            "" => String::new(),
            name => self.0.path().join(name).to_string_lossy().into_owned(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn pair(&self, name: &str, ca: &CertifiedIssuer<'_, KeyPair>, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, ca).unwrap();
        self.write(&format!("{name}.crt"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn self_signed(&self, name: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        self.write(&format!("{name}.crt"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// The settings with a pair and an authority of this folder; empty names for none.
    fn info(&self, pair: &str, ca: &str) -> Info {
        let file = |end: &str| match pair {
            "" => String::new(),
            pair => self.path(&format!("{pair}.{end}")),
        };
        Info {
            cert_file: file("crt"),
            key_file: file("key"),
            trusted_ca_file: self.path(ca),
            ..Info::default()
        }
    }
}

fn params() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_string(), "127.0.0.1".to_string()]).unwrap()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a handshake comes to: the suite, or what the server or the client has to say.
fn shake(server: Arc<ServerConfig>, client: Arc<ClientConfig>, name: &str) -> Result<Shaken, String> {
    let mut server = ServerConnection::new(server).unwrap();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    while server.is_handshaking() || client.is_handshaking() || client.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        feed(&bytes, |part| {
            server.read_tls(part).unwrap();
            server.process_new_packets().map(drop)
        })
        .map_err(|error| format!("server: {}", words::of(&error)))?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        feed(&bytes, |part| {
            client.read_tls(part).unwrap();
            client.process_new_packets().map(drop)
        })
        .map_err(|error| format!("client: {}", words::of(&error)))?;
    }
    Ok(Shaken {
        suite: format!("{:?}", server.negotiated_cipher_suite().unwrap().suite()),
        server_cert: client.peer_certificates().unwrap()[0].to_vec(),
    })
}

fn feed(
    mut bytes: &[u8],
    mut take: impl FnMut(&mut &[u8]) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        take(&mut bytes)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Shaken {
    suite: String,
    server_cert: Vec<u8>,
}

fn outcome(server: &Info, client: &Info, name: &str) -> Result<Shaken, String> {
    let server = ServerSide::new(server, &["h2"]).map_err(|error| error.to_string())?;
    let client = ClientSide::new(client, &["h2"]).map_err(|error| error.to_string())?;
    shake(server.config().unwrap(), client.config().unwrap(), name)
}

#[test]
fn who_is_let_in() {
    const UNKNOWN: &str = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let folder = Folder::new();
    let old =
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time";
    let not_valid_for = "tls: failed to verify certificate: x509: certificate is valid for localhost, 127.0.0.1, not elsewhere";
    let usage =
        "server: tls: failed to verify certificate: x509: certificate specifies an incompatible key usage";
    for (server, client, name, expect) in [
        // Server's pair and authority; client's pair and authority; the name that is dialled.
        (("server", ""), ("", "ca.crt"), "localhost", String::new()),
        (("server", ""), ("", "ca.crt"), "127.0.0.1", String::new()),
        (
            ("server", ""),
            ("", "ca.crt"),
            "elsewhere",
            format!("client: {not_valid_for}"),
        ),
        (
            ("server", ""),
            ("", "other-ca.crt"),
            "localhost",
            format!("client: {UNKNOWN}"),
        ),
        (
            ("expired", ""),
            ("", "ca.crt"),
            "localhost",
            format!("client: {old}"),
        ),
        (
            ("server", "ca.crt"),
            ("client", "ca.crt"),
            "localhost",
            String::new(),
        ),
        (
            ("server", "ca.crt"),
            ("", "ca.crt"),
            "localhost",
            "server: tls: client didn't provide a certificate".into(),
        ),
        (
            ("server", "ca.crt"),
            ("stranger", "ca.crt"),
            "localhost",
            format!("server: {UNKNOWN}"),
        ),
        (
            ("server", "ca.crt"),
            ("expired", "ca.crt"),
            "localhost",
            format!("server: {old}"),
        ),
        (
            ("server", "ca.crt"),
            ("server-only", "ca.crt"),
            "localhost",
            usage.into(),
        ),
        // An authority's certificate that is trusted itself.
        (
            ("self", "self.crt"),
            ("self", "self.crt"),
            "localhost",
            String::new(),
        ),
        (
            ("self", ""),
            ("", "self.crt"),
            "elsewhere",
            format!("client: {not_valid_for}"),
        ),
        (
            ("self-expired", ""),
            ("", "self-expired.crt"),
            "localhost",
            format!("client: {old}"),
        ),
        (
            ("server", "self-expired.crt"),
            ("self-expired", "ca.crt"),
            "localhost",
            format!("server: {old}"),
        ),
        (
            ("self-client", ""),
            ("", "self-client.crt"),
            "localhost",
            format!("client: {UNKNOWN}"),
        ),
        (
            ("self", "self-client.crt"),
            ("self-client", "self.crt"),
            "localhost",
            String::new(),
        ),
        (
            ("server", "etcd.crt"),
            ("etcd", "ca.crt"),
            "localhost",
            format!("server: {UNKNOWN}"),
        ),
        // What openssl makes when it is told nothing else.
        (
            ("ca-leaf", "openssl-ca.crt"),
            ("ca-leaf", "openssl-ca.crt"),
            "localhost",
            String::new(),
        ),
        (
            ("ca-leaf", ""),
            ("", "openssl-ca.crt"),
            "elsewhere",
            format!("client: {not_valid_for}"),
        ),
        (
            ("ca-leaf", ""),
            ("", "ca.crt"),
            "localhost",
            format!("client: {UNKNOWN}"),
        ),
        (
            ("server", "openssl-ca.crt"),
            ("ca-leaf", "other-ca.crt"),
            "localhost",
            format!("client: {UNKNOWN}"),
        ),
        (
            ("server", "ca.crt"),
            ("ca-leaf", "ca.crt"),
            "localhost",
            format!("server: {UNKNOWN}"),
        ),
        // What etcd made for itself.
        (("etcd", ""), ("", "etcd.crt"), "127.0.0.1", String::new()),
        (
            ("etcd", ""),
            ("", "other-ca.crt"),
            "127.0.0.1",
            format!("client: {UNKNOWN}"),
        ),
    ] {
        let told = outcome(
            &folder.info(server.0, server.1),
            &folder.info(client.0, client.1),
            name,
        );
        match (&told, expect.as_str()) {
            (Ok(_), "") => {}
            (Err(error), expect) if !expect.is_empty() && error.starts_with(expect) => {}
            _ => panic!("{server:?} {client:?} {name}: {told:?} instead of {expect:?}"),
        }
    }
}

/// A client's certificate of X.509 version 1, in both versions of TLS: their signatures differ.
#[test]
fn certificates_of_version_1_are_taken() {
    let folder = Folder::new();
    let unknown = "server: tls: failed to verify certificate: x509: certificate signed by unknown authority";
    for version in [Version::Tls12, Version::Tls13] {
        let client = Info {
            max_version: Some(version),
            ..folder.info("v1", "ca.crt")
        };
        let tell = |ca: &str| outcome(&folder.info("server", ca), &client, "localhost").map(drop);
        assert_eq!(tell("openssl-ca.crt"), Ok(()), "{version:?}");
        assert_eq!(tell("ca.crt"), Err(unknown.into()), "{version:?}");
        // Somebody else's key, shown by a client that does not mind.
        let mut config = (*ClientSide::new(&client, &[]).unwrap().config().unwrap()).clone();
        let cert = CertificateDer::from_pem_file(folder.path("v1.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.path("other.key")).unwrap();
        let key = config
            .crypto_provider()
            .key_provider
            .load_private_key(key)
            .unwrap();
        let pair = rustls::sign::CertifiedKey::new(vec![cert], key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(pair));
        let server = ServerSide::new(&folder.info("server", "openssl-ca.crt"), &[]).unwrap();
        let told = shake(server.config().unwrap(), Arc::new(config), "localhost");
        assert!(told.is_err(), "{version:?}: {told:?}");
    }
    fs::copy(folder.path("other.key"), folder.path("v1.key")).unwrap();
    assert_eq!(
        ClientSide::new(&folder.info("v1", ""), &[])
            .unwrap_err()
            .to_string(),
        "tls: private key does not match public key"
    );
}

#[test]
fn nobody_is_verified_who_need_not_be() {
    let folder = Folder::new();
    for (pair, change) in [
        (
            "stranger",
            (|info| info.insecure_skip_verify = true) as fn(&mut Info),
        ),
        ("etcd", |info| info.self_cert = true),
    ] {
        let mut client = folder.info("", "");
        change(&mut client);
        outcome(&folder.info(pair, ""), &client, "anywhere").unwrap();
    }
    // The other name counts, not the one that is dialled.
    let mut client = folder.info("", "ca.crt");
    client.server_name = "localhost".into();
    outcome(&folder.info("server", ""), &client, "elsewhere").unwrap();
}

#[test]
fn versions_and_suites_are_kept_to() {
    let folder = Folder::new();
    let set = |min, max, suites: &[&str]| {
        let suites: Vec<String> = suites.iter().map(|name| (*name).to_string()).collect();
        Info {
            min_version: min,
            max_version: max,
            cipher_suites: tls::cipher_suites(&suites).unwrap(),
            ..folder.info("server", "")
        }
    };
    let client = |min, max| Info {
        min_version: min,
        max_version: max,
        ..folder.info("", "ca.crt")
    };
    let (old, new) = (Some(Version::Tls12), Some(Version::Tls13));
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let shaken = outcome(&set(None, None, &[]), &client(None, None), "localhost").unwrap();
    assert!(shaken.suite.starts_with("TLS13_"), "{shaken:?}");
    let shaken = outcome(&set(None, None, &[suite]), &client(None, old), "localhost").unwrap();
    assert_eq!(shaken.suite, suite);
    // A list of suites says nothing of TLS 1.3.
    let shaken = outcome(&set(None, None, &[suite]), &client(None, None), "localhost").unwrap();
    assert!(shaken.suite.starts_with("TLS13_"), "{shaken:?}");
    let versions = outcome(&set(new, None, &[]), &client(None, old), "localhost");
    assert_eq!(
        versions.unwrap_err(),
        "server: tls: client offered only unsupported versions"
    );
    let absent = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA";
    let error = ServerSide::new(&set(None, old, &[absent]), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains(absent), "{error}");
    // The same names leave TLS 1.3 to those who have it.
    outcome(&set(None, None, &[absent]), &client(new, None), "localhost").unwrap();
}

#[test]
fn files_count_as_they_are_now() {
    let folder = Folder::new();
    let server = ServerSide::new(&folder.info("server", ""), &[]).unwrap();
    let client = ClientSide::new(&folder.info("", "ca.crt"), &[]).unwrap();
    let cert = || {
        let shaken = shake(server.config().unwrap(), client.config().unwrap(), "localhost");
        shaken.unwrap().server_cert
    };
    let first = cert();
    assert!(Arc::ptr_eq(&server.config().unwrap(), &server.config().unwrap()));
    fs::copy(folder.path("client.crt"), folder.path("server.crt")).unwrap();
    assert_eq!(
        server.config().unwrap_err().to_string(),
        "tls: private key does not match public key"
    );
    fs::copy(folder.path("client.key"), folder.path("server.key")).unwrap();
    assert_ne!(cert(), first);
    fs::remove_file(folder.path("server.key")).unwrap();
    let missing = server.config().unwrap_err();
    assert!(missing.is_missing_file(), "{missing}");
    assert_eq!(
        missing.to_string(),
        format!("open {}: no such file or directory", folder.path("server.key"))
    );
}

#[test]
fn what_is_wrong_with_files_is_said() {
    let folder = Folder::new();
    folder.write("empty.crt", "");
    folder.write("empty.key", "");
    fs::copy(folder.path("server.key"), folder.path("swapped.crt")).unwrap();
    fs::copy(folder.path("server.crt"), folder.path("swapped.key")).unwrap();
    fs::copy(folder.path("server.crt"), folder.path("no-key.crt")).unwrap();
    fs::copy(folder.path("server.crt"), folder.path("no-key.key")).unwrap();
    let error = |info: &Info| ServerSide::new(info, &[]).unwrap_err().to_string();
    for (pair, text) in [
        ("empty", "tls: failed to find any PEM data in certificate input"),
        (
            "swapped",
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
        ),
        (
            "no-key",
            "tls: found a certificate rather than a key in the PEM for the private key",
        ),
    ] {
        assert_eq!(error(&folder.info(pair, "")), text, "{pair}");
    }
    let half = Info {
        key_file: String::new(),
        ..folder.info("server", "")
    };
    let cert = folder.path("server.crt");
    assert_eq!(
        error(&half),
        format!("KeyFile and CertFile must both be present[key: , cert: {cert}]")
    );
    let half = Info {
        client_cert_file: "x".into(),
        ..folder.info("server", "")
    };
    assert_eq!(
        error(&half),
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: x]"
    );
    let missing = error(&folder.info("server", "nowhere.crt"));
    assert!(missing.ends_with("no such file or directory"), "{missing}");
    assert_eq!(
        error(&folder.info("server", "server.key")),
        "x509: malformed tbs certificate"
    );
}

/// A certificate that a program made for itself serves, and is made as was asked.
#[test]
fn self_made_certificates_serve() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let hosts = ["127.0.0.1", "localhost", "not a name", "localhost"].map(String::from);
    let made = tls::make_self_signed(&hosts, now, 2).unwrap();
    assert_eq!((made.not_after - now).as_secs(), 2 * 365 * 24 * 3600);
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    fs::write(Path::new(&path("cert")), &made.cert).unwrap();
    fs::write(Path::new(&path("key")), &made.key).unwrap();
    let server = Info {
        cert_file: path("cert"),
        key_file: path("key"),
        ..Info::default()
    };
    let client = Info {
        trusted_ca_file: path("cert"),
        ..Info::default()
    };
    for name in ["127.0.0.1", "localhost"] {
        outcome(&server, &client, name).unwrap();
    }
    let error = outcome(&server, &client, "10.0.0.1").unwrap_err();
    assert!(error.contains("x509: certificate is valid for"), "{error}");
}
