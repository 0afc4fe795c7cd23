//! Messages as JSON and back, by grpc-gateway's conventions with etcd's options: names as in the
//! .proto files (the camel-case ones are read as well), 64-bit numbers as texts, bytes in base64,
//! defaults left out, unknown fields passed over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use api::error::{Code, Status};
use api::version::Line;
use bytes::Bytes;
use http::StatusCode;
use member::frontend::{Method, Shape};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, SerializeOptions,
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value, json};

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

/// The requests in a body: none for an empty one, and the first value alone where the call takes one
/// request. What cannot be read after a first value ends the requests, as it does in grpc-gateway.
pub fn requests(method: Method, body: &[u8], line: Line) -> Result<Vec<Bytes>, Status> {
    let descriptor = descriptor(method).input();
    let one = matches!(method.shape(), Shape::Unary | Shape::ServerStream);
    let mut requests = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(body);
    while reader.end().is_err() {
        let json = Json::deserialize(&mut reader).map_err(|error| error.to_string());
        match json.and_then(|json| decode(&descriptor, json, line)) {
            Ok(request) => requests.push(request),
            Err(error) if requests.is_empty() => return Err(Status::with(Code::InvalidArgument, error)),
            Err(_) => break,
        }
        if one {
            break;
        }
    }
    Ok(requests)
}

fn decode(descriptor: &MessageDescriptor, json: Json, line: Line) -> Result<Bytes, String> {
    if let (Json::Scalar(Value::Null), Line::V3_6 | Line::V3_7) = (&json, line) {
        return Err("proto: syntax error (line 1:1): unexpected token null".into());
    }
    let value = message(descriptor, json, line)?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options)
        .map_err(|error| error.to_string())?;
    Ok(prost::Message::encode_to_vec(&message).into())
}

/// JSON as it was written: a `Value` would keep one of two fields of the same name.
enum Json {
    Scalar(Value),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

/// A message in the one spelling that all the lines agree on: 3.5 reads with Go's old jsonpb, 3.6 and
/// 3.7 with protojson, and each is lenient in its own way.
fn message(descriptor: &MessageDescriptor, json: Json, line: Line) -> Result<Value, String> {
    let object = match json {
        Json::Object(object) => object,
        Json::Scalar(Value::Null) if line == Line::V3_5 => Vec::new(),
        _ => return Err(format!("expected an object for {}", descriptor.full_name())),
    };
    // By number, in which order etcd declares its fields, and whether the name is the one of JSON.
    let mut written: BTreeMap<u32, (FieldDescriptor, bool, Json)> = BTreeMap::new();
    for (name, json) in object {
        let field = descriptor.get_field_by_json_name(&name);
        let Some(field) = field.or_else(|| descriptor.get_field_by_name(&name)) else {
            continue;
        };
        let of_json = field.json_name() == name;
        match (written.get(&field.number()), line) {
            (None, _) => {}
            (Some(_), Line::V3_6 | Line::V3_7) => return Err(format!("proto: duplicate field {name:?}")),
            // The last one, but the name of JSON goes first: jsonpb decode.go unmarshalMessage.
            (Some((_, true, _)), Line::V3_5) if !of_json => continue,
            (Some(_), Line::V3_5) => {}
        }
        written.insert(field.number(), (field, of_json, json));
    }
    let mut message = serde_json::Map::new();
    for (field, _, json) in written.into_values() {
        if matches!(json, Json::Scalar(Value::Null)) {
            continue;
        }
        let value = match json {
            Json::List(items) if field.is_list() => {
                let items = items.into_iter().map(|item| single(&field.kind(), item, line));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            _ if field.is_list() => return Err(format!("expected a list for {}", field.full_name())),
            json => single(&field.kind(), json, line)?,
        };
        // jsonpb sets one after the other; protojson refuses a second one, and so does what reads this.
        if let (Some(oneof), Line::V3_5) = (field.containing_oneof(), line) {
            for other in oneof.fields() {
                message.remove(other.name());
            }
        }
        message.insert(field.name().into(), value);
    }
    Ok(Value::Object(message))
}

/// One value of a field.
fn single(kind: &Kind, json: Json, line: Line) -> Result<Value, String> {
    let scalar = match (kind, json) {
        (Kind::Message(descriptor), json) => return message(descriptor, json, line),
        (_, Json::Scalar(scalar)) => scalar,
        (kind, Json::List(_) | Json::Object(_)) => {
            return Err(format!("expected a single value for {kind:?}"));
        }
    };
    match (kind, scalar) {
        // Go's encoding/json leaves a number as it was where there is a null, which is in lists alone.
        (kind, Value::Null) if line == Line::V3_5 => Ok(match kind {
            Kind::String | Kind::Bytes => json!(""),
            Kind::Bool => json!(false),
            _ => json!(0),
        }),
        (Kind::Bytes, Value::String(text)) => base64(&text, line).map(Value::String),
        (Kind::Enum(names), Value::String(name)) => match (line, names.get_value_by_name(&name)) {
            (Line::V3_5, None) => {
                let quoted = format!("{name:?}");
                Err(format!("unknown value {quoted:?} for enum {}", names.full_name()))
            }
            _ => Ok(Value::String(name)),
        },
        (Kind::String | Kind::Bytes | Kind::Bool | Kind::Float | Kind::Double, scalar) => Ok(scalar),
        (_, scalar) => integer(scalar, line),
    }
}

/// An integer of a number or a text; what is neither is for others to refuse.
fn integer(scalar: Value, line: Line) -> Result<Value, String> {
    let number = match scalar {
        // jsonpb takes the quotes away and reads what is left as JSON.
        Value::String(text) if line == Line::V3_5 && text.trim() == "null" => return Ok(json!(0)),
        Value::String(text) if line != Line::V3_5 && text.trim() != text => {
            return Err(format!("blanks around the number {text:?}"));
        }
        Value::String(text) => serde_json::from_str::<Number>(&text).map_err(|error| error.to_string())?,
        Value::Number(number) => number,
        other => return Ok(other),
    };
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return Ok(number.into());
    };
    // serde_json reads -0 as a float.
    if float == 0.0 && (line != Line::V3_5 || float.is_sign_negative()) {
        return Ok(json!(0));
    }
    // Written in digits it is one, unless it is too large; the least one may be what is left of less.
    let digits = serde_json::from_str::<Number>(&format!("{float:.0}"));
    let digits = digits
        .ok()
        .filter(|digits| !digits.is_f64() && digits.as_i64() != Some(i64::MIN));
    match digits {
        Some(digits) if line != Line::V3_5 && float.fract() == 0.0 => Ok(digits.into()),
        _ => Err(format!("cannot read the number {number} as an integer")),
    }
}

/// Base64 that is good in the line, without the line ends that Go passes over. Letters that are of no
/// alphabet are left to the decoder.
fn base64(text: &str, line: Line) -> Result<String, String> {
    // protojson decode.go unmarshalBytes: the padding may be missing, not be too short.
    let padded = line == Line::V3_5 || text.len().is_multiple_of(4);
    let letters = text.replace(['\r', '\n'], "");
    let good = match padded {
        true => letters.len().is_multiple_of(4),
        false => !letters.contains('='),
    };
    if !good || (line == Line::V3_5 && letters.contains(['-', '_'])) {
        return Err(format!("illegal base64 data: {text:?}"));
    }
    Ok(letters)
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
            let mut read = requests(Method::Range, body.as_bytes(), Line::V3_7).unwrap();
            pb::RangeRequest::decode(read.remove(0)).unwrap()
        };
        let request =
            range(r#"{"key":"Zm9v","sort_order":"DESCEND","limit":"3","keysOnly":true,"bogus":[1]}"#);
        assert_eq!(request.key, "foo");
        assert_eq!((request.limit, request.sort_order), (3, 2));
        assert!(request.keys_only);
        let request = range(r#"{"key":"Zm9v","sort_order":2,"limit":3}"#);
        assert_eq!((request.limit, request.sort_order), (3, 2));

        assert_eq!(requests(Method::Range, b" ", Line::V3_7), Ok(vec![]));
        let two = requests(Method::LeaseKeepAlive, br#"{"ID":7}{"ID":"8"} x"#, Line::V3_7).unwrap();
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
            let error = requests(Method::Range, body.as_bytes(), Line::V3_7).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{body}");
        }
    }

    const LINES: [Line; 3] = [Line::V3_5, Line::V3_6, Line::V3_7];

    /// What real etcd 3.5.x, and 3.6.x and 3.7.1 read of a body: equal to what another body says, or
    /// nothing where they answer 400.
    #[test]
    fn each_line_reads_in_its_own_way() {
        const A: &str = r#"{"key":"YQ=="}"#;
        const A1: &str = r#"{"key":"YQ==","limit":1}"#;
        let range: &[(&str, Option<&str>, Option<&str>)] = &[
            ("null", Some("{}"), None),
            (" nullx", Some("{}"), None),
            (r#"{"key":"YQ=="} x"#, Some(A), Some(A)),
            (r#"{"key":"YQ=="}}"#, Some(A), Some(A)),
            (r#"{"key":"YQ=="} {"key":5}"#, Some(A), Some(A)),
            (r#"x {"key":"YQ=="}"#, None, None),
            (r#"{"key":"","key":"YQ=="}"#, Some(A), None),
            (r#"{"nope":1,"nope":2,"key":"YQ=="}"#, Some(A), Some(A)),
            (r#"{"key":"YQ==","limit":5,"limit":null}"#, Some(A), None),
            (
                r#"{"rangeEnd":"AA==","range_end":"YQ=="}"#,
                Some(r#"{"range_end":"AA=="}"#),
                None,
            ),
            (r#"{"key":"YQ"}"#, None, Some(A)),
            (r#"{"key":"YQ="}"#, None, None),
            (r#"{"key":"YR=="}"#, Some(A), Some(A)),
            (r#"{"key":"Y\nQ==\r\n"}"#, Some(A), None),
            (r#"{"key":"_-8="}"#, None, Some(r#"{"key":"/+8="}"#)),
            (r#"{"key":"YQ==","limit":1e0}"#, None, Some(A1)),
            (r#"{"key":"YQ==","limit":1.0}"#, None, Some(A1)),
            (r#"{"key":"YQ==","limit":"1e0"}"#, None, Some(A1)),
            (r#"{"key":"YQ==","limit":1.5}"#, None, None),
            (r#"{"key":"YQ==","limit":" 1"}"#, Some(A1), None),
            (r#"{"key":"YQ==","limit":"+1"}"#, None, None),
            (r#"{"key":"YQ==","limit":"01"}"#, None, None),
            (r#"{"key":"YQ==","limit":""}"#, None, None),
            (r#"{"key":"YQ==","limit":"null"}"#, Some(A), None),
            (r#"{"key":"YQ==","limit":null}"#, Some(A), Some(A)),
            (r#"{"key":"YQ==","limit":-0}"#, Some(A), Some(A)),
            (r#"{"key":"YQ==","limit":1e19}"#, None, None),
            (r#"{"key":"YQ==","limit":-9223372036854775809}"#, None, None),
            (r#"{"key":"YQ==","keys_only":"true"}"#, None, None),
            (r#"{"key":"YQ==","sort_order":"1"}"#, None, Some(A)),
            (r#"{"sort_order":1.0}"#, None, Some(r#"{"sort_order":"ASCEND"}"#)),
        ];
        let txn: &[(&str, Option<&str>, Option<&str>)] = &[
            (r#"{"success":[null]}"#, Some(r#"{"success":[{}]}"#), None),
            (r#"{"success":{}}"#, None, None),
            (
                r#"{"success":[{"request_put":{"key":"YQ==","key":"YQ=="}}]}"#,
                Some(r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#),
                None,
            ),
            (
                r#"{"success":[{"request_put":{},"request_range":{}}]}"#,
                Some(r#"{"success":[{"request_put":{}}]}"#),
                None,
            ),
        ];
        let alarm: &[(&str, Option<&str>, Option<&str>)] = &[(r#"{"action":"NOPE"}"#, None, Some("{}"))];
        for (method, table) in [(Method::Range, range), (Method::Txn, txn), (Method::Alarm, alarm)] {
            for (body, old, new) in table {
                for (line, expect) in [(Line::V3_5, old), (Line::V3_6, new), (Line::V3_7, new)] {
                    let read = requests(method, body.as_bytes(), line);
                    let plain = expect.map(|body| requests(method, body.as_bytes(), line).unwrap());
                    assert_eq!(read.as_ref().ok(), plain.as_ref(), "{line:?} {body}");
                    assert!(read.map_or_else(|error| error.code == Code::InvalidArgument, |r| r.len() == 1));
                }
            }
        }
    }

    /// Sentences of real etcd where they do not depend on a place in the text.
    #[test]
    fn refusals_of_bodies_have_the_words_of_etcd() {
        let refusal = |method, body: &str, line| {
            let status = requests(method, body.as_bytes(), line).unwrap_err();
            status.message.to_string()
        };
        assert_eq!(
            refusal(Method::Range, "null", Line::V3_7),
            "proto: syntax error (line 1:1): unexpected token null"
        );
        assert_eq!(
            refusal(Method::Alarm, r#"{"action":"NOPE"}"#, Line::V3_5),
            r#"unknown value "\"NOPE\"" for enum etcdserverpb.AlarmRequest.AlarmAction"#
        );
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
            for line in LINES {
                let _ = requests(Method::Txn, body.as_bytes(), line);
            }
        }
        let deep = "{\"success\":[{\"request_txn\":".repeat(5000);
        for line in LINES {
            assert!(requests(Method::Txn, deep.as_bytes(), line).is_err());
        }
    }
}
