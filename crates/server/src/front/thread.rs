//! The life of a front thread: it takes connections until the server stops, then waits until
//! what is in flight has ended.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use member::FrontSeat;
use member::frontend::Frontend;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};
use transport::{Question, Reply};

use super::handshake;
use super::socket::{Plain, Speech};
use super::{Common, Front};
use crate::driver::{Event, Inbox};
use crate::grpc::{self, Terms};
use crate::guard::Guard;
use crate::http;
use crate::http::Offer;
use crate::listen::{self, Door, Incoming, Listener};
use crate::peers::answers;

/// How long a client may take to say what it speaks: grpc-go's connection timeout.
pub const FIRST_WORDS_MAX: Duration = Duration::from_secs(120);
/// Questions to the system's resolver under way at once: a member's certificate may have names.
const LOOKUPS_MAX: usize = 4;

/// What a front thread is told.
pub enum Order {
    /// Serve this connection.
    Serve(Incoming, Door, Option<Arc<Guard>>),
    /// Accept connections for all front threads.
    Accept(Vec<Listener>, Arc<Vec<Orders>>),
    /// Answer another member.
    Answer(Question, Reply),
    /// Finish.
    Stop,
}

/// The way to a front thread.
pub type Orders = UnboundedSender<Order>;

/// Starts the thread of `seat`.
pub fn start(
    common: Arc<Common>,
    seat: FrontSeat,
    inbox: Arc<Inbox>,
    events: Sender<Event>,
) -> io::Result<Orders> {
    let (orders, queue) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUPS_MAX)
        .build()?;
    let name = format!("front-{}", seat.front);
    thread::Builder::new().name(name).spawn(move || {
        let frontend = Frontend::new(seat.config, seat.shared, seat.views);
        let front = Front::new(common, frontend, inbox);
        LocalSet::new().block_on(&runtime, live(front, queue, events));
    })?;
    Ok(orders)
}

async fn live(front: Rc<Front>, mut queue: UnboundedReceiver<Order>, events: Sender<Event>) {
    spawn_local(front.clone().pump());
    let mut acceptors = Vec::new();
    while let Some(order) = queue.recv().await {
        match order {
            Order::Serve(incoming, door, guard) => {
                if let Ok(plain) = incoming.settle() {
                    spawn_local(serve(front.clone(), plain, door, guard));
                }
            }
            Order::Accept(listeners, all) => {
                for listener in listeners {
                    let accepting = accept(front.clone(), listener, all.clone());
                    acceptors.push(spawn_local(accepting));
                }
            }
            Order::Answer(question, reply) => {
                spawn_local(answers::answer(front.clone(), question, reply));
            }
            Order::Stop => break,
        }
    }
    for acceptor in acceptors {
        acceptor.abort();
    }
    front.stop();
    front.wait_until_empty().await;
    let _ = events.send(Event::Drained);
    // What the member still has to say is heard until the server is gone.
    while queue.recv().await.is_some() {}
}

/// Spreads connections over the front threads, one after the other.
async fn accept(front: Rc<Front>, listener: Listener, all: Arc<Vec<Orders>>) {
    let mut next = 0;
    listen::accept_all(&front.common.log, listener, |incoming, acceptor| {
        let order = Order::Serve(incoming, acceptor.door, acceptor.guard.clone());
        let _ = all[next % all.len()].send(order);
        next += 1;
    })
    .await;
}

async fn serve(front: Rc<Front>, plain: Plain, door: Door, guard: Option<Arc<Guard>>) {
    let _present = front.enter();
    let remote = plain.ends().map(|(_, remote)| remote);
    let admitted = tokio::select! {
        admitted = handshake::admit(&front.common.log, plain, guard.as_deref()) => admitted,
        () = front.stopped() => return,
    };
    let Some(mut socket) = admitted else {
        return;
    };
    let tls = socket.is_tls();
    let terms = Terms {
        grpc: matches!(door, Door::Client { .. }),
        http: match door {
            Door::Client { http } => http.then_some(Offer::Client { tls }),
            Door::ClientHttp => Some(Offer::Client { tls }),
            Door::Metrics => Some(Offer::Metrics),
            // Served by the transport, on a thread of its own.
            Door::Peer => None,
        },
        tls,
        remote,
    };
    let heard = tokio::select! {
        heard = tokio::time::timeout(FIRST_WORDS_MAX, socket.listen_in()) => heard,
        () = front.stopped() => return,
    };
    match (heard, terms.http) {
        (Ok(Ok(Speech::Http2)), _) => grpc::serve(front.clone(), socket, terms).await,
        (Ok(Ok(Speech::Http1)), Some(offer)) => http::serve(front.clone(), socket, offer).await,
        _ => {}
    }
}
