//! How gRPC writes statuses and timeouts into headers, with the texts of grpc-go.

use std::time::Duration;

use api::error::{Code, Status};
use http::{HeaderMap, HeaderValue};

/// The headers that end a call.
pub fn trailers(result: &Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put(&mut trailers, result);
    trailers
}

/// Writes a status into headers.
pub fn put(headers: &mut HeaderMap, result: &Result<(), Status>) {
    match result {
        Ok(()) => {
            headers.insert("grpc-status", HeaderValue::from_static("0"));
        }
        Err(status) => {
            headers.insert("grpc-status", HeaderValue::from(u16::from(status.code.number())));
            let message = HeaderValue::from_maybe_shared(bytes::Bytes::from(encode(&status.message)));
            headers.insert("grpc-message", message.expect("what is encoded is printable"));
        }
    }
}

/// Percent-encodes a message: all but printable ASCII, and the percent sign.
fn encode(message: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// Reads `grpc-timeout`: up to eight digits and a unit.
pub fn parse_timeout(text: &str) -> Result<Duration, Status> {
    let malformed = |what: &str| {
        let quoted = format!("{text:?}");
        Status::with(
            Code::Internal,
            format!("malformed grpc-timeout: transport: {what}: {quoted}"),
        )
    };
    if text.len() < 2 {
        return Err(malformed("timeout string is too short"));
    }
    if text.len() > 9 {
        return Err(malformed("timeout string is too long"));
    }
    let Some((digits, unit)) = text.split_at_checked(text.len() - 1) else {
        return Err(malformed("timeout unit is not recognized"));
    };
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return Err(malformed("timeout unit is not recognized")),
    };
    let count = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let count: u64 = count.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        Status::with(
            Code::Internal,
            format!("malformed grpc-timeout: strconv.ParseUint: parsing {digits:?}: invalid syntax"),
        )
    })?;
    Ok(Duration::from_nanos(count.saturating_mul(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_as_go_does() {
        for (text, encoded) in [
            ("etcdserver: key not found", "etcdserver: key not found"),
            ("50% ü\n", "50%25 %C3%BC%0A"),
            ("", ""),
        ] {
            assert_eq!(encode(text), encoded);
        }
        let trailers = trailers(&Err(Status::new(Code::OutOfRange, "a%b")));
        assert_eq!(trailers["grpc-status"], "11");
        assert_eq!(trailers["grpc-message"], "a%25b");
    }

    #[test]
    fn timeouts_are_read() {
        for (text, millis) in [("1S", 1000), ("200m", 200), ("2H", 7_200_000), ("1500u", 1)] {
            assert_eq!(parse_timeout(text).unwrap().as_millis(), millis, "{text}");
        }
        assert!(parse_timeout("99999999H").is_ok());
        for text in ["", "S", "1", "x1S", "1s", "123456789S", "-1S", "1ü"] {
            let error = parse_timeout(text).unwrap_err();
            assert_eq!(error.code, Code::Internal);
            assert!(error.message.starts_with("malformed grpc-timeout: "), "{text}");
        }
    }
}
