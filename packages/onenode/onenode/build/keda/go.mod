// built in the folder of github.com/kedacore/keda/v2, since the replacements in its go.mod count only there
module mlscale/cluster/keda

go 1.26.0

tool (
	github.com/kedacore/keda/v2/cmd/adapter
	github.com/kedacore/keda/v2/cmd/operator
)

require github.com/kedacore/keda/v2 v2.20.2
