//! The ids of members and clusters, computed from URLs and tokens. Never random.

use sha1::{Digest, Sha1};

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest: [u8; 20] = hash.finalize().into();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(id)
}

/// The id of a member with these peer URLs. A member of a new cluster has the cluster's token and
/// no time; one that is added at run time has an empty token and the time of the addition, in
/// seconds since 1970 (etcd: membership/member.go, computeMemberID).
pub fn member_id(peer_urls: &[String], token: &str, added_unix_seconds: Option<i64>) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_unix_seconds {
        hash.update(seconds.to_string());
    }
    first_eight_bytes(hash)
}

/// The id of a new cluster with these members.
pub fn cluster_id(member_ids: impl IntoIterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = member_ids.into_iter().collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight_bytes(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|url| url.to_string()).collect()
    }

    #[test]
    fn ids_are_those_of_etcd() {
        let id = member_id(&urls(&["http://localhost:2380"]), "etcd-cluster", None);
        assert_eq!(id, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id([id]), 0xcdf8_1819_4e3a_8c32);

        let three: Vec<u64> = (1..=3)
            .map(|n| member_id(&urls(&[&format!("http://10.0.0.{n}:2380")]), "tkn", None))
            .collect();
        assert_eq!(
            three,
            [
                0x938e_7772_cd22_77e3,
                0xa854_1d93_194c_0035,
                0xf0f4_3b40_119c_769e
            ]
        );
        assert_eq!(cluster_id(three.into_iter().rev()), 0xb7d3_aeee_6f77_f03c);

        let added = member_id(&urls(&["http://10.0.0.4:2380"]), "", Some(1_700_000_000));
        assert_eq!(added, 0x5153_79a9_0beb_2a3e);
    }

    #[test]
    fn the_order_of_urls_does_not_matter() {
        let id = member_id(&urls(&["http://b:1", "http://a:1"]), "t", None);
        assert_eq!(id, member_id(&urls(&["http://a:1", "http://b:1"]), "t", None));
    }
}
