//! The gateway's work: picks a member for each connection, one after another, leaves those alone
//! that failed, and tries them again now and then (server/proxy/tcpproxy).

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::config::Span;
use crate::log::Log;

/// Pause after a failure to accept, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A member.
pub struct Remote {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    active: Cell<bool>,
}

impl Remote {
    /// A member that is tried until it fails.
    pub fn new(host: &str, port: u16) -> Remote {
        Remote {
            host: host.to_string(),
            port,
            active: Cell::new(true),
        }
    }

    /// Where to connect to.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The gateway.
pub struct Proxy {
    remotes: Vec<Remote>,
    next: Cell<usize>,
    retry_delay: Duration,
    log: Log,
}

impl Proxy {
    /// A gateway to `remotes`.
    pub fn new(remotes: Vec<Remote>, retry_delay: Duration, log: Log) -> Rc<Proxy> {
        Rc::new(Proxy {
            remotes,
            next: Cell::new(0),
            retry_delay,
            log,
        })
    }

    /// Passes connections on for as long as the process lives.
    pub async fn run(self: Rc<Proxy>, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        self.log
            .info("ready to proxy client requests")
            .list("endpoints", self.remotes.iter().map(Remote::address))
            .emit();
        LocalSet::new()
            .run_until(async {
                spawn_local(self.clone().reactivate());
                loop {
                    match listener.accept().await {
                        Ok((client, _)) => {
                            spawn_local(self.clone().serve(client));
                        }
                        Err(error) => {
                            let line = self.log.warn("failed to accept a connection");
                            line.error(error).emit();
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            })
            .await
    }

    /// The next member in turn that has not failed.
    fn pick(&self) -> Option<&Remote> {
        for _ in 0..self.remotes.len() {
            let at = self.next.get();
            self.next.set((at + 1) % self.remotes.len());
            if self.remotes[at].active.get() {
                return Some(&self.remotes[at]);
            }
        }
        None
    }

    async fn serve(self: Rc<Proxy>, mut client: TcpStream) {
        while let Some(remote) = self.pick() {
            match TcpStream::connect(remote.address()).await {
                Ok(mut member) => {
                    // Go's connections send at once; a gateway that gathers would only delay.
                    let _ = client.set_nodelay(true).and_then(|()| member.set_nodelay(true));
                    // Its end is the end of both connections; neither's fault is the gateway's.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut member).await;
                    return;
                }
                Err(error) => {
                    remote.active.set(false);
                    self.warn("deactivated endpoint", remote, &error);
                }
            }
        }
    }

    fn warn(&self, text: &str, remote: &Remote, error: &io::Error) {
        self.log
            .warn(text)
            .text("address", remote.address())
            .show("interval", span(self.retry_delay))
            .error(error)
            .emit();
    }

    /// Tries those that failed, each time the delay is over.
    async fn reactivate(self: Rc<Proxy>) {
        loop {
            tokio::time::sleep(self.retry_delay).await;
            for at in 0..self.remotes.len() {
                if !self.remotes[at].active.get() {
                    spawn_local(self.clone().try_again(at));
                }
            }
        }
    }

    async fn try_again(self: Rc<Proxy>, at: usize) {
        let remote = &self.remotes[at];
        match TcpStream::connect(remote.address()).await {
            Ok(_) => {
                remote.active.set(true);
                let line = self.log.info("activated");
                line.text("address", remote.address()).emit();
            }
            Err(error) => self.warn(
                "failed to activate endpoint (stay inactive for another interval)",
                remote,
                &error,
            ),
        }
    }
}

fn span(duration: Duration) -> Span {
    Span(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}
