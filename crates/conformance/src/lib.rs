//! Black-box tests of the built binary, with real etcd beside it.
