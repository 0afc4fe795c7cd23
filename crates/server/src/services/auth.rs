//! Refuses what needs users and roles, which are not there yet: an answer that looked like
//! success would leave a cluster open that its operator believes closed.

use api::error::{Code, Status};
use member::frontend::Method;

/// The answer to a call of the Auth service that is not served.
const NOT_SUPPORTED: Status = Status::new(
    Code::Unimplemented,
    "mainstay: authentication is not supported yet: all requests are served without it, and none where another member has enabled it",
);

/// Why a call is refused; `None` if it is served.
pub fn refusal(method: Method) -> Option<Status> {
    match method {
        Method::AuthEnable
        | Method::Authenticate
        | Method::UserAdd
        | Method::UserGet
        | Method::UserList
        | Method::UserDelete
        | Method::UserChangePassword
        | Method::UserGrantRole
        | Method::UserRevokeRole
        | Method::RoleAdd
        | Method::RoleGet
        | Method::RoleList
        | Method::RoleDelete
        | Method::RoleGrantPermission
        | Method::RoleRevokePermission
        | Method::AuthDisable => Some(NOT_SUPPORTED),
        _ => None,
    }
}
