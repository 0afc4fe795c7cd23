//! The index against a plain rendering of etcd's key_index: generations as vectors.

use std::collections::BTreeMap;

use super::bulk::{Bulk, Row};
use super::*;

#[derive(Clone, Debug, Default)]
struct Generation {
    version: i64,
    create: i64,
    revs: Vec<Rev>,
}

/// One key as etcd holds it; the last generation is empty after a deletion.
#[derive(Clone, Debug)]
struct NaiveKey(Vec<Generation>);

impl NaiveKey {
    fn put(&mut self, rev: Rev) {
        let last = self.0.last_mut().unwrap();
        if last.revs.is_empty() {
            last.create = rev.main;
        }
        last.revs.push(rev);
        last.version += 1;
    }

    fn delete(&mut self, rev: Rev) -> bool {
        if self.0.last().unwrap().revs.is_empty() {
            return false;
        }
        self.put(rev);
        self.0.push(Generation::default());
        true
    }

    fn get(&self, at: i64) -> Option<(Rev, i64, i64)> {
        for (place, generation) in self.0.iter().enumerate().rev() {
            let Some(first) = generation.revs.first() else {
                continue;
            };
            if place + 1 != self.0.len() && generation.revs.last().unwrap().main <= at {
                return None;
            }
            if first.main <= at {
                let found = generation.revs.iter().rposition(|rev| rev.main <= at).unwrap();
                let later = (generation.revs.len() - found - 1) as i64;
                return Some((
                    generation.revs[found],
                    generation.create,
                    generation.version - later,
                ));
            }
        }
        None
    }

    /// The generation a compaction begins with, and the place of what it keeps there.
    fn cut(&self, at: i64) -> (usize, Option<usize>) {
        let mut place = 0;
        while place + 1 < self.0.len() && self.0[place].revs.last().unwrap().main < at {
            place += 1;
        }
        (place, self.0[place].revs.iter().rposition(|rev| rev.main <= at))
    }

    /// The kept revision as `compact` and as `keep` (for the hash) count it.
    fn kept(&self, at: i64) -> (Option<Rev>, Option<Rev>) {
        let (generation, found) = self.cut(at);
        let revs = &self.0[generation].revs;
        let compact = found.map(|place| revs[place]);
        let is_tombstone =
            found.is_some_and(|place| place + 1 == revs.len()) && generation + 1 != self.0.len();
        (compact, compact.filter(|_| !is_tombstone))
    }

    fn newest(&self) -> Rev {
        let revs = self.0.iter().rev().find_map(|generation| generation.revs.last());
        *revs.unwrap()
    }

    /// `false` if nothing is left.
    fn compact(&mut self, at: i64) -> bool {
        let (generation, found) = self.cut(at);
        self.0.drain(..generation);
        if let Some(found) = found {
            self.0[0].revs.drain(..found);
        }
        self.0.len() > 1 || !self.0[0].revs.is_empty()
    }
}

#[derive(Clone, Default)]
struct Naive(BTreeMap<Vec<u8>, NaiveKey>);

impl Naive {
    fn get(&self, key: &[u8], at: i64) -> Option<(Rev, i64, i64)> {
        self.0.get(key)?.get(at)
    }

    fn range(&self, start: &[u8], end: &[u8], at: i64) -> Vec<(Vec<u8>, Rev, i64, i64)> {
        let covered = self.0.iter().filter(|(key, _)| crate::covers(start, end, key));
        covered
            .filter_map(|(key, naive)| {
                naive
                    .get(at)
                    .map(|(rev, create, version)| (key.clone(), rev, create, version))
            })
            .collect()
    }
}

fn flat(info: Option<KeyInfo>) -> Option<(Rev, i64, i64)> {
    info.map(|info| (info.modified, info.create, info.version))
}

fn range(index: &KeyIndex, start: &[u8], end: &[u8], at: i64) -> Vec<(Vec<u8>, Rev, i64, i64)> {
    let mut found = Vec::new();
    index.visit(KeyRange::new(start, end), at, |key, info| {
        found.push((key.to_vec(), info.modified, info.create, info.version));
        true
    });
    assert_eq!(
        index.count(KeyRange::new(start, end), at),
        found.len() as u64,
        "count of {start:?}..{end:?} at {at}"
    );
    found
}

fn kept(index: &KeyIndex, at: i64, step: usize) -> (Vec<Rev>, Vec<Rev>) {
    let (mut compact, mut hash) = (Vec::new(), Vec::new());
    let mut from = Some(Vec::new());
    while let Some(start) = from {
        from = index.visit_kept(&start, at, step, |rev, tombstone| {
            compact.push(rev);
            if !tombstone {
                hash.push(rev);
            }
        });
    }
    (compact, hash)
}

fn key_of(random: &mut fastrand::Rng, keys: u32) -> Vec<u8> {
    let number = random.u32(0..keys);
    match number % 17 {
        0 => vec![b'x'; 300 + number as usize % 700],
        1 => format!("k{number}").into_bytes(),
        _ => format!("/registry/pods/{:03}/{number}", number % 13).into_bytes(),
    }
}

/// Everything that can be asked, at some places.
fn compare(index: &KeyIndex, naive: &Naive, random: &mut fastrand::Rng, oldest: i64, newest: i64, keys: u32) {
    for _ in 0..12 {
        let at = random.i64(oldest.max(0)..=newest + 1);
        let (start, end) = (key_of(random, keys), key_of(random, keys));
        assert_eq!(
            flat(index.get(&start, at)),
            naive.get(&start, at),
            "{start:?} at {at}"
        );
        for end in [&end[..], b"", b"\0", b"/registry/pods0"] {
            assert_eq!(
                range(index, &start, end, at),
                naive.range(&start, end, at),
                "{start:?}..{end:?} at {at}"
            );
            let walked = |newer_than, max| index.walk_len(KeyRange::new(&start, end), newer_than, max);
            if !end.is_empty() {
                let covered = |key: &&Vec<u8>| crate::covers(&start, end, key);
                let all = naive.0.keys().filter(covered).count();
                let newer = naive.0.iter().filter(|(_, key)| key.newest().main > at);
                let newer = newer.map(|(key, _)| key).filter(covered).count();
                assert_eq!(walked(i64::MIN, usize::MAX), all, "{start:?}..{end:?}");
                assert_eq!(walked(i64::MIN, 5), all.min(5), "{start:?}..{end:?}");
                let looked_at = walked(at, usize::MAX);
                assert!(
                    (newer..=all).contains(&looked_at) && (newer > 0 || at < newest || looked_at == 0),
                    "{looked_at} of {start:?}..{end:?} after {at}, where {newer} are newer"
                );
            }
        }
        let (compact, hash) = kept(index, at, random.usize(1..200));
        let theirs: Vec<_> = naive.0.values().map(|key| key.kept(at)).collect();
        assert_eq!(
            compact,
            theirs.iter().filter_map(|kept| kept.0).collect::<Vec<_>>(),
            "kept at {at}"
        );
        assert_eq!(
            hash,
            theirs.iter().filter_map(|kept| kept.1).collect::<Vec<_>>(),
            "kept for the hash at {at}"
        );
    }
    for (key, naive) in &naive.0 {
        let leaf = index.leaf_of(key);
        let ours: Vec<Rev> = leaf
            .revisions(leaf.find(key).unwrap())
            .iter()
            .map(|past| past.rev())
            .collect();
        let theirs: Vec<Rev> = naive
            .0
            .iter()
            .flat_map(|generation| generation.revs.clone())
            .collect();
        assert_eq!(ours, theirs, "revisions of {key:?}");
    }
    assert_eq!(range(index, b"", b"\0", newest), naive.range(b"", b"\0", newest));
    assert_eq!(index.len(), naive.range(b"", b"\0", newest).len() as u64);
}

fn run(seed: u64, operations: usize, keys: u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut index, mut naive) = (KeyIndex::default(), Naive::default());
    let (mut main, mut compacted) = (1, 0);
    let mut snapshots: Vec<(KeyIndex, Naive, i64, i64)> = Vec::new();
    for turn in 0..operations {
        main += 1;
        for sub in 0..random.u32(1..4) {
            let key = key_of(&mut random, keys);
            let rev = Rev::new(main, i64::from(sub));
            let before = naive.get(&key, main);
            if random.u8(0..4) == 0 {
                let deleted = naive.0.get_mut(&key).is_some_and(|naive| naive.delete(rev));
                assert_eq!(index.delete(&key, (main, sub)).is_some(), deleted);
            } else if naive
                .0
                .get(&key)
                .is_none_or(|naive| naive.0.iter().flat_map(|g| &g.revs).all(|r| r.main < main))
            {
                // A key deleted and put in one transaction cannot be; see the head of the module.
                naive
                    .0
                    .entry(key.clone())
                    .or_insert_with(|| NaiveKey(vec![Generation::default()]))
                    .put(rev);
                assert_eq!(flat(index.put(&key, (main, sub), sub == 1)), before);
                assert_eq!(index.get(&key, main).unwrap().leased, sub == 1);
            }
        }
        if random.u16(0..200) == 0 {
            compacted = random.i64(compacted..=main);
            naive.0.retain(|_, key| key.compact(compacted));
            let mut from = Some(Vec::new());
            while let Some(start) = from {
                from = index.compact(&start, compacted, random.usize(1..300));
            }
        }
        if random.u16(0..100) == 0 {
            snapshots.push((index.clone(), naive.clone(), compacted, main));
        }
        if random.u16(0..250) == 0 || turn + 1 == operations {
            compare(&index, &naive, &mut random, compacted, main, keys);
        }
        if snapshots.len() > 5 {
            let (index, naive, compacted, main) = snapshots.swap_remove(random.usize(0..5));
            compare(&index, &naive, &mut random, compacted, main, keys);
        }
    }
}

#[test]
fn agrees_with_etcds_key_index() {
    run(1, 3000, 20);
    run(2, 4000, 400);
    run(3, 6000, 4000);
}

#[test]
fn bulk_and_single_building_agree() {
    let mut random = fastrand::Rng::with_seed(5);
    for keys in [0, 1, 5, 500, 5000] {
        let (mut bulk, mut single, mut naive) = (Bulk::default(), KeyIndex::default(), Naive::default());
        for main in 2..i64::from(keys) * 2 {
            let key = key_of(&mut random, keys);
            let tombstone = random.u8(0..5) == 0 && naive.get(&key, main).is_some();
            let rev = Rev::new(main, 0);
            if tombstone {
                naive.0.get_mut(&key).unwrap().delete(rev);
                single.delete(&key, (main, 0));
            } else {
                naive
                    .0
                    .entry(key.clone())
                    .or_insert_with(|| NaiveKey(vec![Generation::default()]))
                    .put(rev);
                single.put(&key, (main, 0), false);
            }
            let (_, create, version) = naive.get(&key, main).unwrap_or_default();
            bulk.push(
                &key,
                Row {
                    main,
                    sub: 0,
                    create,
                    version,
                    leased: false,
                    tombstone,
                },
            );
        }
        let mut bulk = bulk.finish();
        let newest = i64::from(keys) * 2;
        compare(&bulk, &naive, &mut random, 0, newest, keys.max(1));
        compare(&single, &naive, &mut random, 0, newest, keys.max(1));
        for main in newest + 1..newest + 300 {
            let key = key_of(&mut random, keys.max(1));
            bulk.put(&key, (main, 0), false);
            naive
                .0
                .entry(key)
                .or_insert_with(|| NaiveKey(vec![Generation::default()]))
                .put(Rev::new(main, 0));
        }
        compare(&bulk, &naive, &mut random, 0, newest + 300, keys.max(1));
    }
}

#[test]
fn rows_whose_past_is_compacted_are_taken_as_etcd_takes_them() {
    let mut bulk = Bulk::default();
    let row = |main, create, version, tombstone| Row {
        main,
        sub: 0,
        create,
        version,
        leased: true,
        tombstone,
    };
    bulk.push(b"a", row(10, 4, 7, false));
    bulk.push(b"gone", row(11, 0, 0, true));
    bulk.push(b"a", row(12, 4, 8, false));
    bulk.push(b"gone", row(13, 0, 0, true));
    bulk.push(b"gone", row(14, 14, 1, false));
    let index = bulk.finish();
    assert_eq!(flat(index.get(b"a", 11)), Some((Rev::new(10, 0), 4, 7)));
    assert_eq!(flat(index.get(b"a", 12)), Some((Rev::new(12, 0), 4, 8)));
    assert_eq!(index.get(b"gone", 13), None);
    assert_eq!(flat(index.get(b"gone", 14)), Some((Rev::new(14, 0), 14, 1)));
    let leaf = index.leaf_of(b"gone");
    let mains: Vec<i64> = leaf
        .revisions(leaf.find(b"gone").unwrap())
        .iter()
        .map(|past| past.main)
        .collect();
    assert_eq!(mains, [11, 14]);
}

#[test]
fn keys_in_order_fill_the_leaves() {
    let mut index = KeyIndex::default();
    for number in 0..100_000u32 {
        index.put(
            format!("key-{number:08}").as_bytes(),
            (i64::from(number) + 2, 0),
            false,
        );
    }
    let bytes = index.heap_bytes() / 100_000;
    assert!(bytes < 60, "{bytes} bytes a key");
    assert_eq!(index.len(), 100_000);
}

#[test]
fn a_compaction_gives_memory_back() {
    let mut index = KeyIndex::default();
    for number in 0..20_000u32 {
        index.put(
            format!("key-{number:08}").as_bytes(),
            (i64::from(number) + 2, 0),
            false,
        );
    }
    let full = index.heap_bytes();
    for number in (0..20_000u32).filter(|number| number % 100 != 0) {
        index.delete(
            format!("key-{number:08}").as_bytes(),
            (i64::from(number) + 30_000, 0),
        );
    }
    let mut from = Some(Vec::new());
    while let Some(start) = from {
        from = index.compact(&start, 60_000, 1000);
    }
    assert_eq!((index.len(), range(&index, b"", b"\0", 60_000).len()), (200, 200));
    assert!(index.heap_bytes() < full / 10, "{} of {full}", index.heap_bytes());
}
