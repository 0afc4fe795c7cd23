//! Picks the personality by name or sub-command, nothing else.

fn main() {}
