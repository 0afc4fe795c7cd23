//! Tasks of the repository: `cargo xtask check|fix|tidy|bench|interop`.

fn main() {}
