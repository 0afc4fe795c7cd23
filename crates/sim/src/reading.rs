//! Range requests of every kind, and whether an answer is what the log says of its revision: limits, orders, filters,
//! counts, keys alone, the past.

use api::etcdserverpb as pb;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::mvccpb::KeyValue;

use crate::model::Version;
use crate::truth::{Truth, text};

/// Makes a read as special as chance wants it.
pub fn embellish(read: &mut pb::RangeRequest, truth: &Truth, rng: &mut fastrand::Rng) {
    let now = truth.model.revision;
    let some_revision = |rng: &mut fastrand::Rng| (now - rng.i64(0..80)).max(1);
    if rng.u8(0..3) == 0 {
        read.limit = rng.i64(1..8);
    }
    if rng.u8(0..4) == 0 {
        read.revision = some_revision(rng);
    }
    match rng.u8(0..8) {
        0 => read.count_only = true,
        1 => read.keys_only = true,
        2 | 3 => {
            // Without an order the limit comes before the sort, as in etcd: not what the name says.
            read.set_sort_order(match rng.bool() {
                true => SortOrder::Ascend,
                false => SortOrder::Descend,
            });
            let targets = [
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ];
            read.set_sort_target(targets[rng.usize(0..targets.len())]);
        }
        4 => match rng.u8(0..4) {
            0 => read.min_mod_revision = some_revision(rng),
            1 => read.max_mod_revision = some_revision(rng),
            2 => read.min_create_revision = some_revision(rng),
            _ => read.max_create_revision = some_revision(rng),
        },
        _ => {}
    }
}

/// What an answer is sorted by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Bytes(Vec<u8>),
    Number(i64),
}

fn by(target: SortTarget, key: &[u8], version: &Version) -> By {
    match target {
        SortTarget::Key => By::Bytes(key.to_vec()),
        SortTarget::Version => By::Number(version.version),
        SortTarget::Create => By::Number(version.create),
        SortTarget::Mod => By::Number(version.revision),
        SortTarget::Value => By::Bytes(version.value.clone().unwrap_or_default()),
    }
}

/// Whether this is the answer to `read` of a member at `revision`.
pub fn judge(
    truth: &Truth,
    read: &pb::RangeRequest,
    answer: &pb::RangeResponse,
    revision: i64,
) -> Result<(), String> {
    let at = if read.revision > 0 {
        read.revision
    } else {
        revision
    };
    if at > revision {
        return Err(format!("it reads revision {at} at {revision}"));
    }
    let all = truth.model.range(&read.key, &read.range_end, at);
    if answer.count != all.len() as i64 {
        return Err(format!("it counts {}, the log {}", answer.count, all.len()));
    }
    if read.count_only {
        return match answer.kvs.is_empty() && !answer.more {
            true => Ok(()),
            false => Err("it counts and answers pairs".to_owned()),
        };
    }
    let within = |min: i64, max: i64, is: i64| (min == 0 || is >= min) && (max == 0 || is <= max);
    let mut wanted: Vec<(&[u8], &Version)> = all
        .into_iter()
        .filter(|(_, version)| {
            within(read.min_mod_revision, read.max_mod_revision, version.revision)
                && within(read.min_create_revision, read.max_create_revision, version.create)
        })
        .collect();
    let target = read.sort_target();
    if read.sort_order() != SortOrder::None {
        wanted.sort_by_key(|(key, version)| by(target, key, version));
        if read.sort_order() == SortOrder::Descend {
            wanted.reverse();
        }
    }
    let limit = usize::try_from(read.limit).ok().filter(|limit| *limit > 0);
    let shown = wanted.len().min(limit.unwrap_or(usize::MAX));
    if answer.more != (shown < wanted.len()) || answer.kvs.len() != shown {
        return Err(format!(
            "{} pairs, more: {}; the log has {} of which {shown} were asked for",
            answer.kvs.len(),
            answer.more,
            wanted.len()
        ));
    }
    let mut before: Option<&[u8]> = None;
    for (kv, (key, version)) in answer.kvs.iter().zip(&wanted) {
        // Equal ones may come in any order, but none twice.
        let found = wanted.iter().find(|(key, _)| *key == kv.key.as_ref());
        let fits = found.is_some_and(|(own, made)| {
            by(target, own, made) == by(target, key, version) && same(kv, made, read.keys_only)
        });
        if !fits || before == Some(kv.key.as_ref()) {
            return Err(format!("{kv:?} where {} {version:?} was wanted", text(key)));
        }
        before = Some(kv.key.as_ref());
    }
    Ok(())
}

fn same(kv: &KeyValue, version: &Version, keys_only: bool) -> bool {
    let numbers = (kv.mod_revision, kv.create_revision, kv.version)
        == (version.revision, version.create, version.version);
    match keys_only {
        // 3.7 leaves out the lease as well.
        true => numbers && kv.value.is_empty() && (kv.lease == 0 || kv.lease == version.lease),
        false => numbers && kv.lease == version.lease && version.value.as_deref() == Some(kv.value.as_ref()),
    }
}
