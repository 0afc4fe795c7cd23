//! Clients that compress what they say.

use std::io::{Read as _, Write as _};

use super::*;

/// A message as a client sends it that compresses.
fn zipped(message: &[u8]) -> Bytes {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(message).unwrap();
    let zipped = zip.finish().unwrap();
    let mut out = BytesMut::from(&[1][..]);
    out.extend_from_slice(&u32::try_from(zipped.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&zipped);
    out.freeze()
}

impl Client {
    /// The encoding that an answer names, and its bytes as they come.
    fn raw(&mut self, path: &str, body: Bytes) -> (Option<String>, Bytes) {
        let request = Self::request(path)
            .header("content-type", "application/grpc")
            .header("grpc-encoding", "gzip");
        let mut requests = self.requests.clone();
        let talk = async move {
            requests = requests.ready().await.unwrap();
            let request = request.body(()).unwrap();
            let (response, mut send) = requests.send_request(request, false).unwrap();
            send.send_data(body, true).unwrap();
            let (head, mut body) = response.await.unwrap().into_parts();
            let encoding = head.headers.get("grpc-encoding");
            let encoding = encoding.map(|value| value.to_str().unwrap().to_string());
            let mut bytes = BytesMut::new();
            while let Some(piece) = body.data().await {
                bytes.extend_from_slice(&piece.unwrap());
            }
            (encoding, bytes.freeze())
        };
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, talk).await })
            .unwrap()
    }
}

#[test]
fn who_compresses_is_answered_so() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let mut client = Client::connect(&running.client);
    client.put("key", &"value".repeat(100));
    let range = pb::RangeRequest {
        key: Bytes::from_static(b"key"),
        ..Default::default()
    };
    // One answer, and a stream of answers.
    for path in ["/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream"] {
        let (encoding, bytes) = client.raw(path, zipped(&range.encode_to_vec()));
        assert_eq!(encoding.as_deref(), Some("gzip"), "{path}");
        assert_eq!(bytes[0], 1, "{path}");
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        assert!(length < 300, "{path}: {length} bytes");
        let mut message = Vec::new();
        flate2::read::GzDecoder::new(&bytes[5..5 + length])
            .read_to_end(&mut message)
            .unwrap();
        let message = String::from_utf8_lossy(&message).into_owned();
        assert!(message.contains(&"value".repeat(100)), "{path}: {message}");
    }
    // A refusal is nothing to compress.
    let (encoding, bytes) = client.raw("/etcdserverpb.KV/Range", zipped(b"\x0a\x00"));
    assert_eq!((encoding, bytes.len()), (None, 0));
    drop(client);
    running.server.stop(PATIENCE).unwrap();
}
