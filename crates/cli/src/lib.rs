//! etcdctl and etcdutl: the online client and the offline tool.
