package configs

import (
	"cmp"
	"encoding"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// Field is one effective value, as `config show` prints it.
type Field struct {
	Path   string `json:"path"`   // "tls.mode", "limits[0].rate"
	Value  string `json:"value"`  // secrets as ***
	Origin string `json:"origin"` // "default", "regward.yaml:12", "environment NAME", "file NAME"
}

// Show lists every effective value, in the order of the schema.
func (c *Config) Show() []Field {
	var out []Field
	c.show("", reflect.ValueOf(c).Elem(), &out)
	return out
}

func (c *Config) show(path string, v reflect.Value, out *[]Field) {
	t := v.Type()
	for i := range t.NumField() {
		key := t.Field(i).Tag.Get("yaml")
		if key == "" || key == "-" || path == "" && key == c.otherUpstream() {
			continue
		}
		c.showOne(join(path, key), v.Field(i), out)
	}
}

// otherUpstream is that one of `upstream` and `upstreams` which was not written.
func (c *Config) otherUpstream() string {
	if c.Upstream != nil {
		return "upstreams"
	}
	return "upstream"
}

func (c *Config) showOne(path string, v reflect.Value, out *[]Field) {
	if !v.CanAddr() {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p.Elem()
	}
	switch list := v.Interface().(type) {
	case *Upstream:
		if list != nil {
			c.show(path, reflect.ValueOf(&c.Upstreams[0]).Elem(), out)
		}
		return
	case map[string][]string:
		names := make([]string, 0, len(list))
		for name := range list {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			*out = append(*out, Field{join(path, name), strings.Join(list[name], ", "), c.originOf(join(path, name))})
		}
		return
	}
	if claims, ok := v.Interface().(map[string]string); ok {
		for _, name := range slices.Sorted(maps.Keys(claims)) {
			*out = append(*out, Field{join(path, name), claims[name], c.originOf(join(path, name))})
		}
		return
	}
	switch {
	case strings.HasSuffix(path, "listen") && v.Len() == 0:
		*out = append(*out, Field{path, "off", c.originOf(path)})
	case isPlain(v), isLeafList(v.Type()):
		*out = append(*out, Field{path, plain(v), c.originOf(path)})
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			at := fmt.Sprintf("%s[%d]", path, i)
			if l, ok := v.Index(i).Interface().(Limit); ok && l.Where == "built in" {
				*out = append(*out, Field{at, fmt.Sprintf("%s: %s %s per %s", l.Name, l.Count, rate(l), l.Per), "default"})
				continue
			}
			if l, ok := v.Index(i).Interface().(Limit); ok {
				c.show(at, reflect.ValueOf(effective(l)), out)
				continue
			}
			c.show(at, v.Index(i), out)
		}
	case v.Kind() == reflect.Struct:
		c.show(path, v, out)
	}
}

// effective is l with what it leaves out.
func effective(l Limit) Limit {
	switch {
	case l.Count == CountBytes:
		l.BurstText = Amount(ratelimit.FormatBytes(l.Rate.Burst))
	case l.Count != CountTransfers:
		l.BurstText = Amount(strconv.Itoa(cmp.Or(l.Rate.Burst, l.Rate.Events)))
	}
	if everyone, err := auth.ParseSubject("everyone"); err == nil && len(l.Subjects) == 0 {
		l.Subjects = []auth.Subject{everyone}
	}
	if all, err := auth.ParsePattern("**"); err == nil && len(l.Repositories) == 0 {
		l.Repositories = []auth.Pattern{all}
	}
	return l
}

// isPlain reports whether v is shown on one line.
func isPlain(v reflect.Value) bool {
	switch v.Interface().(type) {
	case auth.Actions, Exempt:
		return true
	}
	return isLeaf(v)
}

// plain is a value in words, as it could be written in the file.
func plain(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case auth.Actions:
		var words []string
		for _, a := range actions(x) {
			words = append(words, a.String())
		}
		return strings.Join(words, ", ")
	case auth.Action:
		if x == 0 {
			return ""
		}
		return x.String()
	case Exempt:
		var words []string
		for _, s := range x.Subjects {
			words = append(words, s.String())
		}
		for _, n := range x.Networks {
			words = append(words, n.String())
		}
		return strings.Join(words, ", ")
	case *url.URL:
		if x == nil {
			return ""
		}
		return x.String()
	case *bool:
		if x == nil {
			return ""
		}
		return fmt.Sprint(*x)
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(text)
	}
	if v.Kind() == reflect.Slice {
		words := make([]string, v.Len())
		for i := range words {
			words[i] = plain(v.Index(i))
		}
		return strings.Join(words, ", ")
	}
	return fmt.Sprint(v.Interface())
}

// originOf says where the value at path comes from.
func (c *Config) originOf(path string) string {
	o, ok := c.origins.values[path]
	switch {
	case !ok:
		return "default"
	case o.from != "":
		return o.from
	}
	return fmt.Sprintf("%s:%d", c.Name, o.line)
}

// Place is the line and column of the value at path or of what it stands in, 0
// where neither is written in the file.
func (c *Config) Place(path string) (line, col int) {
	for {
		if o, ok := c.origins.values[path]; ok {
			return o.line, o.col
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 0, 0
		}
		path = path[:i]
	}
}

// written is a file's name as the file has it, so that the same file in two
// folders compares equal.
func (c *Config) written(path, name string) string {
	if o := c.origins.values[path]; o.text != "" {
		return o.text
	}
	return name
}

// rate is how much a limit that is no count of transfers lets through, in
// words: "100/6h burst 200".
func rate(l Limit) string {
	if l.Count == CountBytes {
		s := l.Rate.ByteString()
		if usual, err := ratelimit.ParseByteRate(s); err == nil && usual.Burst != l.Rate.Burst {
			s += " burst " + ratelimit.FormatBytes(l.Rate.Burst)
		}
		return s
	}
	s := l.Rate.String()
	if l.Rate.Burst != 0 && l.Rate.Burst != l.Rate.Events {
		s += fmt.Sprintf(" burst %d", l.Rate.Burst)
	}
	return s
}
