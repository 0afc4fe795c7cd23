//! One call: messages out, messages in, and the outcome at the end, framed as gRPC frames them over HTTP/2.

use api::error::{Code, Status};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;

enum Answer {
    Waiting(h2::client::ResponseFuture),
    Body(RecvStream),
    Ended,
}

/// A call in progress: messages out, messages in.
pub struct Stream {
    send: SendStream<Bytes>,
    answer: Answer,
    buffer: BytesMut,
    receive_bytes_max: usize,
}

impl Stream {
    pub(crate) fn new(
        send: SendStream<Bytes>,
        response: h2::client::ResponseFuture,
        receive_bytes_max: usize,
    ) -> Stream {
        Stream {
            send,
            answer: Answer::Waiting(response),
            buffer: BytesMut::new(),
            receive_bytes_max,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// What became of the connection.
    pub async fn send<M: prost::Message>(&mut self, message: &M) -> Result<(), Status> {
        let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
        frame.put_u8(0);
        let length = u32::try_from(message.encoded_len()).map_err(|_| {
            Status::new(
                Code::ResourceExhausted,
                "the request is longer than gRPC can carry",
            )
        })?;
        frame.put_u32(length);
        message
            .encode(&mut frame)
            .map_err(|error| Status::with(Code::Internal, error.to_string()))?;
        self.send.send_data(frame.freeze(), false).map_err(broken)
    }

    /// Says that no more messages come.
    ///
    /// # Errors
    /// What became of the connection.
    pub fn finish(&mut self) -> Result<(), Status> {
        self.send.send_data(Bytes::new(), true).map_err(broken)
    }

    /// The next message; `None` at a good end.
    ///
    /// # Errors
    /// The server's status, or what became of the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match &mut self.answer {
                Answer::Ended => return Ok(None),
                Answer::Waiting(response) => {
                    let (head, body) = response.await.map_err(broken)?.into_parts();
                    if let Some(status) = status_of(&head.headers) {
                        self.answer = Answer::Ended;
                        status?;
                        continue;
                    }
                    if head.status != 200 {
                        return Err(Status::with(
                            Code::Unknown,
                            format!(
                                "unexpected HTTP status code received from server: {}",
                                head.status
                            ),
                        ));
                    }
                    self.answer = Answer::Body(body);
                }
                Answer::Body(body) => match body.data().await {
                    Some(chunk) => {
                        let chunk = chunk.map_err(broken)?;
                        body.flow_control()
                            .release_capacity(chunk.len())
                            .map_err(broken)?;
                        self.buffer.extend_from_slice(&chunk);
                    }
                    None => {
                        let trailers = body.trailers().await.map_err(broken)?.unwrap_or_default();
                        self.answer = Answer::Ended;
                        status_of(&trailers).unwrap_or_else(|| {
                            Err(Status::new(
                                Code::Internal,
                                "server closed the stream without sending trailers",
                            ))
                        })?;
                    }
                },
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(head) = self.buffer.get(..5) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 {
            return Err(Status::new(
                Code::Unimplemented,
                "the server compressed a message that was not to be",
            ));
        }
        if length > self.receive_bytes_max {
            let max = self.receive_bytes_max;
            return Err(Status::with(
                Code::ResourceExhausted,
                format!("grpc: received message larger than max ({length} vs. {max})"),
            ));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

pub(crate) fn broken(error: h2::Error) -> Status {
    Status::with(Code::Unavailable, format!("error reading from server: {error}"))
}

/// The outcome that headers or trailers carry, if they carry one.
fn status_of(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(2);
    let code = Code::from_number(code);
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let message = headers
        .get("grpc-message")
        .map(|value| percent_decode(value.as_bytes()))
        .unwrap_or_default();
    Some(Err(
        api::error::from_message(&message).unwrap_or(Status::with(code, message))
    ))
}

fn percent_decode(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoded_messages() {
        assert_eq!(percent_decode(b"a%20b%zz%4"), "a b%zz%4");
        assert_eq!(percent_decode("gr%C3%BC%C3%9Fe".as_bytes()), "grüße");
    }
}
