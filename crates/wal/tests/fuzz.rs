//! The fuzz bodies over what Go wrote and over mutations of it. `MAINSTAY_FUZZ_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::*;
use disk::{Disk, RealDisk};

const ROUNDS: u64 = 300;

/// All golden files whose name ends so.
fn corpus(suffix: &str) -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = Vec::new();
    for case in RealDisk.list(&golden).unwrap() {
        let dir = golden.join(case.name);
        for name in names(&RealDisk, &dir) {
            if name.ends_with(suffix) {
                files.push(read(&RealDisk, &dir.join(name)));
            }
        }
    }
    assert!(files.len() >= 3);
    files
}

fn rounds() -> u64 {
    let text = std::env::var("MAINSTAY_FUZZ_ROUNDS");
    text.map_or(ROUNDS, |text| text.parse().unwrap())
}

fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        match random.u8(..7) {
            0 => bytes.truncate(at),
            1 => {
                let to = (at + random.usize(..600)).min(bytes.len());
                bytes[at..to].fill(0);
            }
            2 => bytes.insert(at, random.u8(..)),
            3 => bytes.extend(std::iter::repeat_n(0, random.usize(..2000))),
            4 => {
                let from = random.usize(..=at);
                let part = bytes[from..at].to_vec();
                bytes.extend_from_slice(&part);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
        }
    }
}

fn check(corpus: &[Vec<u8>], body: fn(&[u8])) {
    for file in corpus {
        body(file);
    }
    for seed in 0..rounds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = corpus[random.usize(..corpus.len())].clone();
        mutate(&mut random, &mut bytes);
        body(&bytes);
    }
}

/// CVE-2020-15106.
#[test]
fn segments() {
    check(&corpus(".wal"), wal::fuzz::fuzz_segment);
}

#[test]
fn snapshots() {
    check(&corpus(".snap"), wal::fuzz::fuzz_snapshot);
}

/// CVE-2020-15112.
#[test]
fn records() {
    let mut small: Vec<Vec<u8>> = vec![b"\x08\x02\x10\x01\x18\x05\x22\x01x".to_vec()];
    small.push(b"\x08\x05\x10\x94\xbb\xc7\xed\x0e\x1a\x04\x08\0\x10\0".to_vec());
    small.push(b"\x08\x0b\x10\x02\x1a\x04\x08\x01\x28\x00".to_vec());
    check(&small, wal::fuzz::fuzz_record);
}
