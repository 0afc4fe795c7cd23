//! The same raw calls to real etcd and to ours, of each line and in the same state: codes, messages and answers
//! must be the same, however odd the call.

use conformance::{Answer, Home, Program, Question, Rig, Stop, without};
use serde_json::{Value, json};

/// Differs between two runs of one program.
const CHANCE: &[&str] = &[
    "clusterId",
    "memberId",
    "cluster_id",
    "member_id",
    "raftTerm",
    "raft_term",
    "raftIndex",
    "raftAppliedIndex",
    "leader",
    "dbSize",
    "dbSizeInUse",
    "memberID",
];

/// Go's protobuf writes one space or two, and plain or unbreakable ones, so that nobody relies on
/// its words; and what the old JSON reader of 3.5 says of bad JSON is its own affair, but not that it
/// is bad.
fn plain(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Array(list) => list.iter_mut().for_each(plain),
        Value::Object(map) => {
            let of_etcd = |message: &Value| message.as_str().is_some_and(|m| m.starts_with("etcdserver"));
            // 3.5 says everything twice.
            let is_old = map.contains_key("error") && map.get("code") == Some(&json!(3));
            if is_old && map.get("message").is_some_and(|m| !of_etcd(m)) {
                map.insert("message".into(), json!("bad JSON"));
                map.insert("error".into(), json!("bad JSON"));
            }
            map.values_mut().for_each(plain);
        }
        _ => {}
    }
}

/// What real etcd 3.5 dies of.
const KILLS_3_5: &[&str] = &[
    "sort_order: 7",
    "sort_order: 8",
    "sort_order: 9",
    "sort_order: -1",
    "sort_target: 7",
    "alarm: 9",
];

/// Asks the same of both; gives what differs.
fn differing(name: &str, line: &'static str, questions: &[Question], chance: &[&str]) -> Vec<String> {
    let Some(rig) = Rig::find(name) else {
        return Vec::new();
    };
    let theirs = Home::new(&format!("{name}-{line}-go"));
    let ours = theirs.twin(&format!("{name}-{line}-ours"));
    let ask = |home: &Home, program| -> Vec<Answer> {
        let server = home.start(&rig, program, &[]);
        let mut answers = rig.ask(&home.endpoint(), questions);
        for (answer, question) in answers.iter_mut().zip(questions) {
            // Go walks a map for the one, and answers from two threads to the other.
            if question.method == "GET /readyz?verbose"
                || question
                    .request
                    .iter()
                    .any(|request| request.contains("progress_request"))
            {
                answer.answers.sort_by_key(ToString::to_string);
            }
            for value in &mut answer.answers {
                without(value, chance);
                plain(value);
            }
        }
        server.stop(Stop::Term);
        answers
    };
    let (expected, found) = (ask(&theirs, Program::Go(line)), ask(&ours, Program::Ours(line)));
    expected
        .iter()
        .zip(&found)
        .zip(questions)
        .filter(|((expected, found), _)| expected != found)
        .map(|((expected, found), question)| {
            let text = format!(
                "{} {:.200}\netcd: {expected:?}\nours: {found:?}",
                question.method,
                question.request.join(" | ")
            );
            text.chars().take(2000).collect()
        })
        .collect()
}

fn agree(name: &str, questions: &[Question], chance: &[&str]) {
    let all: Vec<String> = ["3.7", "3.6", "3.5"]
        .into_iter()
        .flat_map(|line| {
            let survived = |q: &&Question| {
                line != "3.5"
                    || !KILLS_3_5
                        .iter()
                        .any(|deadly| q.request.iter().any(|r| r.contains(deadly)))
            };
            let asked: Vec<Question> = questions.iter().filter(survived).cloned().collect();
            differing(name, line, &asked, chance)
                .into_iter()
                .map(move |text| format!("{line}: {text}"))
        })
        .collect();
    assert!(
        all.is_empty(),
        "{} of {} differ:\n{}",
        all.len(),
        3 * questions.len(),
        all.join("\n\n")
    );
}

fn questions(table: &[(&str, &str)]) -> Vec<Question> {
    table
        .iter()
        .map(|(method, request)| {
            let method = match method.split_once(' ') {
                Some(_) => (*method).to_string(),
                None => format!("etcdserverpb.{method}"),
            };
            Question::new(&method, request)
        })
        .collect()
}

const KV: &[(&str, &str)] = &[
    ("KV/Range", ""),
    ("KV/Range", "range_end: 'z'"),
    ("KV/Range", "key: '\\000' range_end: '\\000'"),
    ("KV/Range", "key: 'a' limit: -1"),
    ("KV/Range", "key: 'a' revision: 1"),
    ("KV/Range", "key: 'a' revision: 2"),
    ("KV/Range", "key: 'a' revision: 9223372036854775807"),
    ("KV/Range", "key: 'a' revision: -1"),
    ("KV/Range", "key: 'a' sort_order: 7"),
    ("KV/Range", "key: 'a' sort_target: 7"),
    ("KV/Range", "key: 'a' sort_order: -1"),
    ("KV/Put", ""),
    ("KV/Put", "value: 'x'"),
    ("KV/Put", "key: 'a' value: '1'"),
    ("KV/Put", "key: 'b' value: '2' prev_kv: true"),
    ("KV/Put", "key: 'a' value: '3' prev_kv: true"),
    ("KV/Put", "key: 'a' value: '3' ignore_value: true"),
    ("KV/Put", "key: 'a' ignore_value: true"),
    ("KV/Put", "key: 'nokey' ignore_value: true"),
    ("KV/Put", "key: 'a' lease: 5 ignore_lease: true"),
    ("KV/Put", "key: 'nokey' ignore_lease: true"),
    ("KV/Put", "key: 'a' ignore_lease: true value: '4'"),
    ("KV/Put", "key: 'a' lease: 404"),
    ("KV/Put", "key: 'a' lease: -1"),
    ("KV/Put", "key: 'c' value: ''"),
    ("KV/Put", "key: '\\000' value: 'zero'"),
    ("KV/Put", "key: '\\377\\377' value: 'high'"),
    ("KV/Range", "key: 'a' range_end: 'a'"),
    ("KV/Range", "key: 'b' range_end: 'a'"),
    ("KV/Range", "key: 'a' range_end: '\\000'"),
    ("KV/Range", "key: '\\377' range_end: '\\000'"),
    ("KV/Range", "key: 'a' range_end: 'z' limit: 1"),
    ("KV/Range", "key: 'a' range_end: 'z' limit: -5"),
    ("KV/Range", "key: 'a' range_end: 'z' limit: 1 sort_order: DESCEND"),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' limit: 1 sort_order: DESCEND sort_target: MOD",
    ),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' sort_target: VALUE sort_order: ASCEND",
    ),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' sort_target: VERSION sort_order: DESCEND",
    ),
    ("KV/Range", "key: 'a' range_end: 'z' sort_target: CREATE"),
    ("KV/Range", "key: 'a' range_end: 'z' sort_target: MOD"),
    ("KV/Range", "key: 'a' range_end: 'z' keys_only: true"),
    ("KV/Range", "key: 'a' range_end: 'z' count_only: true"),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' count_only: true keys_only: true limit: 1",
    ),
    ("KV/Range", "key: 'a' range_end: 'z' count_only: true limit: 1"),
    ("KV/Range", "key: 'a' range_end: 'z' min_mod_revision: 4"),
    ("KV/Range", "key: 'a' range_end: 'z' max_mod_revision: 4"),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' min_create_revision: 3 limit: 1",
    ),
    ("KV/Range", "key: 'a' range_end: 'z' max_create_revision: -3"),
    ("KV/Range", "key: 'a' range_end: 'z' min_mod_revision: 100"),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' min_mod_revision: 4 count_only: true",
    ),
    (
        "KV/Range",
        "key: 'a' range_end: 'z' serializable: true revision: 3",
    ),
    ("KV/Range", "key: 'a' revision: 100"),
    ("KV/Range", "key: 'a' revision: 100 serializable: true"),
    ("KV/RangeStream", ""),
    ("KV/RangeStream", "key: 'a' range_end: 'z'"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' limit: 2"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' sort_order: DESCEND"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' sort_target: MOD"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' sort_order: ASCEND"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' sort_order: 9"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' count_only: true"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' keys_only: true"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' min_mod_revision: 4"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' max_create_revision: 4"),
    ("KV/RangeStream", "key: 'a' range_end: 'z' revision: 100"),
    (
        "KV/RangeStream",
        "key: 'a' range_end: 'z' revision: 3 serializable: true",
    ),
    ("KV/RangeStream", "key: 'nokey'"),
    ("KV/DeleteRange", ""),
    ("KV/DeleteRange", "range_end: 'z'"),
    ("KV/DeleteRange", "key: 'nokey'"),
    ("KV/DeleteRange", "key: 'nokey' prev_kv: true"),
    ("KV/DeleteRange", "key: 'b' range_end: 'a'"),
    ("KV/DeleteRange", "key: 'b' prev_kv: true"),
    ("KV/DeleteRange", "key: 'x' range_end: '\\000' prev_kv: true"),
    ("KV/Txn", ""),
    ("KV/Txn", "compare: {}"),
    ("KV/Txn", "success: {}"),
    ("KV/Txn", "success: { request_put: {} }"),
    ("KV/Txn", "success: { request_range: {} }"),
    ("KV/Txn", "success: { request_delete_range: {} }"),
    ("KV/Txn", "success: { request_txn: {} }"),
    ("KV/Txn", "success: { request_txn: { compare: {} } }"),
    (
        "KV/Txn",
        "success: { request_put: { key: 'd' } } success: { request_put: { key: 'd' } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'd' } } success: { request_delete_range: { key: 'd' } }",
    ),
    (
        "KV/Txn",
        "success: { request_delete_range: { key: 'd' } } success: { request_put: { key: 'd' } }",
    ),
    (
        "KV/Txn",
        "success: { request_delete_range: { key: 'a' range_end: 'z' } } success: { request_put: { key: 'd' } }",
    ),
    (
        "KV/Txn",
        "success: { request_delete_range: { key: 'd' } } success: { request_delete_range: { key: 'd' } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'd' } } failure: { request_put: { key: 'd' } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'd' } } success: { request_txn: { success: { request_put: { key: 'd' } } } }",
    ),
    (
        "KV/Txn",
        "success: { request_txn: { success: { request_put: { key: 'd' } } failure: { request_put: { key: 'd' } } } }",
    ),
    (
        "KV/Txn",
        "success: { request_txn: { success: { request_put: { key: 'd' } } } } \
         success: { request_txn: { success: { request_put: { key: 'd' } } } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'e' value: '1' } } success: { request_range: { key: 'e' } } \
         success: { request_delete_range: { key: 'f' prev_kv: true } } success: { request_range: { key: 'a' range_end: 'z' } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'g' value: '1' } } success: { request_range: { key: 'g' keys_only: true } } \
         success: { request_range: { key: 'g' revision: 3 } }",
    ),
    (
        "KV/Txn",
        "success: { request_range: { key: 'a' revision: 1000 } }",
    ),
    ("KV/Txn", "success: { request_range: { key: 'a' revision: -4 } }"),
    ("KV/Txn", "success: { request_range: { key: 'a' sort_order: 8 } }"),
    ("KV/Txn", "success: { request_put: { key: 'a' lease: 404 } }"),
    (
        "KV/Txn",
        "success: { request_put: { key: 'ok' } } success: { request_put: { key: 'q' lease: 404 } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'nokey' ignore_value: true } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'nokey' ignore_lease: true } }",
    ),
    (
        "KV/Txn",
        "success: { request_put: { key: 'a' value: 'v' ignore_value: true } }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' result: EQUAL target: VERSION version: 1 } success: { request_range: { key: 'a' } }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' result: 9 target: VERSION version: 1 } success: { request_range: { key: 'a' } }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' result: EQUAL target: 9 version: 1 } success: { request_range: { key: 'a' } }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' result: EQUAL target: VALUE version: 1 }",
    ),
    ("KV/Txn", "compare: { key: 'a' result: EQUAL target: VALUE }"),
    (
        "KV/Txn",
        "compare: { key: 'a' result: GREATER target: VALUE value: '0' }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' result: LESS target: VALUE value: '' }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'nokey' result: EQUAL target: VALUE value: '' }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'nokey' result: NOT_EQUAL target: VALUE value: 'x' }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'nokey' result: EQUAL target: CREATE create_revision: 0 }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'nokey' result: LESS target: MOD mod_revision: 1 }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'nokey' result: EQUAL target: LEASE lease: 0 }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' result: EQUAL target: LEASE lease: 0 }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' range_end: 'z' result: GREATER target: CREATE create_revision: 0 }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'a' range_end: 'z' result: GREATER target: VALUE value: '1' }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'x' range_end: 'z' result: EQUAL target: VALUE value: '1' }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'x' range_end: 'z' result: NOT_EQUAL target: VERSION version: 0 }",
    ),
    (
        "KV/Txn",
        "compare: { key: 'x' range_end: '\\000' result: EQUAL target: VERSION version: 0 }",
    ),
    ("KV/Compact", ""),
    ("KV/Compact", "revision: -1"),
    ("KV/Compact", "revision: 1000"),
    ("KV/Compact", "revision: 4"),
    ("KV/Compact", "revision: 4"),
    ("KV/Compact", "revision: 3 physical: true"),
    ("KV/Compact", "revision: 5 physical: true"),
    ("KV/Range", "key: 'a' revision: 4"),
    ("KV/Range", "key: 'a' revision: 5"),
    ("KV/RangeStream", "key: 'a' revision: 4"),
    ("KV/Txn", "success: { request_range: { key: 'a' revision: 4 } }"),
    (
        "KV/Txn",
        "success: { request_put: { key: 'a' } } success: { request_range: { key: 'a' revision: 4 } }",
    ),
    ("KV/Nope", ""),
    ("Nope/Range", ""),
];

#[test]
fn calls_of_kv() {
    let mut asked = questions(KV);
    let many = |n: usize| {
        (0..n)
            .map(|n| format!("success: {{ request_put: {{ key: 'many{n}' }} }} "))
            .collect::<String>()
    };
    let compares = |n: usize| {
        (0..n)
            .map(|n| format!("compare: {{ key: 'many{n}' version: 0 }} "))
            .collect::<String>()
    };
    let big = |bytes: usize| format!("key: 'big' value: '{}'", "v".repeat(bytes));
    for text in [
        many(128),
        many(129),
        compares(128),
        compares(129),
        format!("{} {}", many(128), many(1).replace("success", "failure")),
        format!("success: {{ request_txn: {{ {} }} }}", many(129)),
        format!("success: {{ request_txn: {{ {} }} }}", compares(129)),
        // All of 129 operations, but none of them has a key: which is told first?
        "success: { request_put: {} } ".repeat(129),
        "compare: {} ".repeat(129),
    ] {
        asked.push(Question::new("etcdserverpb.KV/Txn", &text));
    }
    for bytes in [1_000_000, 1_572_800, 1_572_864, 1_600_000, 2_000_000, 2_200_000] {
        asked.push(Question::new("etcdserverpb.KV/Put", &big(bytes)));
    }
    agree("calls-kv", &asked, CHANCE);
}

const LEASES: &[(&str, &str)] = &[
    ("Lease/LeaseGrant", "ID: 1"),
    ("Lease/LeaseGrant", "ID: 1 TTL: 0"),
    ("Lease/LeaseGrant", "ID: 1 TTL: -5"),
    ("Lease/LeaseGrant", "ID: 2 TTL: 9000000000"),
    ("Lease/LeaseGrant", "ID: 2 TTL: 9000000001"),
    ("Lease/LeaseGrant", "ID: 3 TTL: 9223372036854775807"),
    ("Lease/LeaseGrant", "ID: -3 TTL: 100"),
    ("Lease/LeaseGrant", "ID: 4 TTL: 100"),
    ("Lease/LeaseGrant", "ID: 4 TTL: 100"),
    ("Lease/LeaseGrant", "ID: 5 TTL: 1"),
    ("Lease/LeaseRevoke", ""),
    ("Lease/LeaseRevoke", "ID: 404"),
    ("Lease/LeaseRevoke", "ID: -1"),
    ("Lease/LeaseTimeToLive", ""),
    ("Lease/LeaseTimeToLive", "ID: 404"),
    ("Lease/LeaseTimeToLive", "ID: 404 keys: true"),
    ("Lease/LeaseTimeToLive", "ID: -3"),
    ("KV/Put", "key: 'l' lease: 4"),
    ("KV/Put", "key: 'l2' lease: 4"),
    ("KV/Put", "key: 'l' ignore_lease: true value: 'x'"),
    ("KV/Range", "key: 'l' range_end: 'm'"),
    (
        "KV/Txn",
        "compare: { key: 'l' target: LEASE lease: 4 } success: { request_put: { key: 'm' lease: 4 } }",
    ),
    ("KV/Put", "key: 'm'"),
    ("KV/Put", "key: 'neg' lease: -3"),
    ("Lease/LeaseRevoke", "ID: 4"),
    ("Lease/LeaseRevoke", "ID: 4"),
    ("KV/Range", "key: 'l' range_end: 'z'"),
    ("Lease/LeaseRevoke", "ID: -3"),
    ("KV/Range", "key: 'l' range_end: 'z'"),
];

#[test]
fn calls_of_leases() {
    let mut asked = questions(LEASES);
    for requests in [
        vec!["ID: 404"],
        vec![""],
        vec!["ID: -1"],
        vec!["ID: 2", "ID: 404", "ID: 2"],
    ] {
        asked.push(Question {
            method: "etcdserverpb.Lease/LeaseKeepAlive".into(),
            answers: requests.len(),
            request: requests.into_iter().map(String::from).collect(),
            wait_ms: 0,
        });
    }
    let chance = [CHANCE, &["TTL"][..]].concat();
    // A TTL that is running is compared by its granted value alone.
    agree("calls-leases", &asked, &chance);
}

/// The messages that a watch stream is sent, and how many answers are awaited.
const WATCHES: &[(&[&str], usize)] = &[
    (&["create_request: {}"], 1),
    (&["create_request: { key: 'w' }"], 1),
    (&["create_request: { key: 'w' start_revision: -7 }"], 1),
    (&["create_request: { key: 'w' start_revision: 1 }"], 2),
    (&["create_request: { key: 'w' start_revision: 2 }"], 2),
    (&["create_request: { key: 'w' start_revision: 4 }"], 2),
    (
        &["create_request: { key: 'w' start_revision: 4 prev_kv: true }"],
        2,
    ),
    (
        &["create_request: { key: 'w' start_revision: 4 filters: NOPUT }"],
        2,
    ),
    (
        &["create_request: { key: 'w' start_revision: 4 filters: NODELETE }"],
        2,
    ),
    (&["create_request: { key: 'w' start_revision: 4 filters: 7 }"], 2),
    (
        &["create_request: { key: 'w' start_revision: 4 range_end: '\\000' }"],
        2,
    ),
    (
        &["create_request: { key: 'w' range_end: 'a' start_revision: 4 }"],
        1,
    ),
    (
        &["create_request: { key: 'w' range_end: 'w' start_revision: 4 }"],
        1,
    ),
    (&["create_request: { range_end: '\\000' start_revision: 4 }"], 2),
    (&["create_request: { key: 'w' start_revision: 1000000 }"], 1),
    (
        &[
            "create_request: { key: 'w' watch_id: 5 }",
            "create_request: { key: 'w' watch_id: 5 }",
        ],
        2,
    ),
    (&["create_request: { key: 'w' watch_id: -5 }"], 1),
    (
        &[
            "create_request: { key: 'w' watch_id: 1 }",
            "create_request: { key: 'w' }",
            "create_request: { key: 'w' }",
            "create_request: { key: 'w' }",
        ],
        4,
    ),
    (
        &["create_request: { key: 'w' }", "cancel_request: { watch_id: 0 }"],
        2,
    ),
    (
        &[
            "create_request: { key: 'w' watch_id: 3 }",
            "cancel_request: { watch_id: 3 }",
            "create_request: { key: 'w' watch_id: 3 }",
        ],
        3,
    ),
    (
        &["cancel_request: { watch_id: 9 }", "create_request: { key: 'w' }"],
        1,
    ),
    (&["", "create_request: { key: 'w' }"], 1),
    // No watch, no progress: the first answer is to the second message.
    (&["progress_request: {}", "create_request: { key: 'w' }"], 1),
    (&["create_request: { key: 'x' }", "progress_request: {}"], 2),
    (
        &["create_request: { key: 'w' start_revision: 4 fragment: true }"],
        2,
    ),
];

#[test]
fn calls_of_watches() {
    let mut asked = questions(&[
        ("KV/Put", "key: 'w' value: '1'"),
        ("KV/Put", "key: 'w' value: '2'"),
        ("KV/Put", "key: 'w' value: '3'"),
        ("KV/DeleteRange", "key: 'w'"),
        (
            "KV/Txn",
            "success: { request_put: { key: 'w' value: '5' } } success: { request_put: { key: 'w2' value: '5' } }",
        ),
        ("KV/Compact", "revision: 3 physical: true"),
    ]);
    for (requests, answers) in WATCHES {
        asked.push(Question {
            method: "etcdserverpb.Watch/Watch".into(),
            request: requests.iter().map(ToString::to_string).collect(),
            answers: *answers,
            wait_ms: 0,
        });
    }
    agree("calls-watches", &asked, CHANCE);
}

const MAINTENANCE: &[(&str, &str)] = &[
    ("KV/Put", "key: 'a' value: '1'"),
    ("KV/Put", "key: 'a' value: '2'"),
    ("KV/DeleteRange", "key: 'a'"),
    ("KV/Put", "key: 'a' value: '3'"),
    ("Maintenance/Status", ""),
    ("Maintenance/HashKV", ""),
    ("Maintenance/HashKV", "revision: -1"),
    ("Maintenance/HashKV", "revision: 1"),
    ("Maintenance/HashKV", "revision: 3"),
    ("Maintenance/HashKV", "revision: 1000"),
    ("KV/Compact", "revision: 4 physical: true"),
    ("Maintenance/HashKV", "revision: 3"),
    ("Maintenance/HashKV", "revision: 4"),
    ("Maintenance/HashKV", ""),
    ("Maintenance/Alarm", ""),
    ("Maintenance/Alarm", "action: GET alarm: NOSPACE"),
    ("Maintenance/Alarm", "action: ACTIVATE memberID: 77 alarm: 9"),
    ("Maintenance/Alarm", "action: ACTIVATE memberID: 77"),
    ("Maintenance/Alarm", ""),
    ("Maintenance/Alarm", "action: DEACTIVATE memberID: 77"),
    ("Maintenance/Alarm", "action: DEACTIVATE memberID: 77 alarm: 9"),
    (
        "Maintenance/Alarm",
        "action: DEACTIVATE memberID: 78 alarm: NOSPACE",
    ),
    (
        "Maintenance/Alarm",
        "action: ACTIVATE memberID: 77 alarm: NOSPACE",
    ),
    (
        "Maintenance/Alarm",
        "action: ACTIVATE memberID: 77 alarm: NOSPACE",
    ),
    ("Maintenance/Alarm", ""),
    ("KV/Put", "key: 'full'"),
    ("Maintenance/Status", ""),
    ("GET /health", ""),
    ("GET /livez", ""),
    ("GET /readyz", ""),
    ("GET /readyz?verbose", ""),
    (
        "Maintenance/Alarm",
        "action: DEACTIVATE memberID: 77 alarm: NOSPACE",
    ),
    (
        "Maintenance/Alarm",
        "action: ACTIVATE memberID: 77 alarm: CORRUPT",
    ),
    ("KV/Put", "key: 'corrupt'"),
    ("KV/Range", "key: 'a'"),
    ("Maintenance/Status", ""),
    ("GET /health", ""),
    (
        "Maintenance/Alarm",
        "action: DEACTIVATE memberID: 77 alarm: CORRUPT",
    ),
    ("KV/Put", "key: 'well'"),
    ("Maintenance/MoveLeader", ""),
    ("Maintenance/MoveLeader", "targetID: 77"),
    ("Maintenance/Defragment", ""),
    ("Maintenance/Downgrade", ""),
    ("Maintenance/Downgrade", "action: 7 version: '3.6.0'"),
    ("Maintenance/Downgrade", "version: '3.6.0'"),
    ("Maintenance/Downgrade", "version: '3.5.0'"),
    ("Maintenance/Downgrade", "version: '4.0.0'"),
    ("Maintenance/Downgrade", "version: 'x.y'"),
    ("Maintenance/Downgrade", "action: CANCEL version: '3.6.0'"),
    ("Maintenance/Nope", ""),
    ("Cluster/MemberList", ""),
    ("Cluster/MemberList", "linearizable: true"),
    ("Auth/AuthStatus", ""),
    ("KV/Range", "key: 'a' range_end: 'z'"),
    ("GET /version", ""),
    ("GET /nope", ""),
    ("GET /health?serializable=true", ""),
    ("POST /health", ""),
    ("POST /version", ""),
];

#[test]
fn calls_of_maintenance() {
    let mut asked = questions(MAINTENANCE);
    for service in ["", "service: ''", "service: 'etcdserverpb.KV'", "service: 'nope'"] {
        asked.push(Question::new("grpc.health.v1.Health/Check", service));
    }
    agree("calls-maintenance", &asked, CHANCE);
}

/// The gateway's routes of this release, and a good body for each.
const ROUTES: &[(&str, &str)] = &[
    (
        "kv/put",
        "{\"key\": \"YQ==\", \"value\": \"MQ==\", \"prev_kv\": true}",
    ),
    ("kv/range", "{\"key\": \"YQ==\"}"),
    (
        "kv/txn",
        "{\"compare\": [{\"key\": \"YQ==\", \"target\": \"VERSION\", \"version\": \"1\"}], \"success\": [{\"requestPut\": {\"key\": \"Yg==\"}}, {\"request_range\": {\"key\": \"Yg==\"}}]}",
    ),
    ("kv/deleterange", "{\"key\": \"Yg==\", \"prev_kv\": true}"),
    ("kv/compaction", "{\"revision\": \"2\"}"),
    ("lease/grant", "{\"ID\": \"7\", \"TTL\": 100}"),
    ("lease/timetolive", "{\"ID\": 7, \"keys\": true}"),
    ("kv/lease/timetolive", "{\"ID\": 7}"),
    ("lease/leases", "{}"),
    ("kv/lease/leases", "{}"),
    ("lease/keepalive", "{\"ID\": 7}"),
    ("lease/revoke", "{\"ID\": 7}"),
    ("kv/lease/revoke", "{\"ID\": 7}"),
    ("cluster/member/list", "{}"),
    ("maintenance/alarm", "{\"action\": \"GET\"}"),
    ("maintenance/status", "{}"),
    ("maintenance/defragment", "{}"),
    ("maintenance/hashkv", "{\"revision\": \"3\"}"),
    ("maintenance/transfer-leadership", "{\"targetID\": \"77\"}"),
    (
        "maintenance/downgrade",
        "{\"action\": \"VALIDATE\", \"version\": \"3.6.0\"}",
    ),
    ("auth/status", "{}"),
    ("lock/unlock", "{\"key\": \"YQ==\"}"),
    ("election/leader", "{\"name\": \"YQ==\"}"),
    (
        "election/proclaim",
        "{\"leader\": {\"key\": \"YQ==\", \"rev\": \"1\", \"lease\": -1}}",
    ),
    (
        "election/resign",
        "{\"leader\": {\"key\": \"YQ==\", \"rev\": 1, \"lease\": \"-1\"}}",
    ),
];

/// Bodies that are wrong, or odd, for any route.
const BODIES: &[&str] = &[
    "",
    "{",
    "[]",
    "null",
    "\"text\"",
    "{} {}",
    "{} x",
    "{\"nope\": 1}",
    "{\"key\": 5}",
    "{\"key\": \"not base64!\"}",
    "{\"revision\": \"x\"}",
    "{\"revision\": 1.5}",
    "{\"ID\": \"x\"}",
    "{\"action\": \"NOPE\"}",
    "{\"action\": 1}",
    "{\"key\": \"\", \"key\": \"YQ==\"}",
];

#[test]
fn calls_of_the_gateway() {
    let mut asked = Vec::new();
    for (route, good) in ROUTES {
        asked.push(Question::new(&format!("POST /v3/{route}"), good));
        asked.push(Question::new(&format!("GET /v3/{route}"), ""));
        asked.push(Question::new(&format!("PUT /v3/{route}"), good));
    }
    for path in [
        "/v3/",
        "/v3/nope",
        "/v3/kv/range/",
        "/v3beta/kv/range",
        "/v3alpha/kv/range",
    ] {
        asked.push(Question::new(&format!("POST {path}"), "{}"));
    }
    for (key, limit) in [("YQ==", "\"1\""), ("YQ", "1"), ("YQ==", "1e0"), ("_-8=", "\"1\"")] {
        asked.push(Question::new(
            "POST /v3/kv/range",
            &format!("{{\"key\": \"{key}\", \"range_end\": \"AA==\", \"limit\": {limit}, \"sort_order\": \"DESCEND\"}}"),
        ));
    }
    for (body, answers) in [
        ("{\"create_request\": {\"key\": \"YQ==\"}}", 1),
        (
            "{\"create_request\": {\"key\": \"YQ==\", \"start_revision\": \"1\"}}",
            2,
        ),
        (
            "{\"create_request\": {\"key\": \"YQ==\", \"start_revision\": \"3\"}}",
            1,
        ),
    ] {
        asked.push(Question {
            answers,
            ..Question::new("POST /v3/watch", body)
        });
    }
    let chance = [CHANCE, &["TTL", "hash", "ID"][..]].concat();
    agree("calls-gateway", &asked, &chance);
}

#[test]
fn odd_bodies_at_the_gateway() {
    let asked: Vec<Question> = BODIES
        .iter()
        .flat_map(|body| {
            // Real etcd answers 200 and nothing where the first message of a stream cannot be read, or
            // does not answer at all; ours says what is wrong.
            ROUTES
                .iter()
                .filter(|(route, _)| *route != "lease/keepalive")
                .map(move |(route, _)| Question::new(&format!("POST /v3/{route}"), body))
        })
        .collect();
    // What is wrongly taken is told once, not again by every answer after it.
    let chance = [
        CHANCE,
        &[
            "TTL",
            "hash",
            "ID",
            "revision",
            "leases",
            "count",
            "compact_revision",
        ][..],
    ]
    .concat();
    agree("bodies-gateway", &asked, &chance);
}

/// Values of fields of any type, good and bad.
const VALUES: &[&str] = &[
    "1",
    r#""1""#,
    "-1",
    "1.0",
    "1e0",
    r#""1e0""#,
    "100e-2",
    "1.5",
    r#"" 1""#,
    r#""1 ""#,
    r#""1 2""#,
    "01",
    r#""01""#,
    r#""""#,
    "null",
    "[null]",
    "true",
    r#""true""#,
    "[]",
    "{}",
    "[{}]",
    r#""YQ==""#,
    r#""YQ""#,
    r#""YQ=""#,
    r#""_-8=""#,
    r#""Y\nQ==""#,
    r#""\u0059Q==""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\udc00\ud83d""#,
    r#""\x""#,
    r#""\u12""#,
    "\"\t\"",
    r#""DESCEND""#,
    r#""NOPE""#,
    r#""2""#,
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1e19",
    "nul",
    "tru",
    "+1",
    ".5",
    "1.",
    "1e",
    "-",
    "12a",
    "'a'",
    r#""<>&""#,
];

/// How a field and its value may be written, well and badly.
const SHAPES: &[&str] = &[
    r#"{"F":V}"#,
    "{\n\t\"F\"\n:V}",
    r#"{"F":V,}"#,
    r#"{"F":V"#,
    r#"{"F":V}x"#,
    r#"{"F":V} {"F":5}"#,
    r#"{"nope":{"a":[V]},"F":V}"#,
    r#"{"F":V,"F":V}"#,
    "{F:V}",
    r#"{"F"V}"#,
    r#"[{"F":V}]"#,
    "V",
    r#"{"F":V}}"#,
    r#"{"F":V "x":1}"#,
    "{\"\u{e4}\":1,\"F\":V}",
];

/// Values for fields of each type, in every way to write them: what is wrong is told with its place. Fields
/// are those that a call answers the same whatever was put before.
#[test]
fn odd_values_at_the_gateway() {
    let mut asked = Vec::new();
    for (route, field) in [
        ("kv/range", "key"),
        ("kv/range", "sortOrder"),
        ("kv/range", "min_mod_revision"),
        ("kv/range", "count_only"),
        ("kv/txn", "success"),
        ("maintenance/downgrade", "version"),
        ("lock/unlock", "key"),
        ("election/resign", "leader"),
    ] {
        for value in VALUES {
            let body = format!("{{\"{field}\":{value}}}");
            asked.push(Question::new(&format!("POST /v3/{route}"), &body));
        }
    }
    for shape in SHAPES {
        for value in ["1", r#""YQ==""#, "null", "{}", r#""\ud83dx""#, "tru"] {
            let body = shape.replace('F', "key").replace('V', value);
            asked.push(Question::new("POST /v3/kv/range", &body));
        }
    }
    for body in [
        r#"{"success":[{"request_put":{},"request_range":{}}]}"#,
        r#"{"success":[{"request_put":null,"request_range":{"key":"YQ=="}}]}"#,
        r#"{"success":[{"requestPut":{"key":"YQ==","key":"YQ=="}}]}"#,
        "{\"success\":[\n{\"request_range\":{\n  \"key\":\"YQ==\",\n  \"limit\":{}}}]}",
        r#"{"compare":[{"key":"YQ==","version":"1","value":"YQ=="}]}"#,
    ] {
        asked.push(Question::new("POST /v3/kv/txn", body));
    }
    let chance = [CHANCE, &["revision"][..]].concat();
    agree("values-gateway", &asked, &chance);
}
