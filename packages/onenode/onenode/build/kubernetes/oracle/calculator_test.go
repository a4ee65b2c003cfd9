package oracle

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
)

// Situation is one question to the ReplicaCalculator; times count from its own present.
type Situation struct {
	Method         string
	Current        int32
	Status         int32
	Target         int64
	Tolerance      float64
	Initial, Delay float64
	Pods           []Pod
	Reading        Reading
}

type Answer struct {
	Replicas int32
	Usage    int64
	Error    string
}

// tolerances fills a struct whose fields are private; its own String shows whether they are where they should be.
func tolerances(t *testing.T, down, up float64) podautoscaler.Tolerances {
	made := *(*podautoscaler.Tolerances)(unsafe.Pointer(&[2]float64{down, up}))
	if want := fmt.Sprintf("[down:%.1f%%, up:%.1f%%]", down*100., up*100.); made.String() != want {
		t.Fatalf("Tolerances are laid out otherwise: %s, not %s", made, want)
	}
	return made
}

func (s Situation) answer(t *testing.T) (answer Answer) {
	now := time.Now()
	pods := make([]*v1.Pod, len(s.Pods))
	for i, pod := range s.Pods {
		pods[i] = pod.object(now)
	}
	told := &client{now, s.Reading}
	calculator := podautoscaler.NewReplicaCalculator(told, lister{pods}, seconds(s.Initial), seconds(s.Delay))
	within, every := tolerances(t, s.Tolerance, s.Tolerance), labels.Everything()
	var err error
	var percent int32
	switch s.Method {
	case "cpu":
		answer.Replicas, percent, _, _, err = calculator.GetResourceReplicas(context.Background(), s.Current, int32(s.Target), v1.ResourceCPU, within, namespace, every, "")
		answer.Usage = int64(percent)
	case "external":
		answer.Replicas, answer.Usage, _, err = calculator.GetExternalPerPodMetricReplicas(s.Status, s.Target, "in_flight", within, namespace, &metav1.LabelSelector{})
	default:
		t.Fatalf("no such method: %s", s.Method)
	}
	if err != nil {
		return Answer{Error: err.Error()}
	}
	return answer
}

// TestCalculator answers each line of QUESTIONS by one of ANSWERS.
func TestCalculator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		each(t, func(s Situation) Answer { return s.answer(t) })
	})
}

func each[Q, A any](t *testing.T, reply func(Q) A) {
	questions, err := os.Open(os.Getenv("QUESTIONS"))
	if err != nil {
		t.Fatal(err)
	}
	defer questions.Close()
	answers, err := os.Create(os.Getenv("ANSWERS"))
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close()
	out := bufio.NewWriter(answers)
	encoder, decoder := json.NewEncoder(out), json.NewDecoder(bufio.NewReader(questions))
	for decoder.More() {
		var question Q
		if err := decoder.Decode(&question); err != nil {
			t.Fatal(err)
		}
		if err := encoder.Encode(reply(question)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
}
