//! Messages as JSON and back, by grpc-gateway's conventions with etcd's options: names as in the
//! .proto files (the camel-case ones are read as well), 64-bit numbers as texts, bytes in base64,
//! defaults left out, unknown fields passed over.

use std::sync::LazyLock;

use api::error::{Code, Status};
use api::version::Line;
use bytes::Bytes;
use http::StatusCode;
use member::frontend::Method;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::{Value, json};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(api::DESCRIPTORS).expect("the build has compiled the descriptors")
});

fn descriptor(method: Method) -> MethodDescriptor {
    let (service, name) = crate::grpc::labels(method);
    let service = POOL.get_service_by_name(service);
    let mut methods = service
        .iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let found = methods.find(|method| method.name() == name);
    found.expect("methods are those of the descriptors: a test of the front holds it")
}

/// The requests in a body: JSON values one after the other, none for an empty body.
pub fn requests(method: Method, body: &[u8]) -> Result<Vec<Bytes>, Status> {
    let invalid = |error: &dyn std::fmt::Display| Status::with(Code::InvalidArgument, error.to_string());
    let mut requests = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let value = value.map_err(|error| invalid(&error))?;
        requests.push(decode(&descriptor(method).input(), value).map_err(|error| invalid(&error))?);
    }
    Ok(requests)
}

fn decode(descriptor: &MessageDescriptor, value: Value) -> Result<Bytes, serde_json::Error> {
    // A null in the place of a message is an empty one, as Go has it.
    let value = if value.is_null() { json!({}) } else { value };
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options)?;
    Ok(prost::Message::encode_to_vec(&message).into())
}

/// An encoded answer as JSON.
pub fn answer(method: Method, message: Bytes) -> Result<Value, Status> {
    let internal = |error: &dyn std::fmt::Display| Status::with(Code::Internal, error.to_string());
    let message =
        DynamicMessage::decode(descriptor(method).output(), message).map_err(|error| internal(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| internal(&error))
}

/// An error as JSON: grpc-gateway v2, which 3.6 and 3.7 use, and v1 of 3.5.
pub fn error(status: &Status, line: Line) -> Value {
    let (code, message) = (status.code.number(), &*status.message);
    match line {
        Line::V3_5 => json!({ "error": message, "code": code, "message": message }),
        Line::V3_6 | Line::V3_7 => json!({ "code": code, "message": message }),
    }
}

/// An error in the middle of a stream.
pub fn stream_error(status: &Status, line: Line) -> Value {
    let (code, message) = (status.code.number(), &*status.message);
    match line {
        Line::V3_5 => {
            let http = http_status(status.code);
            json!({ "error": {
                "grpc_code": code,
                "http_code": http.as_u16(),
                "message": message,
                "http_status": http.canonical_reason(),
            } })
        }
        Line::V3_6 | Line::V3_7 => json!({ "error": { "code": code, "message": message } }),
    }
}

/// grpc-gateway runtime/errors.go HTTPStatusFromCode.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is under `/v3/`: the options `google.api.http` of etcd's rpc.proto.
#[rustfmt::skip]
pub fn method(path: &str) -> Option<Method> {
    Some(match path {
        "kv/range" => Method::Range,
        "kv/put" => Method::Put,
        "kv/deleterange" => Method::DeleteRange,
        "kv/txn" => Method::Txn,
        "kv/compaction" => Method::Compact,
        "watch" => Method::Watch,
        "lease/grant" => Method::LeaseGrant,
        "lease/revoke" | "kv/lease/revoke" => Method::LeaseRevoke,
        "lease/keepalive" => Method::LeaseKeepAlive,
        "lease/timetolive" | "kv/lease/timetolive" => Method::LeaseTimeToLive,
        "lease/leases" | "kv/lease/leases" => Method::LeaseLeases,
        "cluster/member/add" => Method::MemberAdd,
        "cluster/member/remove" => Method::MemberRemove,
        "cluster/member/update" => Method::MemberUpdate,
        "cluster/member/list" => Method::MemberList,
        "cluster/member/promote" => Method::MemberPromote,
        "maintenance/alarm" => Method::Alarm,
        "maintenance/status" => Method::Status,
        "maintenance/defragment" => Method::Defragment,
        "maintenance/hash" => Method::Hash,
        "maintenance/hashkv" => Method::HashKv,
        "maintenance/snapshot" => Method::Snapshot,
        "maintenance/transfer-leadership" => Method::MoveLeader,
        "maintenance/downgrade" => Method::Downgrade,
        "auth/enable" => Method::AuthEnable,
        "auth/disable" => Method::AuthDisable,
        "auth/status" => Method::AuthStatus,
        "auth/authenticate" => Method::Authenticate,
        "auth/user/add" => Method::UserAdd,
        "auth/user/get" => Method::UserGet,
        "auth/user/list" => Method::UserList,
        "auth/user/delete" => Method::UserDelete,
        "auth/user/changepw" => Method::UserChangePassword,
        "auth/user/grant" => Method::UserGrantRole,
        "auth/user/revoke" => Method::UserRevokeRole,
        "auth/role/add" => Method::RoleAdd,
        "auth/role/get" => Method::RoleGet,
        "auth/role/list" => Method::RoleList,
        "auth/role/delete" => Method::RoleDelete,
        "auth/role/grant" => Method::RoleGrantPermission,
        "auth/role/revoke" => Method::RoleRevokePermission,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb as pb;
    use prost::Message;

    /// Bodies as etcd 3.7.1 takes them.
    #[test]
    fn requests_are_read_in_every_spelling() {
        let range = |body: &str| {
            let mut read = requests(Method::Range, body.as_bytes()).unwrap();
            pb::RangeRequest::decode(read.remove(0)).unwrap()
        };
        let request =
            range(r#"{"key":"Zm9v","sort_order":"DESCEND","limit":"3","keysOnly":true,"bogus":[1]}"#);
        assert_eq!(request.key, "foo");
        assert_eq!((request.limit, request.sort_order), (3, 2));
        assert!(request.keys_only);
        let request = range(r#"{"key":"Zm9v","sort_order":2,"limit":3}"#);
        assert_eq!((request.limit, request.sort_order), (3, 2));
        assert_eq!(range("null"), pb::RangeRequest::default());

        assert_eq!(requests(Method::Range, b" "), Ok(vec![]));
        let two = requests(Method::LeaseKeepAlive, br#"{"ID":7}{"ID":"8"}"#).unwrap();
        let ids: Vec<i64> = two
            .into_iter()
            .map(|message| pb::LeaseKeepAliveRequest::decode(message).unwrap().id)
            .collect();
        assert_eq!(ids, [7, 8]);
        for body in [
            "xx",
            "{\"key\":5}",
            "{\"key\":\"!\"}",
            "[",
            "{\"limit\":\"x\"}",
            "5",
        ] {
            let error = requests(Method::Range, body.as_bytes()).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{body}");
        }
    }

    /// Bodies that etcd 3.7.1 gave, without the spaces that Go's protojson strews in.
    #[test]
    fn answers_are_those_of_etcd() {
        let header = Some(pb::ResponseHeader {
            cluster_id: 15_118_495_548_433_857_066,
            member_id: 13_668_033_151_171_901_709,
            revision: 5,
            raft_term: 2,
        });
        let check = |method, message: Vec<u8>, expect: &str| {
            let value = answer(method, message.into()).unwrap();
            assert_eq!(
                value,
                serde_json::from_str::<Value>(expect).unwrap(),
                "{method:?}"
            );
        };
        let kv = api::mvccpb::KeyValue {
            key: "foo".into(),
            create_revision: 4,
            mod_revision: 5,
            version: 2,
            value: "bar".into(),
            lease: 0,
        };
        check(
            Method::Range,
            pb::RangeResponse {
                header,
                kvs: vec![kv],
                more: false,
                count: 1,
            }
            .encode_to_vec(),
            r#"{"header":{"cluster_id":"15118495548433857066","member_id":"13668033151171901709","revision":"5","raft_term":"2"},"kvs":[{"key":"Zm9v","create_revision":"4","mod_revision":"5","version":"2","value":"YmFy"}],"count":"1"}"#,
        );
        check(
            Method::LeaseTimeToLive,
            pb::LeaseTimeToLiveResponse {
                header: None,
                id: 7,
                ttl: 99,
                granted_ttl: 100,
                keys: vec![],
            }
            .encode_to_vec(),
            r#"{"ID":"7","TTL":"99","grantedTTL":"100"}"#,
        );
        check(
            Method::Status,
            pb::StatusResponse {
                version: "3.7.1".into(),
                db_size: 20_480,
                leader: 1,
                downgrade_info: Some(pb::DowngradeInfo::default()),
                ..Default::default()
            }
            .encode_to_vec(),
            r#"{"version":"3.7.1","dbSize":"20480","leader":"1","downgradeInfo":{}}"#,
        );
    }

    #[test]
    fn errors_have_the_form_of_the_line() {
        let status = api::error::EMPTY_KEY;
        assert_eq!(
            error(&status, Line::V3_7).to_string(),
            r#"{"code":3,"message":"etcdserver: key is not provided"}"#
        );
        assert!(error(&status, Line::V3_5)["error"].is_string());
        assert_eq!(stream_error(&status, Line::V3_7)["error"]["code"], 3);
        assert_eq!(http_status(Code::OutOfRange), 400);
    }

    /// Any body at all may come from a client.
    #[test]
    fn the_reader_takes_anything() {
        let mut random = fastrand::Rng::with_seed(11);
        let parts = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"key\"",
            "\"Zg==\"",
            "1",
            "null",
            "\"compare\"",
            "\"x\"",
            "\\",
        ];
        for _ in 0..2000 {
            let body: String = (0..random.usize(..20))
                .map(|_| parts[random.usize(..parts.len())])
                .collect();
            let _ = requests(Method::Txn, body.as_bytes());
        }
        let deep = "{\"success\":[{\"request_txn\":".repeat(5000);
        assert!(requests(Method::Txn, deep.as_bytes()).is_err());
    }
}
