//! One page of a member over HTTP/1.1. Never follows redirects, never keeps a connection.

use client::Config;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{EXIT_ERROR, Failure};

/// The longest page that is read.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// The body of a page of the first endpoint.
pub(crate) async fn get(config: &Config, path: &str) -> Result<String, Failure> {
    let mut stream = client::open(config).await?;
    ask(&mut stream.io, &stream.authority, path).await
}

async fn ask<S>(stream: &mut S, host: &str, path: &str) -> Result<String, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    // By HTTP/1.0, which knows no chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_string()),
        Some((head, _)) => Err(Failure::new(EXIT_ERROR, head.lines().next().unwrap_or_default())),
        None => Err(Failure::new(EXIT_ERROR, "no answer in HTTP")),
    }
}
