//! Sockets, threads and the time of day around a member.
