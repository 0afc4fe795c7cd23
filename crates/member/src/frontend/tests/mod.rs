//! Tests of the front without sockets or clock.
