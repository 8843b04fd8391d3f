package configs_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/configs"
)

func sprint(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func toJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type schema struct {
	Properties map[string]*schema
	AnyOf      []*schema
	Items      *schema
}

// paths lists every key of a schema.
func (s *schema) paths(at string, out *[]string) {
	if s == nil {
		return
	}
	for key, sub := range s.Properties {
		path := strings.TrimPrefix(at+"."+key, ".")
		*out = append(*out, path)
		sub.paths(path, out)
	}
	for _, sub := range s.AnyOf {
		sub.paths(at, out)
	}
	s.Items.paths(at, out)
}

// TestSchemaFitsTheStruct: after a change of the struct, run
// `cd tools/schema && go run . > ../../configs/schema.json`.
func TestSchemaFitsTheStruct(t *testing.T) {
	var s schema
	if err := json.Unmarshal(configs.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	s.paths("", &got)
	var look func(at string, t reflect.Type)
	look = func(at string, typ reflect.Type) {
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("yaml")
			if key == "" || key == "-" {
				continue
			}
			path := strings.TrimPrefix(at+"."+key, ".")
			want = append(want, path)
			inner := typ.Field(i).Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				look(path, inner)
			}
		}
	}
	look("", reflect.TypeFor[configs.Config]())
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("schema.json and the struct differ (-struct +schema):\n%s", diff)
	}
}
