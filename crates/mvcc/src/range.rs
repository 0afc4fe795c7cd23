//! What a range request asks and what it answers.

use bytes::Bytes;

use crate::record::strip_value;
use crate::schema::KEY;
use crate::{Error, KeyInfo, Reader, Record, Rev, Wait};

/// What the pairs of an answer are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key: the order in which the index has them.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value, bytewise.
    Value,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// As it comes; but ascending if the target is not the key.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// A range request. The default, with a key, reads that key now.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeOptions<'a> {
    /// First key.
    pub key: &'a [u8],
    /// Empty: only `key`. One zero byte: all keys from `key` on. Otherwise the first key not meant.
    pub range_end: &'a [u8],
    /// The most pairs to answer; 0 or less: all.
    pub limit: i64,
    /// The revision to read at; 0 or less: the current one.
    pub revision: i64,
    /// Order of the answer.
    pub sort_order: SortOrder,
    /// What the order is by.
    pub sort_target: SortTarget,
    /// Unless 0: leaves out pairs modified before.
    pub min_mod_revision: i64,
    /// Unless 0: leaves out pairs modified after.
    pub max_mod_revision: i64,
    /// Unless 0: leaves out pairs made before.
    pub min_create_revision: i64,
    /// Unless 0: leaves out pairs made after.
    pub max_create_revision: i64,
    /// Leaves out the values.
    pub keys_only: bool,
    /// With `keys_only`: answers from the index where the order allows, without leases, as 3.7 does. The 3.5 and
    /// 3.6 lines read the pairs and keep the lease.
    pub fast_keys_only: bool,
    /// Answers only the count.
    pub count_only: bool,
    /// Stops at the limit instead of counting all keys (the chunks of a range stream).
    pub skip_total: bool,
}

impl RangeOptions<'_> {
    /// Whether the index has the pairs in the order asked for. etcd: etcdserver/txn/range.go.
    pub fn is_default_order(&self) -> bool {
        self.sort_order == SortOrder::None
            || self.sort_target == SortTarget::Key && self.sort_order == SortOrder::Ascend
    }

    /// Whether pairs are left out by their revisions.
    pub fn has_filters(&self) -> bool {
        [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ] != [0; 4]
    }

    /// How many keys are to be looked up: with a limit one more, to know whether there are more.
    fn fetch_max(&self) -> usize {
        // A target other than the key sorts even with no order given, but then etcd has applied the limit before.
        if self.limit <= 0 || !self.is_default_order() || self.has_filters() {
            return usize::MAX;
        }
        usize::try_from(self.limit.saturating_add(1)).unwrap_or(usize::MAX)
    }

    fn order(&self) -> SortOrder {
        match self.sort_order {
            SortOrder::None if self.sort_target != SortTarget::Key => SortOrder::Ascend,
            order => order,
        }
    }

    fn filters_out(&self, create: i64, modified: i64) -> bool {
        let out = |min: i64, max: i64, is: i64| min != 0 && is < min || max != 0 && is > max;
        out(self.min_mod_revision, self.max_mod_revision, modified)
            || out(self.min_create_revision, self.max_create_revision, create)
    }
}

/// A range answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// Encoded `mvccpb.KeyValue`s, ready to be embedded.
    pub kvs: Vec<Bytes>,
    /// Keys in the range, filters and limit not regarded.
    pub count: i64,
    /// Whether the limit left some out.
    pub more: bool,
    /// The revision that the answer's header shows: the current one, not the one read at.
    pub revision: i64,
}

/// Whether `key` is in the range that `start` and `range_end` name (see [`RangeOptions::range_end`]).
pub fn covers(start: &[u8], range_end: &[u8], key: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

/// A key found in the index.
struct Found {
    /// Where its bytes are among those of all found keys.
    key: std::ops::Range<usize>,
    info: KeyInfo,
}

/// Answers a range request.
pub(crate) fn execute(
    reader: &Reader<'_>,
    options: &RangeOptions<'_>,
    wait: Wait,
) -> Result<RangeResult, Error> {
    let at = reader.check_revision(options.revision)?;
    let mut result = RangeResult {
        revision: reader.revision(),
        ..RangeResult::default()
    };
    if options.count_only {
        result.count = reader.count(options.key, options.range_end, at);
        return Ok(result);
    }
    let fast = options.keys_only && options.fast_keys_only && options.sort_target != SortTarget::Value;
    // Keys are only copied where they are needed: to sort by them, or to make pairs of them.
    let keep_keys = fast || options.sort_target == SortTarget::Key && !options.is_default_order();
    let mut keys = Vec::new();
    let mut found = Vec::new();
    let fetch_max = options.fetch_max();
    reader.visit(options.key, options.range_end, at, |key, info| {
        let start = keys.len();
        if keep_keys {
            keys.extend_from_slice(key);
        }
        found.push(Found {
            key: start..keys.len(),
            info: *info,
        });
        found.len() < fetch_max
    });
    result.count = if found.len() < fetch_max || options.skip_total {
        found.len() as i64
    } else {
        reader.count(options.key, options.range_end, at)
    };
    if options.has_filters() {
        found.retain(|found| !options.filters_out(found.info.create, found.info.modified.main));
    }
    let limit = usize::try_from(options.limit).ok().filter(|&limit| limit > 0);
    result.more = limit.is_some_and(|limit| found.len() > limit);
    let limit = limit.unwrap_or(usize::MAX);
    let mut kvs = None;
    match (options.order(), options.sort_target) {
        (SortOrder::None, _) | (SortOrder::Ascend, SortTarget::Key) => {}
        (order, SortTarget::Value) => {
            let mut records = read(reader, &found, wait)?;
            sort_by_value(&mut records, order)?;
            kvs = Some(records);
        }
        (order, target) => sort(&mut found, &keys, order, target),
    }
    result.kvs = match kvs {
        Some(kvs) => kvs,
        None => {
            found.truncate(limit);
            if fast {
                found.iter().map(|found| key_only(found, &keys)).collect()
            } else {
                read(reader, &found, wait)?
            }
        }
    };
    result.kvs.truncate(limit);
    if options.keys_only && !fast {
        for kv in &mut result.kvs {
            *kv = strip_value(kv).ok_or_else(|| undecodable(kv))?;
        }
    }
    Ok(result)
}

fn read(reader: &Reader<'_>, found: &[Found], wait: Wait) -> Result<Vec<Bytes>, Error> {
    if let [one] = found {
        return Ok(vec![reader.record(one.info.modified, wait)?]);
    }
    let revs: Vec<Rev> = found.iter().map(|found| found.info.modified).collect();
    reader.records(&revs, wait)
}

fn key_only(found: &Found, keys: &[u8]) -> Bytes {
    let record = Record {
        key: &keys[found.key.clone()],
        create: found.info.create,
        modified: found.info.modified.main,
        version: found.info.version,
        value: &[],
        lease: 0,
    };
    record.to_bytes()
}

/// Equal pairs keep the order of their keys, also when the largest come first. (etcd does not say how it orders
/// them; up to twelve pairs it does this.)
fn sort(found: &mut [Found], keys: &[u8], order: SortOrder, target: SortTarget) {
    let by = |found: &Found| match target {
        SortTarget::Version => found.info.version,
        SortTarget::Create => found.info.create,
        _ => found.info.modified.main,
    };
    match (target, order) {
        (SortTarget::Key, SortOrder::Descend) => {
            found.sort_by(|a, b| keys[b.key.clone()].cmp(&keys[a.key.clone()]))
        }
        (SortTarget::Key, _) => {}
        (_, SortOrder::Descend) => found.sort_by_key(|found| std::cmp::Reverse(by(found))),
        _ => found.sort_by_key(by),
    }
}

fn sort_by_value(records: &mut Vec<Bytes>, order: SortOrder) -> Result<(), Error> {
    let mut pairs = Vec::with_capacity(records.len());
    for (place, record) in records.iter().enumerate() {
        pairs.push((
            Record::decode(record).ok_or_else(|| undecodable(record))?.value,
            place,
        ));
    }
    match order {
        SortOrder::Descend => pairs.sort_by(|a, b| b.0.cmp(a.0)),
        _ => pairs.sort_by(|a, b| a.0.cmp(b.0)),
    }
    let sorted = pairs.iter().map(|&(_, place)| records[place].clone()).collect();
    *records = sorted;
    Ok(())
}

fn undecodable(record: &[u8]) -> Error {
    let shown: String = record.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    Error::corrupt(KEY, &[], format!("a value is not a key-value pair: {shown}"))
}
