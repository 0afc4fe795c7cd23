//! The deterministic machine that applies the log.
