//! snapshot save: streams a member's data file into a file, whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use api::etcdserverpb as pb;
use serde_json::json;

use super::{Context, decode};
use crate::flags::Command;
use crate::text::{bytes, duration, of_system};
use crate::{EXIT_INTERRUPTED, Failure, log};
use client::Client;

pub(super) const SAVE: Command = Command {
    path: &["snapshot", "save"],
    usage: "<filename>",
    help: "Stores an etcd node backend snapshot to a given file",
    flags: &[],
};

pub(super) async fn save(context: &Context) -> Result<(), Failure> {
    let [path] = context.args() else {
        return Err(Failure::bad_args("snapshot save expects one argument <filename>"));
    };
    let endpoints = context.endpoints();
    if endpoints.len() != 1 {
        return Err(Failure::new(
            EXIT_INTERRUPTED,
            format!(
                "snapshot must be requested to one selected node, not multiple [{}]",
                endpoints.join(" ")
            ),
        ));
    }
    let client = context.connect().await?;
    let part = PathBuf::from(format!("{path}.part"));
    let saved = fetch(&client, &part, &endpoints[0]);
    // Only a time-out that was asked for limits a transfer of unknown length.
    let saved = if context.parsed.given("command-timeout") {
        super::within(context.timeout(), saved).await
    } else {
        saved.await
    };
    let version = saved.and_then(|version| {
        std::fs::rename(&part, path)?;
        Ok(version)
    });
    let version = version.map_err(|failure| {
        let _ = std::fs::remove_file(&part);
        failure.with_code(EXIT_INTERRUPTED)
    })?;
    log::json_info("saved", &[("path", json!(path))]);
    say!("Snapshot saved at {path}");
    if !version.is_empty() {
        say!("Server version {version}");
    }
    Ok(())
}

/// Writes the stream to `part` and syncs it; gives the storage version that the server named.
async fn fetch(client: &Client, part: &Path, endpoint: &str) -> Result<String, Failure> {
    let start = Instant::now();
    let open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part);
    let mut file: File = open.map_err(|error| {
        Failure::new(
            EXIT_INTERRUPTED,
            format!(
                "could not open {0} (open {0}: {1})",
                part.display(),
                of_system(&error)
            ),
        )
    })?;
    let shown = json!(part.display().to_string());
    log::json_info("created temporary db file", &[("path", shown)]);
    log::json_info("fetching snapshot", &[("endpoint", json!(endpoint))]);
    let mut stream = client.stream("/etcdserverpb.Maintenance/Snapshot", &[]).await?;
    stream.send(&pb::SnapshotRequest {}).await?;
    stream.finish()?;
    let (mut size, mut version) = (0u64, String::new());
    while let Some(answer) = stream.next().await? {
        let chunk: pb::SnapshotResponse = decode(&answer)?;
        file.write_all(&chunk.blob)?;
        if size == 0 {
            version = chunk.version;
        }
        size += chunk.blob.len() as u64;
    }
    if size % 512 != 32 {
        return Err(Failure::new(
            EXIT_INTERRUPTED,
            format!("sha256 checksum not found [bytes: {size}]"),
        ));
    }
    file.sync_all()?;
    log::json_info(
        "fetched snapshot",
        &[
            ("endpoint", json!(endpoint)),
            ("size", json!(bytes(size))),
            ("took", json!(duration(start.elapsed()))),
            ("etcd-version", json!(version)),
        ],
    );
    Ok(version)
}
