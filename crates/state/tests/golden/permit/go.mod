module permit

go 1.26

require go.etcd.io/etcd/pkg/v3 v3.7.1
