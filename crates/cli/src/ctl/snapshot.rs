//! snapshot save: streams a member's data file into a file, whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::etcdserverpb as pb;

use super::{Context, decode};
use crate::client::Client;
use crate::flags::Command;
use crate::text::bytes;
use crate::{EXIT_INTERRUPTED, Failure};

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
    let saved = fetch(&client, &part);
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
    say!("Snapshot saved at {path}");
    if !version.is_empty() {
        say!("Server version {version}");
    }
    Ok(())
}

/// Writes the stream to `part` and syncs it; gives the storage version that the server named.
async fn fetch(client: &Client, part: &Path) -> Result<String, Failure> {
    let open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part);
    let mut file: File = open.map_err(|error| {
        Failure::new(
            EXIT_INTERRUPTED,
            format!("could not open {} ({error})", part.display()),
        )
    })?;
    let mut stream = client.stream("/etcdserverpb.Maintenance/Snapshot", &[]).await?;
    stream.send(&pb::SnapshotRequest {}).await?;
    stream.finish()?;
    let (mut size, mut version) = (0u64, String::new());
    while let Some(answer) = stream.next().await? {
        let chunk: pb::SnapshotResponse = decode(&answer)?;
        file.write_all(&chunk.blob)?;
        if size == 0 {
            version = chunk.version;
            eprintln!(
                "fetching snapshot of {} ...",
                bytes(chunk.remaining_bytes + chunk.blob.len() as u64)
            );
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
    Ok(version)
}
