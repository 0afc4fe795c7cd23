//! Consensus without I/O, clock or threads.
