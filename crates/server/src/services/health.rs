//! `grpc.health.v1.Health`: whether the member serves. It has one service, the empty name, as
//! etcd's has (server/etcdserver/api/v3rpc/health.go).

use api::error::{Code, Status};
use api::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use bytes::Bytes;
use member::frontend::Shape;
use prost::Message;

use super::undecodable;

/// The service's part of a path.
pub const PREFIX: &str = "/grpc.health.v1.Health/";

/// A call of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthMethod {
    /// The state now.
    Check,
    /// The states of all services.
    List,
    /// The state now and when it changes.
    Watch,
}

impl HealthMethod {
    /// Every method.
    pub const ALL: &'static [HealthMethod] = &[HealthMethod::Check, HealthMethod::List, HealthMethod::Watch];

    /// The path as gRPC writes it.
    pub const fn path(self) -> &'static str {
        match self {
            HealthMethod::Check => "/grpc.health.v1.Health/Check",
            HealthMethod::List => "/grpc.health.v1.Health/List",
            HealthMethod::Watch => "/grpc.health.v1.Health/Watch",
        }
    }

    /// The method of a path.
    pub fn from_path(path: &str) -> Option<HealthMethod> {
        match path.strip_prefix(PREFIX)? {
            "Check" => Some(HealthMethod::Check),
            "List" => Some(HealthMethod::List),
            "Watch" => Some(HealthMethod::Watch),
            _ => None,
        }
    }
}

/// Answers one message of a call.
pub fn answer(method: HealthMethod, message: Bytes, serving: bool) -> Result<Bytes, Status> {
    let request = HealthCheckRequest::decode(message).map_err(|error| {
        let shape = match method {
            HealthMethod::Watch => Shape::ServerStream,
            HealthMethod::Check | HealthMethod::List => Shape::Unary,
        };
        undecodable(shape, &error.to_string())
    })?;
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    match (method, request.service.is_empty()) {
        (HealthMethod::List, _) => Ok(list(status)),
        (_, true) => Ok(encode(status)),
        (HealthMethod::Check, false) => Err(Status::new(Code::NotFound, "unknown service")),
        (HealthMethod::Watch, false) => Ok(encode(ServingStatus::ServiceUnknown)),
    }
}

fn encode(status: ServingStatus) -> Bytes {
    HealthCheckResponse {
        status: status.into(),
    }
    .encode_to_vec()
    .into()
}

/// `map<string, HealthCheckResponse> statuses = 1` with the one service: an entry is a message
/// of key (1), which Go writes though it is empty, and value (2).
fn list(status: ServingStatus) -> Bytes {
    let value = encode(status);
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a status has two bytes");
    let entry = [&[0x0a, 0, 0x12, length(&value)][..], &value].concat();
    [&[0x0a, length(&entry)][..], &entry].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_service_is_known() {
        let request = |service: &str| {
            Bytes::from(
                HealthCheckRequest {
                    service: service.into(),
                }
                .encode_to_vec(),
            )
        };
        let check = |service, serving| answer(HealthMethod::Check, request(service), serving);
        assert_eq!(check("", true), Ok(Bytes::from_static(&[8, 1])));
        assert_eq!(check("", false), Ok(Bytes::from_static(&[8, 2])));
        assert_eq!(check("x", true).unwrap_err().code, Code::NotFound);
        assert_eq!(
            answer(HealthMethod::Watch, request("x"), true),
            Ok(Bytes::from_static(&[8, 3]))
        );
        assert_eq!(
            answer(HealthMethod::List, Bytes::new(), true),
            Ok(Bytes::from_static(&[0x0a, 6, 0x0a, 0, 0x12, 2, 8, 1]))
        );
        let garbage = answer(HealthMethod::Check, Bytes::from_static(&[0xff; 3]), true);
        assert_eq!(garbage.unwrap_err().code, Code::Internal);
    }
}
