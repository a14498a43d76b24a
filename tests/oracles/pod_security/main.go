// What Kubernetes itself says of a pod under the Pod Security Standards.
//
// Every line on standard input is a JSON object with the labels of a namespace ("labels") and a pod ("pod");
// the line that answers it holds by what the API server would warn there ("warn", as "restricted:v1.30") and
// what it calls the pod's violations of that ("reasons").
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type question struct {
	Labels map[string]string `json:"labels"`
	Pod    corev1.Pod        `json:"pod"`
}

type answer struct {
	Warn    string   `json:"warn"`
	Reasons []string `json:"reasons"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	privileged := api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
	defaults := api.Policy{Enforce: privileged, Audit: privileged, Warn: privileged}
	in := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	buffer := bufio.NewWriterSize(os.Stdout, 1<<20)
	out := json.NewEncoder(buffer)
	for in.More() {
		var q question
		if err := in.Decode(&q); err != nil {
			return err
		}
		// Errors of the labels are reported when the namespace is created.
		p, _ := api.PolicyToEvaluate(q.Labels, defaults)
		results := evaluator.EvaluatePod(p.Warn, &q.Pod.ObjectMeta, &q.Pod.Spec)
		a := answer{Warn: p.Warn.String(), Reasons: policy.AggregateCheckResults(results).ForbiddenReasons}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return buffer.Flush()
}
