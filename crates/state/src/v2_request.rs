//! The legacy v2 requests that members of 3.5 log for themselves: a member's attributes and the
//! cluster version. Converts them as 3.6 does (etcd 3.6: etcdserver/apply_v2.go); never writes one.

use api::{etcdserverpb as pb, membershippb};
use bytes::Bytes;
use prost::Message;

use crate::auth::Caller;
use crate::entry::{Decoded, Request};
use crate::error::Error;
use crate::gojson::Object;
use crate::wire::{Fields, Payload};

/// The methods of v2 requests. As an InternalRaftRequest the bytes of one would have its method
/// where a message belongs, which tells the two apart.
const METHODS: [&[u8]; 6] = [b"PUT", b"POST", b"DELETE", b"GET", b"QGET", b"SYNC"];

/// Whether the data of a normal entry is a legacy v2 request, bare or wrapped. Go etcd 3.7 can not
/// read a log that has one: a member of that line refuses such a directory before it writes.
pub fn contains_v2_request(data: &Bytes) -> bool {
    find(data).is_some()
}

/// The bytes of the v2 request in an entry, if it is one.
pub(crate) fn find(data: &Bytes) -> Option<Bytes> {
    for field in Fields::of(data.clone()) {
        if let (2, Payload::Bytes(bytes)) = field.ok()? {
            let bare = METHODS.contains(&bytes.as_ref());
            return Some(if bare { data.clone() } else { bytes });
        }
    }
    None
}

/// Converts a v2 request to what 3.6 and later log instead.
pub(crate) fn convert(index: u64, data: Bytes) -> Result<Decoded, Error> {
    let undecodable = |reason: String| Error::Undecodable { index, reason };
    let legacy = pb::Request::decode(data).map_err(|error| undecodable(error.to_string()))?;
    let id = legacy.id();
    if legacy.method() != "PUT" {
        return Err(refused(index, &legacy));
    }
    if legacy.path() == "/0/version" {
        let ver = legacy.val.unwrap_or_default();
        let request = Request::ClusterVersionSet(membershippb::ClusterVersionSetRequest { ver });
        return Ok(Decoded {
            id,
            caller: Caller::default(),
            request,
        });
    }
    let Some(member_id) = attributes_path(legacy.path()) else {
        return Err(refused(index, &legacy));
    };
    let mut value = Object::parse(legacy.val().as_bytes()).map_err(undecodable)?;
    let attributes = membershippb::Attributes {
        name: value.string("name").map_err(undecodable)?,
        client_urls: value.strings("clientURLs").map_err(undecodable)?,
    };
    let request = Request::ClusterMemberAttrSet(membershippb::ClusterMemberAttrSetRequest {
        member_id,
        member_attributes: Some(attributes),
    });
    Ok(Decoded {
        id,
        caller: Caller::default(),
        request,
    })
}

fn refused(index: u64, legacy: &pb::Request) -> Error {
    Error::V2Request {
        index,
        method: legacy.method().to_string(),
        path: legacy.path().to_string(),
    }
}

/// The member whose attributes live at this path.
fn attributes_path(path: &str) -> Option<u64> {
    let id = path.strip_prefix("/0/members/")?.strip_suffix("/attributes")?;
    let hex = (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(id, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::decode;

    /// A request as 3.5.33 writes it: all scalars and texts, empty ones too.
    fn logged(id: u8, method: &str, path: &str, val: &str) -> Bytes {
        let mut data = vec![0x08, id];
        for (key, text) in [(0x12, method), (0x1a, path), (0x22, val)] {
            data.push(key);
            data.push(text.len() as u8);
            data.extend_from_slice(text.as_bytes());
        }
        data.extend_from_slice(&[0x28, 0, 0x32, 0, 0x38, 0, 0x48, 0, 0x50, 0, 0x58, 0, 0x60, 0]);
        data.extend_from_slice(&[0x68, 0, 0x70, 0, 0x78, 0, 0x80, 1, 0]);
        data.into()
    }

    #[test]
    fn the_two_requests_of_members_are_converted() {
        let version = logged(7, "PUT", "/0/version", "3.5.0");
        assert!(contains_v2_request(&version));
        let decoded = decode(3, &version).unwrap();
        let ver = "3.5.0".to_string();
        let expected = Request::ClusterVersionSet(membershippb::ClusterVersionSetRequest { ver });
        assert_eq!((decoded.id, decoded.request), (7, expected));

        let val = r#"{"name":"n1","clientURLs":["http://c:1"]}"#;
        let attributes = logged(8, "PUT", "/0/members/8e9e05c52164694d/attributes", val);
        assert!(contains_v2_request(&attributes));
        let expected = Request::ClusterMemberAttrSet(membershippb::ClusterMemberAttrSetRequest {
            member_id: 0x8e9e_05c5_2164_694d,
            member_attributes: Some(membershippb::Attributes {
                name: "n1".into(),
                client_urls: vec!["http://c:1".into()],
            }),
        });
        assert_eq!(decode(3, &attributes).unwrap().request, expected);
    }

    #[test]
    fn a_wrapped_request_is_converted() {
        let inner = logged(7, "PUT", "/0/version", "3.5.0");
        let mut data = vec![0x12, inner.len() as u8];
        data.extend_from_slice(&inner);
        let data = Bytes::from(data);
        assert!(contains_v2_request(&data));
        assert_eq!(decode(3, &data).unwrap(), decode(3, &inner).unwrap());
    }

    #[test]
    fn other_requests_are_refused() {
        for (method, path) in [
            ("SYNC", ""),
            ("GET", "/0/version"),
            ("PUT", "/1/user"),
            ("PUT", "/0/members/xyz/attributes"),
            ("PUT", "/0/members//attributes"),
        ] {
            let data = logged(7, method, path, "");
            assert!(contains_v2_request(&data));
            assert!(
                matches!(decode(3, &data), Err(Error::V2Request { index: 3, .. })),
                "{method} {path}"
            );
        }
        let unparsable = logged(7, "PUT", "/0/members/1/attributes", "{");
        assert!(matches!(decode(3, &unparsable), Err(Error::Undecodable { .. })));
    }

    #[test]
    fn requests_of_today_are_not_taken_for_old_ones() {
        let put = pb::InternalRaftRequest {
            header: Some(pb::RequestHeader {
                id: 1,
                ..Default::default()
            }),
            put: Some(pb::PutRequest {
                key: "PUT".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(!contains_v2_request(&put.encode_to_vec().into()));
    }
}
