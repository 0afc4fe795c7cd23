//! What a range request asks and what it answers.

use bytes::Bytes;

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
