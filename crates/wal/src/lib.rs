//! Log segments and snapshot files in etcd's format.
