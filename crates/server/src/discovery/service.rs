//! A discovery service behind gRPC: any etcd. Each request makes one attempt within the time for a request.

use std::time::Duration;

use api::etcdserverpb::{self as pb, watch_request::RequestUnion};
use client::{Client, Identity, Keepalive, Security, Stream, prefix_end};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use super::joining::Service;
use super::registry::Entry;
use crate::config::Discovery;

const TIMED_OUT: &str = "context deadline exceeded";
/// More than any list of members: the service is trusted as far as a size, but no further.
const RECEIVE_BYTES_MAX: usize = 64 << 20;

/// See the module.
pub struct Grpc {
    config: client::Config,
    request_timeout: Duration,
    /// The connection that served last.
    client: Option<Client>,
    watch: Option<Stream>,
}

impl Grpc {
    /// Reads the files of certificates. With a user it connects at once, as etcd's client does.
    ///
    /// # Errors
    /// In etcd's words.
    pub async fn new(discovery: &Discovery) -> Result<Grpc, String> {
        let security = Security {
            info: tls::Info {
                cert_file: discovery.cert.clone(),
                key_file: discovery.key.clone(),
                trusted_ca_file: discovery.cacert.clone(),
                insecure_skip_verify: discovery.insecure_skip_tls_verify,
                ..tls::Info::default()
            },
            insecure_transport: discovery.insecure_transport,
        };
        security
            .for_endpoints(&discovery.endpoints, "h2")
            .map_err(|error| error.to_string())?;
        // Both are needed: client/v3/client.go getToken.
        let knows_user = !discovery.user.is_empty() && !discovery.password.is_empty();
        let mut grpc = Grpc {
            config: client::Config {
                endpoints: discovery.endpoints.clone(),
                dial_timeout: discovery.dial_timeout,
                keepalive: Keepalive {
                    time: discovery.keepalive_time,
                    timeout: discovery.keepalive_timeout,
                },
                security,
                identity: knows_user
                    .then(|| Identity::User(discovery.user.clone(), discovery.password.clone())),
                receive_bytes_max: RECEIVE_BYTES_MAX,
            },
            request_timeout: discovery.request_timeout,
            client: None,
            watch: None,
        };
        if knows_user {
            grpc.connect(Instant::now() + discovery.dial_timeout).await?;
        }
        Ok(grpc)
    }

    async fn connect(&mut self, deadline: Instant) -> Result<(), String> {
        if self.client.is_none() {
            let connected = Client::connect(&self.config, Some(deadline));
            let connected = timeout_at(deadline, connected).await.map_err(|_| TIMED_OUT)?;
            self.client = Some(connected.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// The next connection is to another endpoint first: this one may accept connections and answer nothing.
    fn turn_away(&mut self) {
        self.client = None;
        self.watch = None;
        self.config.endpoints.rotate_left(1);
    }

    /// One request. A connection that it fails on is not used again.
    async fn ask<A: Message + Default>(&mut self, method: &str, request: &impl Message) -> Result<A, String> {
        let answer = self.ask_once(method, request).await;
        if answer.is_err() {
            self.turn_away();
        }
        answer
    }

    async fn ask_once<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, String> {
        let deadline = Instant::now() + self.request_timeout;
        self.connect(deadline).await?;
        let client = self.client.take().ok_or(TIMED_OUT)?;
        let answer = timeout_at(deadline, client.unary(method, request))
            .await
            .map_err(|_| TIMED_OUT)?;
        let answer = answer.map_err(|status| status.to_string())?;
        self.client = Some(client);
        A::decode(answer).map_err(|error| error.to_string())
    }

    async fn range(&mut self, key: &str, range_end: Vec<u8>) -> Result<pb::RangeResponse, String> {
        let request = pb::RangeRequest {
            key: key.as_bytes().to_vec().into(),
            range_end: range_end.into(),
            ..Default::default()
        };
        self.ask("/etcdserverpb.KV/Range", &request).await
    }

    async fn watch(&mut self, prefix: &str, from: i64) -> Result<Stream, String> {
        self.connect(Instant::now() + self.request_timeout).await?;
        let client = self.client.as_ref().ok_or(TIMED_OUT)?;
        let failed = |status: api::error::Status| status.to_string();
        let mut stream = client
            .stream("/etcdserverpb.Watch/Watch", &[])
            .await
            .map_err(failed)?;
        let create = pb::WatchCreateRequest {
            key: prefix.as_bytes().to_vec().into(),
            range_end: prefix_end(prefix.as_bytes()).into(),
            start_revision: from,
            ..Default::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        stream.send(&request).await.map_err(failed)?;
        Ok(stream)
    }
}

impl Service for Grpc {
    async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let answer = self.range(key, Vec::new()).await?;
        Ok(answer.kvs.first().map(|kv| kv.value.to_vec()))
    }

    async fn list(&mut self, prefix: &str) -> Result<(Vec<Entry>, i64), String> {
        let answer = self.range(prefix, prefix_end(prefix.as_bytes())).await?;
        let entries = answer.kvs.iter();
        let entries = entries.map(|kv| Entry::new(&kv.key, &kv.value, kv.create_revision));
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok((entries.collect(), revision))
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        let request = pb::PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let _: pb::PutResponse = self.ask("/etcdserverpb.KV/Put", &request).await?;
        Ok(())
    }

    async fn changes(&mut self, prefix: &str, from: i64) -> Result<Vec<Entry>, String> {
        let mut stream = match self.watch.take() {
            Some(stream) => stream,
            None => match self.watch(prefix, from).await {
                Ok(stream) => stream,
                Err(error) => {
                    self.turn_away();
                    return Err(error);
                }
            },
        };
        let answer = match stream.next().await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.turn_away();
                return Err("the watch ended".to_owned());
            }
            Err(status) => {
                self.turn_away();
                return Err(status.to_string());
            }
        };
        let answer = pb::WatchResponse::decode(answer).map_err(|error| error.to_string())?;
        if answer.canceled || answer.compact_revision != 0 {
            self.turn_away();
            return Err(answer.cancel_reason);
        }
        self.watch = Some(stream);
        let entries = answer.events.iter().filter_map(|event| event.kv.as_ref());
        let entries = entries.map(|kv| Entry::new(&kv.key, &kv.value, kv.create_revision));
        Ok(entries.collect())
    }

    async fn pause(&mut self, span: Duration) {
        sleep(span).await;
    }
}
