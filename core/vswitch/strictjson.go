package vswitch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// UnmarshalStrict decodes one JSON object into the struct that v points to and
// refuses keys that the struct does not have, with the nearest one it does: a
// setting that is misspelled must not be ignored. It fails with Invalid.
func UnmarshalStrict(data []byte, v any) error {
	if err := CheckKeys(data, JSONKeys(v)); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		if e := (*Error)(nil); errors.As(err, &e) {
			return err // of a value that knows better
		}
		return &Error{Kind: Invalid, Err: err}
	}
	if _, err := d.Token(); err != io.EOF {
		return &Error{Kind: Invalid, Err: fmt.Errorf("more than one JSON value")}
	}
	return nil
}

// CheckKeys reports every key of a JSON object that is not among known, each
// with the nearest known one. Anything but an object passes: decoding says why.
func CheckKeys(data []byte, known []string) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		return nil
	}
	var p problems
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, key) {
			p = append(p, UnknownKey(key, known))
		}
	}
	return p.join()
}

// UnknownKey is the error of a key that is not among known.
func UnknownKey(key string, known []string) error {
	e := &Error{Kind: Invalid, Object: fmt.Sprintf("key %.64q", key), Err: fmt.Errorf("unknown")}
	if near := Nearest(key, known); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", near)
	} else {
		e.Hint = "known keys: " + strings.Join(known, ", ")
	}
	return e
}

// Nearest returns the known word closest to word, or "" if none is close.
func Nearest(word string, known []string) string {
	best, distance := "", 1+min(max(2, len(word)/3), 4)
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// JSONKeys lists the JSON keys of the struct that v points to, in order.
func JSONKeys(v any) []string {
	t := reflect.TypeOf(v).Elem()
	var keys []string
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			keys = append(keys, name)
		}
	}
	return keys
}

// editDistance counts insertions, deletions and replacements between a and b,
// after cutting both to a length no key of ours reaches.
func editDistance(a, b string) int {
	const longest = 64
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
