//! Requests as text for the log, as etcd prints them: without the bytes of values
//! (etcd: api/etcdserverpb/raft_internal_stringer.go). Reads what is given and nothing else.

use std::fmt::Write;

use api::etcdserverpb as pb;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::request_op::Request;
use prost::Message;

/// Bytes of a text; what is longer is cut.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// An entry of the log.
pub fn entry(data: &[u8]) -> String {
    let Ok(request) = pb::InternalRaftRequest::decode(data) else {
        return String::new();
    };
    let header = request.header.unwrap_or_default();
    let mut out = String::from("header:<");
    number(&mut out, "ID", header.id);
    text(&mut out, "username", &header.username);
    number(&mut out, "auth_revision", header.auth_revision);
    trim(&mut out);
    out.push_str("> ");
    if let Some(grant) = &request.lease_grant {
        let _ = write!(out, "lease_grant:<ttl:{}-second id:{:016x}>", grant.ttl, grant.id);
    } else if let Some(revoke) = &request.lease_revoke {
        let _ = write!(out, "lease_revoke:<id:{:016x}>", revoke.id);
    } else if let Some(request) = &request.put {
        let _ = write!(out, "put:<{}>", put(request));
    } else if let Some(request) = &request.txn {
        let _ = write!(out, "txn:<{}>", txn(request));
    } else if let Some(request) = &request.range {
        let _ = write!(out, "range:{{{}}}", range(request));
    } else if let Some(request) = &request.delete_range {
        let _ = write!(out, "delete_range:{{{}}}", delete_range(request));
    } else if let Some(request) = &request.compaction {
        let mut inner = String::new();
        number(&mut inner, "revision", request.revision);
        flag(&mut inner, "physical", request.physical);
        trim(&mut inner);
        let _ = write!(out, "compaction:{{{inner}}}");
    } else if let Some(request) = &request.alarm {
        let mut inner = String::new();
        number(&mut inner, "action", request.action);
        number(&mut inner, "memberID", request.member_id);
        number(&mut inner, "alarm", request.alarm);
        trim(&mut inner);
        let _ = write!(out, "alarm:{{{inner}}}");
    }
    cut(out)
}

/// A put, with the size of its value.
pub fn put(request: &pb::PutRequest) -> String {
    let mut out = String::new();
    bytes(&mut out, "key", &request.key);
    number(&mut out, "value_size", request.value.len());
    number(&mut out, "lease", request.lease);
    flag(&mut out, "prev_kv", request.prev_kv);
    flag(&mut out, "ignore_value", request.ignore_value);
    flag(&mut out, "ignore_lease", request.ignore_lease);
    cut(out)
}

/// A range.
pub fn range(request: &pb::RangeRequest) -> String {
    let mut out = String::new();
    bytes(&mut out, "key", &request.key);
    bytes(&mut out, "range_end", &request.range_end);
    number(&mut out, "limit", request.limit);
    number(&mut out, "revision", request.revision);
    let order = SortOrder::try_from(request.sort_order).map_or("", |order| order.as_str_name());
    named(&mut out, "sort_order", request.sort_order, order);
    let target = SortTarget::try_from(request.sort_target).map_or("", |target| target.as_str_name());
    named(&mut out, "sort_target", request.sort_target, target);
    flag(&mut out, "serializable", request.serializable);
    flag(&mut out, "keys_only", request.keys_only);
    flag(&mut out, "count_only", request.count_only);
    number(&mut out, "min_mod_revision", request.min_mod_revision);
    number(&mut out, "max_mod_revision", request.max_mod_revision);
    number(&mut out, "min_create_revision", request.min_create_revision);
    number(&mut out, "max_create_revision", request.max_create_revision);
    trim(&mut out);
    cut(out)
}

/// A deletion.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> String {
    let mut out = String::new();
    bytes(&mut out, "key", &request.key);
    bytes(&mut out, "range_end", &request.range_end);
    flag(&mut out, "prev_kv", request.prev_kv);
    trim(&mut out);
    cut(out)
}

/// A transaction, with the sizes of its values.
pub fn txn(request: &pb::TxnRequest) -> String {
    let list = |out: &mut String, items: &mut dyn Iterator<Item = String>| {
        for (at, item) in items.enumerate() {
            if out.len() > TEXT_BYTES_MAX {
                return;
            }
            if at > 0 {
                out.push(' ');
            }
            out.push_str(&item);
        }
    };
    let mut out = String::from("compare:<");
    list(&mut out, &mut request.compare.iter().map(compare));
    out.push_str("> success:<");
    list(&mut out, &mut request.success.iter().map(op));
    out.push_str("> failure:<");
    list(&mut out, &mut request.failure.iter().map(op));
    out.push('>');
    cut(out)
}

fn op(op: &pb::RequestOp) -> String {
    match &op.request {
        Some(Request::RequestRange(request)) => format!("request_range:{{{}}}", range(request)),
        Some(Request::RequestPut(request)) => format!("request_put:<{}>", put(request)),
        Some(Request::RequestDeleteRange(request)) => {
            format!("request_delete_range:{{{}}}", delete_range(request))
        }
        Some(Request::RequestTxn(request)) => format!("request_txn:<{}>", txn(request)),
        None => String::new(),
    }
}

fn compare(compare: &pb::Compare) -> String {
    let mut out = String::new();
    let result = CompareResult::try_from(compare.result).map_or("", |result| result.as_str_name());
    named(&mut out, "result", compare.result, result);
    let target = CompareTarget::try_from(compare.target).map_or("", |target| target.as_str_name());
    named(&mut out, "target", compare.target, target);
    bytes(&mut out, "key", &compare.key);
    match &compare.target_union {
        Some(TargetUnion::Value(value)) => {
            number(&mut out, "value_size", value.len());
            bytes(&mut out, "range_end", &compare.range_end);
            return out;
        }
        // One of a union is printed also where it is 0.
        Some(TargetUnion::Version(number)) => drop(write!(out, "version:{number} ")),
        Some(TargetUnion::CreateRevision(number)) => drop(write!(out, "create_revision:{number} ")),
        Some(TargetUnion::ModRevision(number)) => drop(write!(out, "mod_revision:{number} ")),
        Some(TargetUnion::Lease(number)) => drop(write!(out, "lease:{number} ")),
        None => {}
    }
    bytes(&mut out, "range_end", &compare.range_end);
    trim(&mut out);
    out
}

fn number<N: ToString + Default + PartialEq>(out: &mut String, name: &str, value: N) {
    if value != N::default() {
        let _ = write!(out, "{name}:{} ", value.to_string());
    }
}

fn named(out: &mut String, name: &str, value: i32, value_name: &str) {
    match (value, value_name) {
        (0, _) => {}
        (value, "") => drop(write!(out, "{name}:{value} ")),
        (_, value_name) => drop(write!(out, "{name}:{value_name} ")),
    }
}

fn flag(out: &mut String, name: &str, value: bool) {
    if value {
        let _ = write!(out, "{name}:true ");
    }
}

fn text(out: &mut String, name: &str, value: &str) {
    bytes(out, name, value.as_bytes());
}

/// Bytes as protobuf's text format has them.
fn bytes(out: &mut String, name: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    let _ = write!(out, "{name}:\"");
    for byte in &value[..value.len().min(TEXT_BYTES_MAX)] {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => drop(write!(out, "\\{byte:03o}")),
        }
    }
    out.push_str("\" ");
}

fn trim(out: &mut String) {
    if out.ends_with(' ') {
        out.pop();
    }
}

fn cut(mut out: String) -> String {
    if out.len() > TEXT_BYTES_MAX {
        let mut at = TEXT_BYTES_MAX;
        while !out.is_char_boundary(at) {
            at -= 1;
        }
        out.truncate(at);
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2021-28235.
    #[test]
    fn passwords_are_not_printed() {
        let request = pb::InternalRaftRequest {
            auth_user_add: Some(pb::AuthUserAddRequest {
                name: "a".into(),
                password: "secret".into(),
                hashed_password: "secret".into(),
                ..Default::default()
            }),
            authenticate: Some(pb::InternalAuthenticateRequest {
                password: "secret".into(),
                simple_token: "secret".into(),
                ..Default::default()
            }),
            auth_user_change_password: Some(pb::AuthUserChangePasswordRequest {
                password: "secret".into(),
                hashed_password: "secret".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = entry(&request.encode_to_vec());
        assert!(!text.contains("secret"), "{text}");
    }

    /// The first two were logged by etcd 3.7.1.
    #[test]
    fn entries_read_as_etcd_prints_them() {
        let header = Some(pb::RequestHeader {
            id: 1_353_509_803_769_337_624,
            ..Default::default()
        });
        let put = pb::PutRequest {
            key: "k1".into(),
            value: "v".into(),
            lease: 4660,
            ..Default::default()
        };
        let request = pb::InternalRaftRequest {
            header: header.clone(),
            put: Some(put.clone()),
            ..Default::default()
        };
        assert_eq!(
            entry(&request.encode_to_vec()),
            "header:<ID:1353509803769337624> put:<key:\"k1\" value_size:1 lease:4660 >"
        );
        let txn = pb::TxnRequest {
            compare: vec![pb::Compare {
                result: 1,
                target: 2,
                key: "k\n\u{1}".into(),
                target_union: Some(TargetUnion::ModRevision(0)),
                ..Default::default()
            }],
            success: vec![pb::RequestOp {
                request: Some(Request::RequestPut(put)),
            }],
            failure: vec![pb::RequestOp {
                request: Some(Request::RequestRange(pb::RangeRequest {
                    key: "a".into(),
                    sort_order: 1,
                    ..Default::default()
                })),
            }],
        };
        let request = pb::InternalRaftRequest {
            header,
            txn: Some(txn),
            ..Default::default()
        };
        assert_eq!(
            entry(&request.encode_to_vec()),
            "header:<ID:1353509803769337624> txn:<compare:<result:GREATER target:MOD key:\"k\\n\\001\" \
             mod_revision:0> success:<request_put:<key:\"k1\" value_size:1 lease:4660 >> \
             failure:<request_range:{key:\"a\" sort_order:ASCEND}>>"
        );
        assert_eq!(entry(b"\xff"), "");
    }

    #[test]
    fn long_texts_are_cut() {
        let request = pb::RangeRequest {
            key: vec![b'x'; 1 << 20].into(),
            ..Default::default()
        };
        assert!(range(&request).len() <= TEXT_BYTES_MAX + 3);
    }
}
