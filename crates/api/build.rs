//! Compiles the .proto files in the build, without protoc.

use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 13] = [
    "auth.proto",
    "etcdserver.proto",
    "health.proto",
    "lease.proto",
    "membership.proto",
    "mvcc.proto",
    "raft.proto",
    "raft_internal.proto",
    "rpc.proto",
    "snap.proto",
    "v3election.proto",
    "v3lock.proto",
    "wal.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    prost_build::Config::new()
        .bytes(["."])
        .skip_debug(Vec::<String>::new())
        .include_file("messages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
