// Command schema writes the JSON Schema of the configuration, for editors:
//
//	cd tools/schema && go run . > ../../configs/schema.json
//
// It is a module of its own, so that what it needs stays out of the program.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

func run() error {
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		DoNotReference:             true,
		ExpandedStruct:             true,
		Anonymous:                  true,
		RequiredFromJSONSchemaTags: true,
		Mapper:                     leaf,
	}
	s := r.Reflect(&configs.Config{})
	s.Title = "regward.yaml"
	s.Required = []string{"hostname"}
	s.OneOf = []*jsonschema.Schema{{Required: []string{"upstream"}}, {Required: []string{"upstreams"}}}
	for _, e := range enums() {
		if err := restrict(s, e.path, e.words); err != nil {
			return err
		}
	}
	for path, keys := range required() {
		if at := find(s, path); at != nil {
			at.Required = keys
		}
	}
	for _, path := range []string{"upstream", "rules", "tests", "limits", "upstreams"} {
		single(s, path)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(s)
}

// leaf is the schema of the types that are written as one value, or as a list
// of values that may be a single one.
func leaf(t reflect.Type) *jsonschema.Schema {
	text := func(pattern string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern}
	}
	switch t {
	case reflect.TypeFor[configs.Duration]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{text(`^([0-9.]+(d|h|m|s|ms))+$|^0$|\$\{`), {Const: 0}}}
	case reflect.TypeFor[configs.Secret](), reflect.TypeFor[auth.Subject](), reflect.TypeFor[auth.Pattern](),
		reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix]():
		return text("")
	case reflect.TypeFor[*url.URL](), reflect.TypeFor[url.URL]():
		return text(`^https?://|\$\{`)
	case reflect.TypeFor[configs.Amount](): // a burst; enums has the rate
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "integer", Minimum: "1"}, text(`^[0-9]+(` + size + `)?$|\$\{`)}}
	case reflect.TypeFor[auth.Action]():
		return words("pull", "push", "delete")
	case reflect.TypeFor[auth.Actions]():
		return oneOrMany(words("pull", "push", "delete", "*"))
	case reflect.TypeFor[configs.Exempt]():
		return oneOrMany(text(""))
	case reflect.TypeFor[configs.Count]():
		return words("pulls", "pushes", "requests", "bytes", "transfers", "failed_logins")
	case reflect.TypeFor[configs.Per]():
		return words("client", "user", "ip", "group", "namespace", "repository", "all")
	case reflect.TypeFor[bool](), reflect.TypeFor[*bool]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "boolean"}, text(`\$\{`)}}
	case reflect.TypeFor[int]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "integer"}, text(`\$\{`)}}
	case reflect.TypeFor[map[string][]string]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: oneOrMany(text(""))}
	}
	if t.Kind() == reflect.Slice {
		switch t.Elem() {
		case reflect.TypeFor[string](), reflect.TypeFor[auth.Subject](), reflect.TypeFor[auth.Pattern](), reflect.TypeFor[netip.Prefix]():
			return oneOrMany(text(""))
		}
	}
	return nil
}

// size is a unit of bytes.
const size = `([kMGT]|[KMGT]i)?B`

func words(list ...string) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, w := range list {
		s.Enum = append(s.Enum, w)
	}
	return s
}

func oneOrMany(one *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{one, {Type: "array", Items: one}}}
}

type enum struct {
	path  []string
	words *jsonschema.Schema
}

// enums are the closed sets that are plain strings in the struct.
func enums() []enum {
	all := []enum{
		{[]string{"tls", "mode"}, words("files", "internal", "off")},
		{[]string{"tls", "min_version"}, &jsonschema.Schema{Enum: []any{"1.2", "1.3", 1.2, 1.3}}},
		{[]string{"auth", "upstream"}, &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "boolean"}, {Type: "string"}}}},
		{[]string{"catalog"}, words("filtered", "off")},
		{[]string{"limits", "rate"}, &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^[0-9]+(` + size + `)?/[0-9]*[smhd]$|^[0-9]+$|\$\{`}, {Type: "integer", Minimum: "1"},
		}}},
		{[]string{"redis", "mode"}, words("single", "cluster", "sentinel")},
		{[]string{"redis", "on_error"}, words("local", "allow", "deny")},
		{[]string{"log", "format"}, words("json", "console")},
		{[]string{"log", "level"}, words("debug", "info", "warn", "error")},
		{[]string{"log", "audit_events"}, oneOrMany(words("logins", "denials", "pulls", "pushes", "deletes", "revocations", "reloads"))},
	}
	for _, up := range []string{"upstream", "upstreams"} {
		all = append(all,
			enum{[]string{up, "credentials"}, words("none", "account", "passthrough")},
			enum{[]string{up, "redirects"}, words("follow", "pass")})
	}
	return all
}

func required() map[string][]string {
	return map[string][]string{
		"upstream": {"url"}, "upstreams": {"url"},
		"rules":  {"subjects", "repositories"},
		"tests":  {"as", "repository"},
		"limits": {"name", "count", "rate"},
	}
}

// find gives the object at a top level key, or that of its list's entries.
func find(s *jsonschema.Schema, key string) *jsonschema.Schema {
	at, ok := s.Properties.Get(key)
	if !ok {
		return nil
	}
	if at.Items != nil {
		return at.Items
	}
	return at
}

func restrict(s *jsonschema.Schema, path []string, to *jsonschema.Schema) error {
	at := s
	for _, key := range path[:len(path)-1] {
		if at = find(at, key); at == nil {
			return fmt.Errorf("no key %v", path)
		}
	}
	if _, ok := at.Properties.Get(path[len(path)-1]); !ok {
		return fmt.Errorf("no key %v", path)
	}
	at.Properties.Set(path[len(path)-1], to)
	return nil
}

// single lets a list of maps be one map, and an upstream be its URL.
func single(s *jsonschema.Schema, key string) {
	at, _ := s.Properties.Get(key)
	switch key {
	case "upstream":
		s.Properties.Set(key, &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, at}})
	default:
		s.Properties.Set(key, &jsonschema.Schema{AnyOf: []*jsonschema.Schema{at, at.Items}})
	}
}
