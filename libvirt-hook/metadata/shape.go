package metadata

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// How a field is written.
type form int

const (
	oneWord form = iota // an attribute
	object              // an element
	many                // an element with text for each
	objects             // an element for each
)

// shape is how values of the type are written. A value that JSON reads from a text is one
// word, whatever it is made of.
func shape(t reflect.Type) form {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case readsText(t):
		return oneWord
	case t.Kind() == reflect.Struct:
		return object
	case t.Kind() == reflect.Slice && shape(t.Elem()) == object:
		return objects
	case t.Kind() == reflect.Slice:
		return many
	}
	return oneWord
}

func readsText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// fieldOf is the struct's field with that key.
func fieldOf(v reflect.Value, key string) (field reflect.Value, fits bool) {
	for i := range v.NumField() {
		if keyOf(v.Type().Field(i)) == key && key != "" {
			return v.Field(i), true
		}
	}
	return field, false
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if key == "-" {
		return ""
	}
	return key
}

func keysOf(v reflect.Value) []string { return vswitch.JSONKeys(v.Addr().Interface()) }

// pointed is what a pointer leads to, made if need be, or the value itself.
func pointed(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}
