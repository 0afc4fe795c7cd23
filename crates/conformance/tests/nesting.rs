//! Requests that one member of real etcd takes from a client and logs, and that no usual decoder of protobuf reads: txns
//! nested deep, and fields of wrong wire types. Every member applies them, and reads them again when it starts.

use conformance::group::Group;
use conformance::{Program, Question, Rig, Stop};

const TXN: &str = "etcdserverpb.KV/Txn";
const PUT: &str = "etcdserverpb.KV/Put";
const RANGE: &str = "etcdserverpb.KV/Range";

/// A txn that puts a key, or else would in txns that nest `depth` times: what reads its answer has bounds too.
fn nested(depth: usize, key: &str) -> String {
    let put = format!("success {{ request_put {{ key: '{key}' value: 'v' }} }}");
    let open = "failure { request_txn { ".repeat(depth);
    let close = "} } ".repeat(depth);
    format!("{put} {open} {put} {close}")
}

/// A put of the key `w`: its lease is a string, and its `prev_kv` a group.
const WRONG_WIRE: &str = "hex:0a01771201761a036162632324";

fn read(rig: &Rig, line: &'static str) {
    let (go, ours) = (Program::Go(line), Program::Ours(line));
    let mut group = Group::start(rig, &format!("nesting-{line}"), &[go, ours, go], &[]);
    for leader in [0, 1] {
        group.make_leader(leader);
        for depth in [10, 48, 60, 127] {
            let key = format!("{leader}-{depth}");
            let done = group.ask(0, TXN, &nested(depth, &key));
            assert!(done.is_some(), "{line} {key}");
            let found = group.ask(1, RANGE, &format!("key: '{key}'")).expect("a range");
            assert_eq!(found["count"], "1", "{line} {key}");
        }
        // What is nested deeper than there may be operations.
        let question = Question::new(TXN, &nested(129, "no"));
        let refused = rig.ask(&group.homes[0].endpoint(), &[question]).remove(0);
        assert_eq!(refused.message, "etcdserver: too many operations in txn request");
        // Up to 3.6 it is refused by the member that is asked.
        let question = Question::new(PUT, WRONG_WIRE);
        let answer = rig.ask(&group.homes[0].endpoint(), &[question]).remove(0);
        let expected = if line == "3.7" { "OK" } else { "Internal" };
        assert_eq!(answer.code, expected, "{line}: {answer:?}");
        assert_eq!(group.agree(&[0, 1, 2]), 3);
    }
    // All of it is in the log of ours, which is read from its start.
    group.restart(1, Stop::Kill);
    group.put(1, "after");
    assert_eq!(group.agree(&[0, 1, 2]), 3);
    group.end();
}

#[test]
fn what_members_of_etcd_log_is_read() {
    let Some(rig) = Rig::find("nesting") else {
        return;
    };
    let lines: &[&'static str] = if rig.all { &["3.7", "3.6", "3.5"] } else { &["3.7"] };
    for line in lines {
        read(&rig, line);
    }
}
