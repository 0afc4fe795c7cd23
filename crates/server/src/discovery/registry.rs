//! What a discovery service holds of a cluster: where it is, and who has registered in which order. Never asks anybody.
//!
//! etcd: server/etcdserver/api/v3discovery/discovery.go.

use member::InitialMember;

use crate::server::initial_cluster;

const PREFIX: &str = "/_etcd/registry";

/// The key of a cluster's size.
pub fn size_key(token: &str) -> String {
    join(&[PREFIX, token, "_config/size"])
}

/// The prefix of the keys of its members.
pub fn members_prefix(token: &str) -> String {
    join(&[PREFIX, token, "members"])
}

/// The key of one member.
pub fn member_key(token: &str, member_id: u64) -> String {
    join(&[PREFIX, token, "members", &format!("{member_id:x}")])
}

/// Go's `path.Join` of an absolute path.
fn join(parts: &[&str]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in parts.iter().flat_map(|part| part.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// A key below the prefix of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// `name=url,name=url`.
    pub value: String,
    /// The revision that made it.
    pub created: i64,
}

impl Entry {
    /// As the service has it; blanks at the ends do not count.
    pub fn new(key: &[u8], value: &[u8], created: i64) -> Entry {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Entry {
            key: text(key),
            value: text(value),
            created,
        }
    }
}

/// Who has registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    token: String,
    /// In the order in which they registered.
    entries: Vec<Entry>,
}

impl Registry {
    /// Nobody yet.
    pub fn new(token: &str) -> Registry {
        Registry {
            token: token.to_owned(),
            entries: Vec::new(),
        }
    }

    /// How many have registered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes one more.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn add(&mut self, entry: Entry) -> Result<(), &'static str> {
        if !entry.key.starts_with(&members_prefix(&self.token)) {
            return Err("invalid peer registry key");
        }
        // So does a key that was removed, which has no value.
        if !entry.value.contains('=') {
            return Err("invalid peer info returned from discovery service");
        }
        if self.entries.iter().any(|known| known.key == entry.key) {
            return Err("found duplicate peer from discovery service");
        }
        let at = self
            .entries
            .partition_point(|known| known.created < entry.created);
        self.entries.insert(at, entry);
        Ok(())
    }

    /// Whether there is room for a member among the first `size`, be it there already or not.
    pub fn has_room_for(&self, member_id: u64, size: usize) -> bool {
        let key = member_key(&self.token, member_id);
        let place = self.entries.iter().position(|entry| entry.key == key);
        place.unwrap_or(self.entries.len()) < size
    }

    /// The first `size` members, as `--initial-cluster` would name them.
    pub fn cluster(&self, size: usize) -> String {
        let first = self.entries.iter().take(size);
        let values: Vec<&str> = first.map(|entry| entry.value.as_str()).collect();
        values.join(",")
    }

    /// The same, read.
    pub fn members(&self, size: usize) -> Result<Vec<InitialMember>, &'static str> {
        initial_cluster(&self.cluster(size)).map_err(|_| "discovery: invalid peer URL")
    }
}

/// Reads the value of the key of a cluster's size.
pub fn read_size(value: &[u8]) -> Option<usize> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    usize::try_from(number).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, value: &str, created: i64) -> Entry {
        Entry::new(member_key("t", id).as_bytes(), value.as_bytes(), created)
    }

    #[test]
    fn keys_are_those_of_etcd() {
        assert_eq!(size_key("t"), "/_etcd/registry/t/_config/size");
        assert_eq!(members_prefix("t"), "/_etcd/registry/t/members");
        assert_eq!(member_key("t", 0xab), "/_etcd/registry/t/members/ab");
        assert_eq!(size_key("/a//b/../c/"), "/_etcd/registry/a/c/_config/size");
    }

    #[test]
    fn sizes_are_numbers_above_zero() {
        for (value, expect) in [
            ("3", Some(3)),
            ("+3", Some(3)),
            ("0", None),
            ("-1", None),
            ("3 ", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(read_size(value.as_bytes()), expect, "{value:?}");
        }
    }

    #[test]
    fn the_first_to_register_make_the_cluster() {
        let mut registry = Registry::new("t");
        for member in [
            entry(1, "a=http://a:1", 7),
            entry(2, " b=http://b:1,b=http://b:2\n", 5),
            entry(3, "c=http://c:1", 9),
        ] {
            registry.add(member).unwrap();
        }
        assert_eq!(registry.cluster(2), "b=http://b:1,b=http://b:2,a=http://a:1");
        let names: Vec<String> = registry.members(3).unwrap().into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["b", "a", "c"]);
        for (id, size, expect) in [
            (3, 2, false),
            (3, 3, true),
            (9, 3, false),
            (9, 4, true),
            (2, 1, true),
        ] {
            assert_eq!(registry.has_room_for(id, size), expect, "{id} of {size}");
        }
    }

    #[test]
    fn what_is_no_member_is_refused() {
        let mut registry = Registry::new("t");
        registry.add(entry(1, "a=http://a:1", 1)).unwrap();
        for (entry, error) in [
            (
                entry(1, "a=http://x:1", 2),
                "found duplicate peer from discovery service",
            ),
            (
                entry(2, "", 2),
                "invalid peer info returned from discovery service",
            ),
            (Entry::new(b"/x", b"a=b", 2), "invalid peer registry key"),
        ] {
            assert_eq!(registry.add(entry), Err(error));
        }
        registry.add(entry(2, "b=nonsense", 2)).unwrap();
        assert_eq!(registry.members(2), Err("discovery: invalid peer URL"));
    }
}
