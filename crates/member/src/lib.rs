//! One member without sockets, clock or threads.
