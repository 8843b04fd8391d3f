package configs

import "reflect"

// field is one key of a struct.
type field struct {
	value  reflect.Value
	isFile bool
}

// fieldOf finds the field with a YAML key.
func fieldOf(v reflect.Value, key string) (field, bool) {
	t := v.Type()
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Tag.Get("yaml") == key && key != "-" && key != "" {
			return field{v.Field(i), f.Tag.Get("is") == "file"}, true
		}
	}
	return field{}, false
}

// keysOf lists the YAML keys of a struct, in its order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// homeOf is the one place where a key is known, if there is just one.
func homeOf(key string) string {
	var homes []string
	var look func(path string, t reflect.Type)
	look = func(path string, t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Tag.Get("yaml")
			if name == "" || name == "-" || name == "upstreams" {
				continue
			}
			if name == key {
				if path == "" {
					homes = append(homes, "the top level")
				} else {
					homes = append(homes, path)
				}
			}
			inner, sub := f.Type, join(path, name)
			if inner.Kind() == reflect.Slice {
				inner, sub = inner.Elem(), sub+"[]"
			} else if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && len(keysOf(inner)) > 0 {
				look(sub, inner)
			}
		}
	}
	look("", reflect.TypeFor[Config]())
	if len(homes) != 1 {
		return ""
	}
	return homes[0]
}
