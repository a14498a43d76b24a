// What Kubernetes itself makes of a strategic merge patch.
//
// Every line on standard input is a JSON object with a pod ("original") and a patch for it ("patch"); the
// line that answers it holds the patched pod ("result") or why there is none ("error"). With the argument
// "tags" it prints every field of a pod instead, as an object of "Type.field" to the struct tags of a list
// ("strategy key").
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

type pair struct {
	Original json.RawMessage `json:"original"`
	Patch    json.RawMessage `json:"patch"`
}

type answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

func main() {
	var err error
	if len(os.Args) > 1 && os.Args[1] == "tags" {
		tags := map[string]string{}
		collect(reflect.TypeFor[corev1.Pod](), tags, map[reflect.Type]bool{})
		err = json.NewEncoder(os.Stdout).Encode(tags)
	} else {
		err = merge()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func merge() error {
	in := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	buffer := bufio.NewWriterSize(os.Stdout, 1<<20)
	out := json.NewEncoder(buffer)
	for in.More() {
		var p pair
		if err := in.Decode(&p); err != nil {
			return err
		}
		var a answer
		result, err := strategicpatch.StrategicMergePatch(p.Original, p.Patch, corev1.Pod{})
		if err != nil {
			a.Error = err.Error()
		} else {
			a.Result = result
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return buffer.Flush()
}

// collect walks a type as strategicpatch does: by the JSON names, through what is embedded.
func collect(t reflect.Type, tags map[string]string, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	// What writes its own JSON (a quantity, a time) is no object there.
	if t.Kind() != reflect.Struct || seen[t] || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
		return
	}
	seen[t] = true
	fields(t, t.Name(), tags, seen)
}

func fields(t reflect.Type, owner string, tags map[string]string, seen map[reflect.Type]bool) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" && field.Anonymous {
			fields(field.Type, owner, tags, seen)
			continue
		}
		row := field.Tag.Get("patchStrategy") + " " + field.Tag.Get("patchMergeKey")
		tags[owner+"."+name] = strings.TrimSpace(row)
		collect(field.Type, tags, seen)
	}
}
