// What is asked of Kubernetes' own autoscaler, as JSON: pods, metrics and the specification they are judged by.
package oracle

import (
	"context"
	"errors"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
)

const namespace, app = "ns", "app"

var errNotToBeHad = errors.New("not to be had")

// Times are seconds; the questions keep them to multiples of 2^-9 s, which nanoseconds hold exactly.
func seconds(s float64) time.Duration { return time.Duration(s * 1e9) }

type Ready struct {
	Status string
	At     float64
}

type Pod struct {
	Name    string
	Phase   string
	Start   *float64
	Ready   Ready
	Request int64 // CPU, milli-cores
}

// Reading is what a metric's API answers; the field that fits the metric's type is set, none where it fails.
type Reading struct {
	Pods   map[string][3]float64 // value in milli-units, timestamp, window
	Values []int64
}

// Metric is of type cpu (percent of the request) or external (milli-units per pod).
type Metric struct {
	Type   string
	Target int64
}

func (p Pod) object(epoch time.Time) *v1.Pod {
	pod := &v1.Pod{}
	pod.Name, pod.Namespace, pod.Labels = p.Name, namespace, map[string]string{"app": app}
	pod.Status.Phase = v1.PodPhase(p.Phase)
	if p.Start != nil {
		pod.Status.StartTime = &metav1.Time{Time: epoch.Add(seconds(*p.Start))}
	}
	at := metav1.Time{Time: epoch.Add(seconds(p.Ready.At))}
	pod.Status.Conditions = []v1.PodCondition{
		{Type: v1.PodReady, Status: v1.ConditionStatus(p.Ready.Status), LastTransitionTime: at},
	}
	requests := v1.ResourceList{v1.ResourceCPU: *resource.NewMilliQuantity(p.Request, resource.DecimalSI)}
	pod.Spec.Containers = []v1.Container{{Name: app, Resources: v1.ResourceRequirements{Requests: requests}}}
	return pod
}

// lister answers with pods, or, where there is no list, with an error.
type lister struct{ pods []*v1.Pod }

func (l lister) Pods(string) corelisters.PodNamespaceLister { return l }
func (l lister) Get(string) (*v1.Pod, error)                { return nil, errNotToBeHad }
func (l lister) List(labels.Selector) (ret []*v1.Pod, err error) {
	if l.pods == nil {
		return nil, errNotToBeHad
	}
	return l.pods, nil
}

// client answers for the one metric.
type client struct {
	epoch   time.Time
	reading Reading
}

func (c *client) GetResourceMetric(context.Context, v1.ResourceName, string, labels.Selector, string) (metrics.PodMetricsInfo, time.Time, error) {
	if c.reading.Pods == nil {
		return nil, time.Time{}, errNotToBeHad
	}
	info := metrics.PodMetricsInfo{}
	for pod, each := range c.reading.Pods {
		info[pod] = metrics.PodMetric{
			Value: int64(each[0]), Timestamp: c.epoch.Add(seconds(each[1])), Window: seconds(each[2]),
		}
	}
	return info, c.epoch, nil
}

func (c *client) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errNotToBeHad
}

func (c *client) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return 0, time.Time{}, errNotToBeHad
}

func (c *client) GetExternalMetric(string, string, labels.Selector) ([]int64, time.Time, error) {
	if c.reading.Values == nil {
		return nil, time.Time{}, errNotToBeHad
	}
	return c.reading.Values, c.epoch, nil
}
