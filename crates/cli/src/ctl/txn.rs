//! txn: compares and operations from the standard input, three parts ended by an empty line each.

use std::io::BufRead;

use api::etcdserverpb::{self as pb, compare::*};

use super::{Context, TOOL, kv};
use crate::flags::{Command, Flag, Kind, Line, parse_int, parse_radix};
use crate::text::{split_words, unquote};
use crate::{EXIT_INVALID_INPUT, Failure};

pub(super) const TXN: Command = Command {
    path: &["txn"],
    usage: "[options]",
    help: "Txn processes all the requests in one transaction",
    flags: &[Flag {
        name: "interactive",
        short: Some('i'),
        kind: Kind::Bool,
        default: "false",
        help: "Input transaction in interactive mode",
    }],
};

pub(super) async fn txn(context: &Context) -> Result<(), Failure> {
    if !context.args().is_empty() {
        return Err(Failure::bad_args("txn command does not accept argument"));
    }
    let client = context.connect().await?;
    let mut input = std::io::stdin().lock();
    let prompt = |text: &str| {
        if context.parsed.is("interactive") {
            say!("{text}");
        }
    };
    prompt("compares:");
    let compare = part(&mut input, parse_compare)?;
    prompt("success requests (get, put, del):");
    let success = part(&mut input, parse_operation)?;
    prompt("failure requests (get, put, del):");
    let failure = part(&mut input, parse_operation)?;
    let request = pb::TxnRequest {
        compare,
        success,
        failure,
    };
    let answer = client.unary("/etcdserverpb.KV/Txn", &request).await?;
    context.printer.txn(&answer)
}

/// Lines up to an empty one.
fn part<T>(input: &mut impl BufRead, parse: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(Failure::new(EXIT_INVALID_INPUT, "EOF"));
        }
        let line = line.trim();
        if line.is_empty() {
            return Ok(items);
        }
        items.push(parse(line).map_err(|failure| failure.with_code(EXIT_INVALID_INPUT))?);
    }
}

fn parse_operation(line: &str) -> Result<pb::RequestOp, Failure> {
    let invalid = || Failure::new(EXIT_INVALID_INPUT, format!("invalid txn request: {line}"));
    let words = split_words(line).ok_or_else(invalid)?;
    if words.len() < 2 {
        // The word is etcd's: txn_command.go parseRequestUnion.
        return Err(invalid_compare(line));
    }
    if !["get", "put", "del"].contains(&words[0].as_str()) {
        return Err(invalid());
    }
    let Line::Run(parsed) = TOOL.parse(&words, &|_| None).map_err(|_| invalid())? else {
        return Err(invalid());
    };
    Ok(pb::RequestOp {
        request: Some(kv::operation(&parsed)?),
    })
}

fn invalid_compare(line: &str) -> Failure {
    Failure::new(EXIT_INVALID_INPUT, format!("invalid txn compare request: {line}"))
}

/// `mod("key") > "0"`; targets by their names or short forms.
fn parse_compare(line: &str) -> Result<pb::Compare, Failure> {
    let malformed = || Failure::new(EXIT_INVALID_INPUT, format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = unquote(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest
        .trim_start()
        .strip_prefix(')')
        .ok_or_else(malformed)?
        .trim_start();
    let at = rest.find(['"', ' ']).ok_or_else(malformed)?;
    let (op, value) = rest.split_at(at);
    let (value, _) = unquote(value.trim_start()).ok_or_else(malformed)?;
    let result = match op {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed()),
    };
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = || parse_int(&text).map_err(|_| invalid_compare(line));
    let (target, union) = match target.trim() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (
            CompareTarget::Lease,
            TargetUnion::Lease(parse_radix(&text, 16).or_else(|_| number())?),
        ),
        other => {
            return Err(Failure::new(
                EXIT_INVALID_INPUT,
                format!("malformed comparison: {line} (unknown target {other})"),
            ));
        }
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(union),
        ..pb::Compare::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares() {
        let shown = |line: &str| match parse_compare(line) {
            Ok(c) => format!(
                "{} {} {:?} {:?}",
                c.target,
                c.result,
                c.key,
                c.target_union.unwrap()
            ),
            Err(failure) => failure.text,
        };
        for (line, expected) in [
            (r#"mod("key1") > "0""#, r#"2 1 b"key1" ModRevision(0)"#),
            (r#"value("k") = "a b""#, r#"3 0 b"k" Value(b"a b")"#),
            (r#"ver("k") != "3""#, r#"0 3 b"k" Version(3)"#),
            (r#"c("k") < "3""#, r#"1 2 b"k" CreateRevision(3)"#),
            (
                r#"mod("k") > "x""#,
                r#"invalid txn compare request: mod("k") > "x""#,
            ),
            ("mod(k) > 0", "malformed comparison: mod(k) > 0"),
            (
                r#"foo("k") > "0""#,
                r#"malformed comparison: foo("k") > "0" (unknown target foo)"#,
            ),
            ("", "malformed comparison: "),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn operations() {
        assert!(matches!(
            parse_operation(r#"put key1 "over it" --lease=7b"#).unwrap().request,
            Some(pb::request_op::Request::RequestPut(put)) if put.value == "over it" && put.lease == 0x7b
        ));
        assert_eq!(
            parse_operation("put").unwrap_err().text,
            "invalid txn compare request: put"
        );
        for line in ["nope a", "put a b --nope", "watch a"] {
            assert_eq!(
                parse_operation(line).unwrap_err().text,
                format!("invalid txn request: {line}")
            );
        }
    }
}
