package plugin

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// decode reads the value at a key path and words what is wrong with it as its
// writer sees it: by path and JSON type.
func decode(path string, raw json.RawMessage, into any) error {
	return misread(path, raw, json.Unmarshal(raw, into))
}

// strict decodes an object of ours and reports unknown keys by their path.
func strict(path string, raw json.RawMessage, v any) error {
	var keys map[string]json.RawMessage
	if err := decode(path, raw, &keys); err != nil {
		return err
	}
	known := vswitch.JSONKeys(v)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(known, key) {
			return unsupported(path+"."+key, keys[key], vswitch.UnknownKey(key, known))
		}
	}
	err := json.Unmarshal(raw, v)
	if err == nil {
		return nil
	}
	// Not every error tells where it was: find the key whose value it is.
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		alone, _ := json.Marshal(map[string]json.RawMessage{key: keys[key]}) // it was JSON a moment ago
		if one := json.Unmarshal(alone, v); one != nil {
			var mismatch *json.UnmarshalTypeError
			if errors.As(one, &mismatch) && strings.HasPrefix(mismatch.Field, key) {
				return misread(path, keys[key], one)
			}
			return misread(path+"."+key, keys[key], one)
		}
	}
	return misread(path, raw, err)
}

// misread words the error of a value: a JSON type that is not the expected one
// cannot be decoded, a text that is not of the expected form is invalid.
func misread(path string, raw json.RawMessage, err error) error {
	var mismatch *json.UnmarshalTypeError
	var v *vswitch.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mismatch):
		if mismatch.Field != "" {
			path = strings.TrimPrefix(path+"."+mismatch.Field, ".")
		}
		if path == "" {
			path = "the configuration"
		}
		return types.NewError(types.ErrDecodingFailure,
			fmt.Sprintf("%s: here is %s, expected is %s", path, found(mismatch.Value), expected(mismatch.Type)), "")
	case errors.As(err, &v):
		e := asCNI(err)
		return types.NewError(e.Code, path+": "+e.Msg, e.Details)
	case path == "" || len(raw) == 0:
		return decoding(err)
	}
	// Texts that package netip refuses begin with the name of its function.
	reason := err.Error()
	if _, after, cut := strings.Cut(reason, "): "); cut {
		reason = after
	}
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("%s: %.80s: %s", path, raw, reason), "")
}

// found is a JSON type as package json names it, in words.
func found(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	switch kind {
	case "bool":
		return "a boolean"
	case "array", "object":
		return "an " + kind
	case "number", "string":
		return "a " + value // a number that does not fit comes with its digits
	}
	return value
}

// expected is the JSON type that a Go type is read from.
func expected(t reflect.Type) string {
	if _, text := reflect.New(t).Interface().(encoding.TextUnmarshaler); text {
		return "a string"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return expected(t.Elem())
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

func decoding(err error) error {
	return types.NewError(types.ErrDecodingFailure, "the configuration cannot be decoded: "+err.Error(), "")
}
