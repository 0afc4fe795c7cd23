//! What a path leads to. The services themselves are the member's front; those here need no more
//! than what every thread may read. Names no carrier: neither gRPC nor HTTP library.

pub mod auth;
pub mod health;
pub mod recipes;

use api::error::{Code, Status};
use api::version::Line;
use member::frontend::{Method, Shape};

use health::HealthMethod;
pub use recipes::Recipe;

/// What answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The member's front.
    Member(Method),
    /// The health service.
    Health(HealthMethod),
    /// The lock and election services.
    Recipe(Recipe),
}

impl Route {
    /// How many messages go each way.
    pub fn shape(self) -> Shape {
        match self {
            Route::Member(method) => method.shape(),
            Route::Health(HealthMethod::Watch) => Shape::ServerStream,
            Route::Health(HealthMethod::Check | HealthMethod::List) => Shape::Unary,
            Route::Recipe(recipe) => recipe.shape(),
        }
    }

    /// The path as gRPC writes it.
    pub fn path(self) -> &'static str {
        match self {
            Route::Member(method) => method.path(),
            Route::Health(method) => method.path(),
            Route::Recipe(recipe) => recipe.path(),
        }
    }

    /// The names of service and method.
    pub fn names(self) -> (&'static str, &'static str) {
        self.path()[1..].rsplit_once('/').unwrap_or_default()
    }

    /// Finds what answers `path` on a server of `line`; errors have grpc-go's texts.
    pub fn find(path: &str, line: Line) -> Result<Route, Status> {
        if let Some(method) = Method::from_path(path) {
            // RangeStream came with 3.7: others know the service and not the method.
            if method != Method::RangeStream || line >= Line::V3_7 {
                return match auth::refusal(method) {
                    None => Ok(Route::Member(method)),
                    Some(refusal) => Err(refusal),
                };
            }
        }
        if let Some(method) = HealthMethod::from_path(path) {
            return Ok(Route::Health(method));
        }
        if let Some(recipe) = Recipe::from_path(path) {
            return Ok(Route::Recipe(recipe));
        }
        Err(unknown(path))
    }
}

/// A request that cannot be decoded, in the words of grpc-go and Go's protobuf.
fn undecodable(shape: Shape, error: &str) -> Status {
    let what = match shape {
        Shape::Unary => "grpc: error unmarshalling request",
        Shape::ServerStream | Shape::Duplex => "grpc: failed to unmarshal the received message",
    };
    let reason = match error.contains("UTF-8") {
        true => "string field contains invalid UTF-8",
        false => "proto: cannot parse invalid wire-format data",
    };
    Status::with(Code::Internal, format!("{what}: {reason}"))
}

/// grpc-go: server.go handleStream.
fn unknown(path: &str) -> Status {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
        return Status::with(Code::Unimplemented, format!("malformed method name: {path:?}"));
    };
    let prefix = format!("/{service}/");
    let mut known = Method::ALL.iter().map(|method| method.path());
    let is_known = known.any(|path| path.starts_with(&prefix))
        || Recipe::ALL
            .iter()
            .any(|recipe| recipe.path().starts_with(&prefix))
        || prefix == health::PREFIX;
    let text = match is_known {
        true => format!("unknown method {method} for service {service}"),
        false => format!("unknown service {service}"),
    };
    Status::with(Code::Unimplemented, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_services_or_to_the_texts_of_grpc_go() {
        let find = |path| Route::find(path, Line::V3_7);
        assert_eq!(find("/etcdserverpb.KV/Range"), Ok(Route::Member(Method::Range)));
        assert_eq!(
            find("/grpc.health.v1.Health/Check"),
            Ok(Route::Health(HealthMethod::Check))
        );
        for (path, text) in [
            (
                "/etcdserverpb.KV/X",
                "unknown method X for service etcdserverpb.KV",
            ),
            ("/a.B/C", "unknown service a.B"),
            (
                "/grpc.health.v1.Health/X",
                "unknown method X for service grpc.health.v1.Health",
            ),
            ("nonsense", "malformed method name: \"nonsense\""),
        ] {
            assert_eq!(find(path), Err(Status::with(Code::Unimplemented, text)), "{path}");
        }
        let older = Route::find("/etcdserverpb.KV/RangeStream", Line::V3_6);
        let text = "unknown method RangeStream for service etcdserverpb.KV";
        assert_eq!(older, Err(Status::with(Code::Unimplemented, text)));
    }
}
