//! auth, user, role: who may do what. The server decides; these only ask.

use api::authpb::{Permission, UserAddOptions, permission::Type};
use api::error::ROOT_ROLE_NOT_EXIST;
use api::etcdserverpb as pb;
use bytes::Bytes;
use prost::Message;

use super::print::Format;
use super::{Context, decode, password, prefix_end};
use crate::Failure;
use crate::flags::{Command, Flag, Kind, flag};
use crate::text::quote;
use client::Client;

const fn command(path: &'static [&'static str], usage: &'static str, help: &'static str) -> Command {
    with_flags(path, usage, help, &[])
}

const fn with_flags(
    path: &'static [&'static str],
    usage: &'static str,
    help: &'static str,
    flags: &'static [Flag],
) -> Command {
    Command {
        path,
        usage,
        help,
        flags,
    }
}

pub(super) const ENABLE: Command = command(&["auth", "enable"], "", "Enables authentication");
pub(super) const DISABLE: Command = command(&["auth", "disable"], "", "Disables authentication");
pub(super) const STATUS: Command = command(&["auth", "status"], "", "Returns authentication status");
pub(super) const USER_ADD: Command = with_flags(
    &["user", "add"],
    "<user name or user:password> [options]",
    "Adds a new user",
    &[
        INTERACTIVE,
        flag(
            "new-user-password",
            Kind::Text,
            "",
            "Supply password from the command line flag",
        ),
        flag(
            "no-password",
            Kind::Bool,
            "false",
            "Create a user without password (CN based auth only)",
        ),
    ],
);
pub(super) const USER_DELETE: Command = command(&["user", "delete"], "<user name>", "Deletes a user");
pub(super) const USER_GET: Command = with_flags(
    &["user", "get"],
    "<user name> [options]",
    "Gets detailed information of a user",
    &[flag(
        "detail",
        Kind::Bool,
        "false",
        "Show permissions of roles granted to the user",
    )],
);
pub(super) const USER_LIST: Command = command(&["user", "list"], "", "Lists all users");
pub(super) const USER_PASSWD: Command = with_flags(
    &["user", "passwd"],
    "<user name> [options]",
    "Changes password of user",
    &[INTERACTIVE],
);
pub(super) const USER_GRANT_ROLE: Command = command(
    &["user", "grant-role"],
    "<user name> <role name>",
    "Grants a role to a user",
);
pub(super) const USER_REVOKE_ROLE: Command = command(
    &["user", "revoke-role"],
    "<user name> <role name>",
    "Revokes a role from a user",
);
pub(super) const ROLE_ADD: Command = command(&["role", "add"], "<role name>", "Adds a new role");
pub(super) const ROLE_DELETE: Command = command(&["role", "delete"], "<role name>", "Deletes a role");
pub(super) const ROLE_GET: Command = command(
    &["role", "get"],
    "<role name>",
    "Gets detailed information of a role",
);
pub(super) const ROLE_LIST: Command = command(&["role", "list"], "", "Lists all roles");
pub(super) const ROLE_GRANT: Command = with_flags(
    &["role", "grant-permission"],
    "[options] <role name> <permission type> <key> [endkey]",
    "Grants a key to a role",
    &[PREFIX, FROM_KEY],
);
pub(super) const ROLE_REVOKE: Command = with_flags(
    &["role", "revoke-permission"],
    "<role name> <key> [endkey]",
    "Revokes a key from a role",
    &[PREFIX, FROM_KEY],
);

const INTERACTIVE: Flag = flag(
    "interactive",
    Kind::Bool,
    "true",
    "If true, ask for the password on the terminal; else read it from the standard input",
);
const PREFIX: Flag = flag("prefix", Kind::Bool, "false", "a permission of a prefix");
const FROM_KEY: Flag = flag(
    "from-key",
    Kind::Bool,
    "false",
    "a permission of keys that are greater than or equal to the given key using byte compare",
);

/// The role that may do all, and the user that has it.
const ROOT: &str = "root";

/// One call of the Auth service. Without a limit of time: etcd gives these commands none.
async fn ask<M: Message>(client: &Client, method: &str, request: &M) -> Result<Bytes, Failure> {
    let method = format!("/etcdserverpb.Auth/{method}");
    client.unary(&method, request).await.map_err(Failure::from)
}

pub(super) async fn auth(context: &Context, what: &str) -> Result<(), Failure> {
    if !context.args().is_empty() {
        return Err(Failure::bad_args(format!(
            "auth {what} command does not accept any arguments"
        )));
    }
    let client = context.connect().await?;
    super::within(context.timeout(), async {
        match what {
            "enable" => {
                enable(&client).await?;
                say!("Authentication Enabled");
            }
            "disable" => {
                ask(&client, "AuthDisable", &pb::AuthDisableRequest {}).await?;
                say!("Authentication Disabled");
            }
            _ => {
                let answer = ask(&client, "AuthStatus", &pb::AuthStatusRequest {}).await?;
                if context.printer.format == Format::Fields {
                    return Err(context.printer.unsupported());
                }
                if !context.printer.raw("etcdserverpb.AuthStatusResponse", &answer)? {
                    let status: pb::AuthStatusResponse = decode(&answer)?;
                    say!("Authentication Status: {}", status.enabled);
                    say!("AuthRevision: {}", status.auth_revision);
                }
            }
        }
        Ok(())
    })
    .await
}

/// A cluster whose root user lacks the role gets it: auth_command.go authEnableCommandFunc.
async fn enable(client: &Client) -> Result<(), Failure> {
    loop {
        match ask(client, "AuthEnable", &pb::AuthEnableRequest {}).await {
            Err(failure) if failure.text == ROOT_ROLE_NOT_EXIST.message => {
                let name = ROOT.to_string();
                ask(client, "RoleAdd", &pb::AuthRoleAddRequest { name }).await?;
                let request = pb::AuthUserGrantRoleRequest {
                    user: ROOT.to_string(),
                    role: ROOT.to_string(),
                };
                ask(client, "UserGrantRole", &request).await?;
            }
            other => return other.map(drop),
        }
    }
}

/// Prints an answer: the message itself, the fields of its header, or a line.
fn done(context: &Context, name: &str, answer: &[u8], line: String) -> Result<(), Failure> {
    if context
        .printer
        .raw(&format!("etcdserverpb.{name}Response"), answer)?
    {
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        // The header is the first field of each answer, and here the only one that counts.
        let answer: pb::AuthEnableResponse = decode(answer)?;
        context.printer.header(answer.header.as_ref());
        return Ok(());
    }
    say!("{line}");
    Ok(())
}

/// The only argument, or the failure that says what is missing.
fn only<'a>(context: &'a Context, what: &str) -> Result<&'a str, Failure> {
    match context.args() {
        [only] => Ok(only),
        _ => Err(Failure::bad_args(what)),
    }
}

pub(super) async fn user(context: &Context, what: &str) -> Result<(), Failure> {
    match what {
        "add" => user_add(context).await,
        "get" => user_get(context).await,
        "list" => {
            if !context.args().is_empty() {
                return Err(Failure::bad_args("user list command requires no arguments"));
            }
            let client = context.connect().await?;
            let answer = ask(&client, "UserList", &pb::AuthUserListRequest {}).await?;
            if context.printer.format == Format::Fields {
                return Err(context.printer.unsupported());
            }
            if !context
                .printer
                .raw("etcdserverpb.AuthUserListResponse", &answer)?
            {
                let list: pb::AuthUserListResponse = decode(&answer)?;
                list.users.iter().for_each(|user| say!("{user}"));
            }
            Ok(())
        }
        "delete" => {
            let name = only(context, "user delete command requires user name as its argument")?;
            let client = context.connect().await?;
            let request = pb::AuthUserDeleteRequest { name: name.into() };
            let answer = ask(&client, "UserDelete", &request).await?;
            done(context, "AuthUserDelete", &answer, format!("User {name} deleted"))
        }
        "passwd" => {
            let name = only(context, "user passwd command requires user name as its argument")?;
            let password = match context.parsed.is("interactive") {
                true => password::ask_twice(name)?,
                false => password::from_input(),
            };
            let request = pb::AuthUserChangePasswordRequest {
                name: name.into(),
                password,
                ..Default::default()
            };
            let client = context.connect().await?;
            let answer = ask(&client, "UserChangePassword", &request).await?;
            done(
                context,
                "AuthUserChangePassword",
                &answer,
                "Password updated".into(),
            )
        }
        _ => user_role(context, what).await,
    }
}

async fn user_role(context: &Context, what: &str) -> Result<(), Failure> {
    let ([user, role], is_grant) = (context.args(), what == "grant-role") else {
        return Err(Failure::bad_args(match what {
            "grant-role" => "user grant command requires user name and role name as its argument",
            _ => "user revoke-role requires user name and role name as its argument",
        }));
    };
    let client = context.connect().await?;
    if is_grant {
        let request = pb::AuthUserGrantRoleRequest {
            user: user.clone(),
            role: role.clone(),
        };
        let answer = ask(&client, "UserGrantRole", &request).await?;
        let line = format!("Role {role} is granted to user {user}");
        return done(context, "AuthUserGrantRole", &answer, line);
    }
    let request = pb::AuthUserRevokeRoleRequest {
        name: user.clone(),
        role: role.clone(),
    };
    let answer = ask(&client, "UserRevokeRole", &request).await?;
    let line = format!("Role {role} is revoked from user {user}");
    done(context, "AuthUserRevokeRole", &answer, line)
}

async fn user_add(context: &Context) -> Result<(), Failure> {
    let given = only(context, "user add command requires user name as its argument")?;
    let no_password = context.parsed.is("no-password");
    let (name, password) = match (context.parsed.text("new-user-password"), given.split_once(':')) {
        _ if no_password => (given, String::new()),
        ("", Some(("", _))) => return Err(Failure::bad_args("empty user name is not allowed")),
        ("", Some((name, password))) => (name, password.to_string()),
        ("", None) if context.parsed.is("interactive") => (given, password::ask_twice(given)?),
        ("", None) => (given, password::from_input()),
        (password, _) => (given, password.to_string()),
    };
    let request = pb::AuthUserAddRequest {
        name: name.to_string(),
        password,
        options: Some(UserAddOptions { no_password }),
        ..Default::default()
    };
    let client = context.connect().await?;
    let answer = ask(&client, "UserAdd", &request).await?;
    done(context, "AuthUserAdd", &answer, format!("User {name} created"))
}

async fn user_get(context: &Context) -> Result<(), Failure> {
    let name = only(context, "user get command requires user name as its argument")?;
    let client = context.connect().await?;
    let request = pb::AuthUserGetRequest { name: name.into() };
    let answer = ask(&client, "UserGet", &request).await?;
    let user: pb::AuthUserGetResponse = decode(&answer)?;
    if context.parsed.is("detail") {
        say!("User: {name}");
        for role in &user.roles {
            say!("");
            role_get(context, &client, role).await?;
        }
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        return Err(context.printer.unsupported());
    }
    if !context.printer.raw("etcdserverpb.AuthUserGetResponse", &answer)? {
        let roles: String = user.roles.iter().map(|role| format!(" {role}")).collect();
        say!("User: {name}\nRoles:{roles}");
    }
    Ok(())
}

pub(super) async fn role(context: &Context, what: &str) -> Result<(), Failure> {
    let named = || {
        only(
            context,
            &format!("role {what} command requires role name as its argument"),
        )
    };
    match what {
        "add" => {
            let name = named()?;
            let client = context.connect().await?;
            let request = pb::AuthRoleAddRequest { name: name.into() };
            let answer = ask(&client, "RoleAdd", &request).await?;
            done(context, "AuthRoleAdd", &answer, format!("Role {name} created"))
        }
        "delete" => {
            let name = named()?;
            let client = context.connect().await?;
            let request = pb::AuthRoleDeleteRequest { role: name.into() };
            let answer = ask(&client, "RoleDelete", &request).await?;
            done(context, "AuthRoleDelete", &answer, format!("Role {name} deleted"))
        }
        "get" => {
            let name = named()?;
            let client = context.connect().await?;
            role_get(context, &client, name).await
        }
        "list" => role_list(context).await,
        "grant-permission" => grant(context).await,
        _ => revoke(context).await,
    }
}

async fn role_list(context: &Context) -> Result<(), Failure> {
    if !context.args().is_empty() {
        return Err(Failure::bad_args("role list command requires no arguments"));
    }
    let client = context.connect().await?;
    let answer = ask(&client, "RoleList", &pb::AuthRoleListRequest {}).await?;
    if context
        .printer
        .raw("etcdserverpb.AuthRoleListResponse", &answer)?
    {
        return Ok(());
    }
    let list: pb::AuthRoleListResponse = decode(&answer)?;
    if context.printer.format == Format::Fields {
        context.printer.header(list.header.as_ref());
        let roles: String = list
            .roles
            .iter()
            .map(|role| format!(" {}", quote(role.as_bytes())))
            .collect();
        say!("\"Roles\" :{roles}");
    } else {
        list.roles.iter().for_each(|role| say!("{role}"));
    }
    Ok(())
}

async fn role_get(context: &Context, client: &Client, role: &str) -> Result<(), Failure> {
    let request = pb::AuthRoleGetRequest { role: role.into() };
    let answer = ask(client, "RoleGet", &request).await?;
    if context.printer.raw("etcdserverpb.AuthRoleGetResponse", &answer)? {
        return Ok(());
    }
    let found: pb::AuthRoleGetResponse = decode(&answer)?;
    if context.printer.format == Format::Fields {
        context.printer.header(found.header.as_ref());
        for perm in &found.perm {
            // Two spaces, as etcdctl has it.
            say!("\"PermType\" :  {}", perm.perm_type().as_str_name());
            say!(
                "\"Key\" : {}\n\"RangeEnd\" : {}",
                quote(&perm.key),
                quote(&perm.range_end)
            );
        }
        return Ok(());
    }
    say!("Role {role}");
    for (title, kinds) in [
        ("KV Read:", [Type::Read, Type::Readwrite]),
        ("KV Write:", [Type::Write, Type::Readwrite]),
    ] {
        say!("{title}");
        if role == ROOT && found.perm.is_empty() {
            say!("\t[, <open ended>");
        }
        for perm in found.perm.iter().filter(|perm| kinds.contains(&perm.perm_type())) {
            say!("\t{}", range_text(perm));
        }
    }
    Ok(())
}

/// The keys of a permission: `key`, `[key, end)`, `[key, <open ended>`.
fn range_text(perm: &Permission) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let key = text(&perm.key);
    let range = match &perm.range_end[..] {
        [] => return key,
        [0] => format!("[{key}, <open ended>"),
        end => format!("[{key}, {})", text(end)),
    };
    match !perm.key.is_empty() && prefix_end(&perm.key) == perm.range_end {
        true => format!("{range} (prefix {key})"),
        false => range,
    }
}

/// Key and range end as `--prefix`, `--from-key` and a second argument say (role_command.go permRange).
fn perm_range(context: &Context, args: &[String]) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (context.parsed.is("prefix"), context.parsed.is("from-key"));
    let both = || Failure::bad_args("--from-key and --prefix flags are mutually exclusive");
    let key = args.first().map(String::as_bytes).unwrap_or_default();
    let end = match args.get(1) {
        _ if key.is_empty() && prefix && from_key => return Err(both()),
        // The whole of the key space is [\0, open end).
        _ if key.is_empty() => {
            let end: &[u8] = if prefix || from_key { b"\0" } else { b"" };
            return Ok((Bytes::from_static(b"\0"), Bytes::copy_from_slice(end)));
        }
        Some(_) if prefix => {
            return Err(Failure::bad_args("unexpected endkey argument with --prefix flag"));
        }
        Some(_) if from_key => {
            return Err(Failure::bad_args(
                "unexpected endkey argument with --from-key flag",
            ));
        }
        Some(end) => end.as_bytes().to_vec(),
        None if prefix && from_key => return Err(both()),
        None if prefix => prefix_end(key),
        None if from_key => vec![0],
        None => Vec::new(),
    };
    Ok((Bytes::copy_from_slice(key), end.into()))
}

async fn grant(context: &Context) -> Result<(), Failure> {
    let [role, kind, range @ ..] = context.args() else {
        return Err(grant_usage());
    };
    if range.is_empty() {
        return Err(grant_usage());
    }
    let perm_type = Type::from_str_name(&kind.to_uppercase())
        .ok_or_else(|| Failure::bad_args(format!("invalid permission type: {kind}")))?;
    let (key, range_end) = perm_range(context, range)?;
    let request = pb::AuthRoleGrantPermissionRequest {
        name: role.clone(),
        perm: Some(Permission {
            perm_type: perm_type.into(),
            key,
            range_end,
        }),
    };
    let client = context.connect().await?;
    let answer = ask(&client, "RoleGrantPermission", &request).await?;
    done(
        context,
        "AuthRoleGrantPermission",
        &answer,
        format!("Role {role} updated"),
    )
}

fn grant_usage() -> Failure {
    Failure::bad_args(
        "role grant command requires role name, permission type, and key [endkey] as its argument",
    )
}

async fn revoke(context: &Context) -> Result<(), Failure> {
    let [role, range @ ..] = context.args() else {
        return Err(revoke_usage());
    };
    let Some(shown) = range.first() else {
        return Err(revoke_usage());
    };
    let (key, range_end) = perm_range(context, range)?;
    let request = pb::AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key,
        range_end: range_end.clone(),
    };
    let client = context.connect().await?;
    let answer = ask(&client, "RoleRevokePermission", &request).await?;
    let line = match &range_end[..] {
        [] => format!("Permission of key {shown} is revoked from role {role}"),
        [0] => format!("Permission of range [{shown}, <open ended> is revoked from role {role}"),
        end => format!(
            "Permission of range [{shown}, {}) is revoked from role {role}",
            String::from_utf8_lossy(end)
        ),
    };
    done(context, "AuthRoleRevokePermission", &answer, line)
}

fn revoke_usage() -> Failure {
    Failure::bad_args("role revoke-permission command requires role name and key [endkey] as its argument")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_permissions_read_as_etcdctls() {
        let text = |key: &'static str, end: &'static [u8]| {
            range_text(&Permission {
                key: key.into(),
                range_end: Bytes::from_static(end),
                ..Default::default()
            })
        };
        assert_eq!(text("a", b""), "a");
        assert_eq!(text("a", b"\0"), "[a, <open ended>");
        assert_eq!(text("a", b"c"), "[a, c)");
        assert_eq!(text("a", b"b"), "[a, b) (prefix a)");
        assert_eq!(text("", b"\0"), "[, <open ended>");
    }
}
