// built in the folder of github.com/kedacore/http-add-on, so that its own go.sum counts
module mlscale/cluster/http-add-on

go 1.26.0

tool (
	github.com/kedacore/http-add-on/interceptor
	github.com/kedacore/http-add-on/scaler
)

require github.com/kedacore/http-add-on v0.15.0
