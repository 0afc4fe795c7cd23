//! gRPC on the h2 crate: framing, statuses, limits and the rules of keepalive, as grpc-go has
//! them. Knows nothing of what the messages say. Requests that are not gRPC's go to `http`.

mod admit;
mod calls;
mod conn;
mod debug;
mod framing;
mod io;
mod keepalive;
mod sender;
mod stats;
mod status;

pub use admit::Terms;
pub use conn::serve;
pub use framing::Piece;
