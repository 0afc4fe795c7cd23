//! Members that speak TLS with each other, ours and real etcd in one cluster: certificates of one authority, certificates
//! that each makes for itself, and one that is turned away.

use std::fs;

use conformance::group::Group;
use conformance::{Program, Rig, Stop, eventually};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

const MIXED: [Program; 3] = [Program::Go("3.7"), Program::Ours("3.7"), Program::Ours("3.7")];

/// Writes an authority and a pair that it has signed; the flags that name them.
fn keys(group: &Group<'_>, name: &str) -> Vec<String> {
    let path = |file: &str| group.homes[0].dir.join(format!("{name}-{file}"));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    // Members are servers and clients of each other.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &ca).expect("signed");
    fs::write(path("ca.crt"), ca.pem()).expect("written");
    fs::write(path("pair.crt"), cert.pem()).expect("written");
    fs::write(path("pair.key"), key.serialize_pem()).expect("written");
    vec![
        format!("--peer-trusted-ca-file={}", path("ca.crt").display()),
        format!("--peer-cert-file={}", path("pair.crt").display()),
        format!("--peer-key-file={}", path("pair.key").display()),
        "--peer-client-cert-auth".to_owned(),
    ]
}

fn lives(group: &Group<'_>) {
    for at in 0..group.homes.len() {
        group.put(at, &format!("through-{at}"));
    }
    group.agree(&[0, 1, 2]);
}

#[test]
fn members_know_each_other_by_certificates() {
    let Some(rig) = Rig::find("peer-tls") else { return };
    let mut group = Group::new(&rig, "peer-tls", &MIXED, &[]);
    group.scheme = "https";
    group.flags = keys(&group, "good");
    group.start_all();
    lives(&group);
    for at in 0..3 {
        group.make_leader(at);
        group.put(at, &format!("led-{at}"));
    }
    // One of another authority is let in by nobody, whichever program it meets.
    group.stop(2, Stop::Kill);
    let others = keys(&group, "other");
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    group.spawn(2, &others);
    eventually("both turn it away", || {
        let turned_away =
            |group: &mut Group<'_>, at: usize| group.server(at).log().contains("rejected connection");
        (turned_away(&mut group, 0) && turned_away(&mut group, 1)).then_some(())
    });
    group.put(0, "without it");
    assert!(!group.homes[2].healthy());
    group.restart(2, Stop::Kill);
    lives(&group);
    group.end();
}

#[test]
fn members_make_their_own_certificates() {
    let Some(rig) = Rig::find("peer-auto-tls") else {
        return;
    };
    let mut group = Group::new(&rig, "peer-auto-tls", &MIXED, &["--peer-auto-tls"]);
    group.scheme = "https";
    group.start_all();
    lives(&group);
    group.restart(1, Stop::Term);
    group.make_leader(1);
    lives(&group);
    group.end();
}
