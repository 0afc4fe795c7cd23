//! The printers: simple, fields, json, protobuf and table.

use std::io::Write;

use api::etcdserverpb::{ResponseHeader, response_op::Response};
use api::{etcdserverpb as pb, mvccpb};
use bytes::Bytes;
use serde_json::{Value, json};

use super::decode;
use crate::flags::Parsed;
use crate::text::{hex, quote};
use crate::{EXIT_BAD_FEATURE, Failure, json, table};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// Prints answers in the format that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    pub(super) format: Format,
    pub(super) hex: bool,
    pub(super) value_only: bool,
}

impl Printer {
    pub(super) fn new(parsed: &Parsed) -> Result<Printer, Failure> {
        let format = match parsed.text("write-out") {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Failure::new(EXIT_BAD_FEATURE, "unsupported output format")),
        };
        Ok(Printer {
            format,
            hex: parsed.is("hex"),
            value_only: parsed.is("print-value-only"),
        })
    }

    /// Prints the formats that need only the message; `false` if the caller has to print.
    pub(super) fn raw(&self, name: &str, answer: &[u8]) -> Result<bool, Failure> {
        match self.format {
            Format::Json => say!("{}", json::line(&json::message(name, answer)?)),
            Format::Protobuf => out(answer)?,
            Format::Table => return Err(self.unsupported()),
            Format::Simple | Format::Fields => return Ok(false),
        }
        Ok(true)
    }

    /// The format cannot show this answer.
    pub(super) fn unsupported(&self) -> Failure {
        let name = match self.format {
            Format::Simple => "simple",
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Table => "table",
        };
        Failure::new(EXIT_BAD_FEATURE, format!("{name} not supported as output format"))
    }

    pub(super) fn put(&self, answer: &[u8]) -> Result<(), Failure> {
        if self.raw("etcdserverpb.PutResponse", answer)? {
            return Ok(());
        }
        self.put_message(&decode(answer)?)
    }

    fn put_message(&self, put: &pb::PutResponse) -> Result<(), Failure> {
        if self.format == Format::Fields {
            self.header(put.header.as_ref());
            put.prev_kv.iter().for_each(|kv| self.kv_fields("Prev", kv));
            return Ok(());
        }
        say!("OK");
        put.prev_kv.iter().try_for_each(|kv| self.kv(kv))
    }

    pub(super) fn get(&self, answer: &[u8]) -> Result<(), Failure> {
        if self.raw("etcdserverpb.RangeResponse", answer)? {
            return Ok(());
        }
        self.get_message(&decode(answer)?)
    }

    fn get_message(&self, range: &pb::RangeResponse) -> Result<(), Failure> {
        if self.format == Format::Fields {
            self.header(range.header.as_ref());
            range.kvs.iter().for_each(|kv| self.kv_fields("", kv));
            say!("\"More\" : {}\n\"Count\" : {}", range.more, range.count);
            return Ok(());
        }
        range.kvs.iter().try_for_each(|kv| self.kv(kv))
    }

    pub(super) fn del(&self, answer: &[u8]) -> Result<(), Failure> {
        if self.raw("etcdserverpb.DeleteRangeResponse", answer)? {
            return Ok(());
        }
        self.del_message(&decode(answer)?)
    }

    fn del_message(&self, del: &pb::DeleteRangeResponse) -> Result<(), Failure> {
        if self.format == Format::Fields {
            self.header(del.header.as_ref());
            say!("\"Deleted\" : {}", del.deleted);
            del.prev_kvs.iter().for_each(|kv| self.kv_fields("Prev", kv));
            return Ok(());
        }
        say!("{}", del.deleted);
        del.prev_kvs.iter().try_for_each(|kv| self.kv(kv))
    }

    pub(super) fn txn(&self, answer: &[u8]) -> Result<(), Failure> {
        if self.format == Format::Json {
            let txn: pb::TxnResponse = decode(answer)?;
            say!("{}", json::line(&txn_json(&txn)?));
            return Ok(());
        }
        if self.raw("etcdserverpb.TxnResponse", answer)? {
            return Ok(());
        }
        let txn: pb::TxnResponse = decode(answer)?;
        if self.format == Format::Fields {
            self.header(txn.header.as_ref());
            say!("\"Succeeded\" : {}", txn.succeeded);
        } else {
            say!("{}", if txn.succeeded { "SUCCESS" } else { "FAILURE" });
        }
        for op in &txn.responses {
            if self.format == Format::Simple {
                say!("");
            }
            match &op.response {
                Some(Response::ResponsePut(put)) => self.put_message(put)?,
                Some(Response::ResponseRange(range)) => self.get_message(range)?,
                Some(Response::ResponseDeleteRange(del)) => self.del_message(del)?,
                other => say!("unexpected response {other:?}"),
            }
        }
        Ok(())
    }

    pub(super) fn watch(&self, answer: &[u8], message: &pb::WatchResponse) -> Result<(), Failure> {
        match self.format {
            Format::Protobuf => return out(answer),
            Format::Table => return Err(self.unsupported()),
            Format::Json => {
                let plain = json::message("etcdserverpb.WatchResponse", answer)?;
                let field = |name: &str| plain.get(name).cloned().unwrap_or(Value::Null);
                let shown = json!({
                    "Header": field("header"),
                    "Events": field("events"),
                    "CompactRevision": message.compact_revision,
                    "Canceled": message.canceled,
                    "Created": message.created,
                    "CancelReason": message.cancel_reason,
                });
                say!("{}", json::line(&shown));
                return Ok(());
            }
            Format::Fields => self.header(message.header.as_ref()),
            Format::Simple => {}
        }
        for event in &message.events {
            let kind = if event.r#type == 0 { "PUT" } else { "DELETE" };
            let none = mvccpb::KeyValue::default();
            let kv = event.kv.as_ref().unwrap_or(&none);
            if self.format == Format::Fields {
                say!("\"Type\" : {kind}");
                event.prev_kv.iter().for_each(|kv| self.kv_fields("Prev", kv));
                self.kv_fields("", kv);
            } else {
                say!("{kind}");
                event.prev_kv.iter().try_for_each(|kv| self.kv(kv))?;
                self.kv(kv)?;
            }
        }
        Ok(())
    }

    /// One key and value, each on a line, as bytes.
    fn kv(&self, kv: &mvccpb::KeyValue) -> Result<(), Failure> {
        let shown = |bytes: &Bytes| {
            if self.hex {
                Bytes::from(hex(bytes))
            } else {
                bytes.clone()
            }
        };
        if !self.value_only {
            out(&[&shown(&kv.key)[..], b"\n"].concat())?;
        }
        out(&[&shown(&kv.value)[..], b"\n"].concat())
    }

    fn kv_fields(&self, prefix: &str, kv: &mvccpb::KeyValue) {
        say!("\"{prefix}Key\" : {}", quote(&kv.key));
        say!("\"{prefix}CreateRevision\" : {}", kv.create_revision);
        say!("\"{prefix}ModRevision\" : {}", kv.mod_revision);
        say!("\"{prefix}Version\" : {}", kv.version);
        say!("\"{prefix}Value\" : {}", quote(&kv.value));
        say!("\"{prefix}Lease\" : {}", self.lease_id(kv.lease));
    }

    /// A lease ID in `fields`.
    pub(super) fn lease_id(&self, id: i64) -> String {
        if self.hex {
            format!("{id:016x}")
        } else {
            id.to_string()
        }
    }

    /// A member or cluster ID in `fields`.
    pub(super) fn id(&self, id: u64) -> String {
        if self.hex {
            format!("{id:x}")
        } else {
            id.to_string()
        }
    }

    pub(super) fn header(&self, header: Option<&ResponseHeader>) {
        let none = ResponseHeader::default();
        let header = header.unwrap_or(&none);
        say!("\"ClusterID\" : {}", self.id(header.cluster_id));
        say!("\"MemberID\" : {}", self.id(header.member_id));
        // Answers that are not of the store carry no revision.
        if header.revision > 0 {
            say!("\"Revision\" : {}", header.revision);
        }
        say!("\"RaftTerm\" : {}", header.raft_term);
    }

    /// Rows as a table, or comma separated.
    pub(super) fn rows(&self, head: &[&str], rows: &[Vec<String>]) {
        if self.format == Format::Table {
            say!("{}", table::render(head, rows));
        } else {
            rows.iter().for_each(|row| say!("{}", row.join(", ")));
        }
    }
}

/// A transaction's answer as the Go client's JSON has it: each answer below `Response`.
fn txn_json(txn: &pb::TxnResponse) -> Result<Value, Failure> {
    use prost::Message;
    let mut shown = serde_json::Map::new();
    if let Some(header) = &txn.header {
        shown.insert(
            "header".into(),
            json::message("etcdserverpb.ResponseHeader", &header.encode_to_vec())?,
        );
    }
    if txn.succeeded {
        shown.insert("succeeded".into(), Value::Bool(true));
    }
    let mut responses = Vec::new();
    for op in &txn.responses {
        let inner = match &op.response {
            Some(Response::ResponseRange(range)) => {
                json!({"response_range": json::message("etcdserverpb.RangeResponse", &range.encode_to_vec())?})
            }
            Some(Response::ResponsePut(put)) => {
                json!({"response_put": json::message("etcdserverpb.PutResponse", &put.encode_to_vec())?})
            }
            Some(Response::ResponseDeleteRange(del)) => {
                json!({"response_delete_range": json::message("etcdserverpb.DeleteRangeResponse", &del.encode_to_vec())?})
            }
            Some(Response::ResponseTxn(txn)) => json!({"response_txn": txn_json(txn)?}),
            None => json!({}),
        };
        responses.push(json!({"Response": inner}));
    }
    if !responses.is_empty() {
        shown.insert("responses".into(), Value::Array(responses));
    }
    Ok(Value::Object(shown))
}

/// Bytes to the standard output, as they are.
pub(super) fn out(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}
