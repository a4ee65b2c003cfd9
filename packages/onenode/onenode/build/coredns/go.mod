// built in the folder of github.com/coredns/coredns, so that its own go.sum counts
module mlscale/cluster/coredns

go 1.26.0

tool github.com/coredns/coredns

require github.com/coredns/coredns v1.14.7
