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

type Container struct {
	Name     string
	Requests map[string]int64
	Init     bool
	Restarts bool
}

type Ready struct {
	Status string
	At     float64
}

type Pod struct {
	Name       string
	Phase      string
	Deleted    bool
	Start      *float64
	Ready      *Ready
	Containers []Container
	Requests   map[string]int64
	Overhead   map[string]int64
}

// Reading is what a metric's API answers; the field that fits the metric's type is set, none where it fails.
type Reading struct {
	Pods   map[string][3]float64 // value in milli-units, timestamp, window
	Values []int64
	Value  *int64
}

type Metric struct {
	Type       string
	Name       string
	TargetType string
	Target     int64
	Container  string
}

func requests(milli map[string]int64) v1.ResourceList {
	list := v1.ResourceList{}
	for name, number := range milli {
		list[v1.ResourceName(name)] = *resource.NewMilliQuantity(number, resource.DecimalSI)
	}
	return list
}

func (p Pod) object(epoch time.Time) *v1.Pod {
	pod := &v1.Pod{}
	pod.Name, pod.Namespace, pod.Labels = p.Name, namespace, map[string]string{"app": app}
	pod.Status.Phase = v1.PodPhase(p.Phase)
	if p.Deleted {
		pod.DeletionTimestamp = &metav1.Time{Time: epoch}
	}
	if p.Start != nil {
		pod.Status.StartTime = &metav1.Time{Time: epoch.Add(seconds(*p.Start))}
	}
	if p.Ready != nil {
		at := metav1.Time{Time: epoch.Add(seconds(p.Ready.At))}
		pod.Status.Conditions = []v1.PodCondition{
			{Type: v1.PodReady, Status: v1.ConditionStatus(p.Ready.Status), LastTransitionTime: at},
		}
	}
	always := v1.ContainerRestartPolicyAlways
	for _, c := range p.Containers {
		container := v1.Container{Name: c.Name, Resources: v1.ResourceRequirements{Requests: requests(c.Requests)}}
		if !c.Init {
			pod.Spec.Containers = append(pod.Spec.Containers, container)
			continue
		}
		if c.Restarts {
			container.RestartPolicy = &always
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, container)
	}
	if len(p.Requests) > 0 {
		pod.Spec.Resources = &v1.ResourceRequirements{Requests: requests(p.Requests)}
	}
	if len(p.Overhead) > 0 {
		pod.Spec.Overhead = requests(p.Overhead)
	}
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

// client answers for each metric with its reading, by name and container.
type client struct {
	epoch    time.Time
	readings map[[2]string]Reading
}

func (c *client) perPod(name, container string) (metrics.PodMetricsInfo, time.Time, error) {
	reading := c.readings[[2]string{name, container}]
	if reading.Pods == nil {
		return nil, time.Time{}, errNotToBeHad
	}
	info := metrics.PodMetricsInfo{}
	for pod, each := range reading.Pods {
		info[pod] = metrics.PodMetric{
			Value: int64(each[0]), Timestamp: c.epoch.Add(seconds(each[1])), Window: seconds(each[2]),
		}
	}
	return info, c.epoch, nil
}

func (c *client) GetResourceMetric(_ context.Context, name v1.ResourceName, _ string, _ labels.Selector, container string) (metrics.PodMetricsInfo, time.Time, error) {
	return c.perPod(string(name), container)
}

func (c *client) GetRawMetric(name, _ string, _, _ labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	return c.perPod(name, "")
}

func (c *client) GetObjectMetric(name, _ string, _ *autoscalingv2.CrossVersionObjectReference, _ labels.Selector) (int64, time.Time, error) {
	reading := c.readings[[2]string{name, ""}]
	if reading.Value == nil {
		return 0, time.Time{}, errNotToBeHad
	}
	return *reading.Value, c.epoch, nil
}

func (c *client) GetExternalMetric(name, _ string, _ labels.Selector) ([]int64, time.Time, error) {
	reading := c.readings[[2]string{name, ""}]
	if reading.Values == nil {
		return nil, time.Time{}, errNotToBeHad
	}
	return reading.Values, c.epoch, nil
}
