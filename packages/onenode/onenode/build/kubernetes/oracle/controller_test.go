package oracle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	scalefake "k8s.io/client-go/scale/fake"
	core "k8s.io/client-go/testing"
	autoscalingapi "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/utils/ptr"
)

const never = 10000 * time.Hour

type Settings struct {
	Min, Max       int32
	Up, Down       *int32 // stabilisation windows, s; nil: the default
	Tolerance      float64
	Downscale      float64
	Initial, Delay float64
	Metric         Metric
}

// Step is what the autoscaler finds at one look. Spec, where set, is a person's own scaling before it.
type Step struct {
	Spec    *int32
	Status  int32
	Pods    []Pod
	Reading Reading
}

// Sequence is one autoscaler's life; it looks every Resync seconds, once for each step.
type Sequence struct {
	Settings Settings
	Replicas int32
	Resync   float64
	Steps    []Step
}

// Look is what came of one step: when, from and to how many replicas, and the reasons of the conditions.
type Look struct {
	At         float64
	From, To   int32
	Conditions map[string][2]string
}

func (m Metric) object() autoscalingv2.MetricSpec {
	if m.Type == "cpu" {
		target := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(int32(m.Target))}
		source := &autoscalingv2.ResourceMetricSource{Name: v1.ResourceCPU, Target: target}
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: source}
	}
	target := autoscalingv2.MetricTarget{
		Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewMilliQuantity(m.Target, resource.DecimalSI),
	}
	source := &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "in_flight"}, Target: target}
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: source}
}

func (s Settings) object() *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: namespace}}
	hpa.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: app}
	hpa.Spec.MinReplicas, hpa.Spec.MaxReplicas = &s.Min, s.Max
	hpa.Spec.Metrics = []autoscalingv2.MetricSpec{s.Metric.object()}
	hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp:   &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: s.Up},
		ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: s.Down},
	}
	autoscalingapi.SetDefaults_HorizontalPodAutoscaler(hpa)
	return hpa
}

// scaled stands for the Deployment: its replicas as the scale subresource shows them.
type scaled struct {
	epoch        time.Time
	spec, status int32
	look         Look
}

func (d *scaled) object() *autoscalingv1.Scale {
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: namespace},
		Spec:       autoscalingv1.ScaleSpec{Replicas: d.spec},
		Status:     autoscalingv1.ScaleStatus{Replicas: d.status, Selector: "app=" + app},
	}
}

func (d *scaled) client() *scalefake.FakeScaleClient {
	scales := &scalefake.FakeScaleClient{}
	scales.AddReactor("get", "*", func(core.Action) (bool, runtime.Object, error) {
		d.look = Look{At: time.Since(d.epoch).Seconds(), From: d.spec, To: d.spec}
		return true, d.object(), nil
	})
	scales.AddReactor("update", "*", func(action core.Action) (bool, runtime.Object, error) {
		d.spec = action.(core.UpdateAction).GetObject().(*autoscalingv1.Scale).Spec.Replicas
		d.look.To = d.spec
		return true, d.object(), nil
	})
	return scales
}

// run lets the real controller live through the sequence, in the bubble's virtual time.
func (s Sequence) run(t *testing.T) []Look {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	epoch := time.Now()
	deployment := &scaled{epoch: epoch, spec: s.Replicas}
	told := &client{epoch: epoch}
	cluster := fake.NewClientset(s.Settings.object())
	factory := informers.NewSharedInformerFactory(cluster, never) // 0 waits on a channel from outside the bubble
	pods := factory.Core().V1().Pods()
	apps := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
	apps.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, meta.RESTScopeNamespace)
	controller := podautoscaler.NewHorizontalController(
		ctx, cluster.CoreV1(), deployment.client(), cluster.AutoscalingV2(), apps, told,
		factory.Autoscaling().V2().HorizontalPodAutoscalers(), pods, seconds(s.Resync),
		seconds(s.Settings.Downscale), s.Settings.Tolerance, seconds(s.Settings.Initial), seconds(s.Settings.Delay),
	)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done()) // what is put into a store before would be lost
	go controller.Run(ctx, 1)
	var looks []Look
	for _, step := range s.Steps {
		if step.Spec != nil {
			deployment.spec = *step.Spec
		}
		deployment.status = step.Status
		told.reading = step.Reading
		var objects []any
		for _, pod := range step.Pods {
			objects = append(objects, pod.object(epoch))
		}
		if err := pods.Informer().GetStore().Replace(objects, ""); err != nil {
			t.Fatal(err)
		}
		deployment.look = Look{At: -1}
		for tries := 0; deployment.look.At < 0; tries++ {
			if tries > 64 {
				t.Fatal("the controller does not look any more")
			}
			time.Sleep(seconds(s.Resync) / 16)
			synctest.Wait()
		}
		hpa, err := cluster.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, app, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		deployment.look.Conditions = map[string][2]string{}
		for _, each := range hpa.Status.Conditions {
			deployment.look.Conditions[string(each.Type)] = [2]string{string(each.Status), each.Reason}
		}
		looks = append(looks, deployment.look)
	}
	cancel()
	synctest.Wait()
	factory.Shutdown()
	return looks
}

// TestController answers each line of QUESTIONS, a sequence, by one of ANSWERS, its looks.
func TestController(t *testing.T) {
	utilruntime.ErrorHandlers = nil // one of them waits for the time outside to come
	each(t, func(s Sequence) (looks []Look) {
		synctest.Test(t, func(t *testing.T) { looks = s.run(t) })
		return looks
	})
}
