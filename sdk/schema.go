package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Schema says what a plugin's configuration may hold. The host holds what users write
// against it, so that a provider is only given what it declared.
type Schema []Field

// Field is one key of a configuration.
type Field struct {
	Key  string    `json:"key"` // in camelCase
	Type FieldType `json:"type"`
	Doc  string    `json:"doc"` // one line for who sets it
	// Required keys have no default.
	Required bool `json:"required,omitempty"`
	// Default is the value where the key is left out: a string, int, bool or []string; nil
	// for none.
	Default any `json:"default,omitempty"`
	// Min and Max bound an integer; both 0 do not.
	Min int `json:"min,omitempty"`
	Max int `json:"max,omitempty"`
	// Choices are what a string, or each of strings, may be; empty for anything.
	Choices []string `json:"choices,omitempty"`
}

// FieldType is what the value of a key is.
type FieldType string

// The types.
const (
	String  FieldType = "string"
	Integer FieldType = "integer"
	Boolean FieldType = "boolean"
	Strings FieldType = "strings" // a list
)

// Config is a configuration that a Schema has been held against: every key is declared, and
// its value a string, an int, a bool or a []string.
type Config map[string]any

// Text is the string at a key, "" without one.
func (c Config) Text(key string) string { s, _ := c[key].(string); return s }

// Int is the integer at a key, 0 without one.
func (c Config) Int(key string) int { n, _ := c[key].(int); return n }

// Bool is the boolean at a key, false without one.
func (c Config) Bool(key string) bool { b, _ := c[key].(bool); return b }

// Strings is the list at a key, nil without one.
func (c Config) Strings(key string) []string { l, _ := c[key].([]string); return l }

// keyForm is what a key looks like.
var keyForm = regexp.MustCompile(`^[a-z][a-zA-Z0-9]{0,62}$`)

// Validate reports what is wrong with the schema itself.
func (s Schema) Validate() error {
	var found []error
	seen := map[string]bool{}
	for _, f := range s {
		if err := f.validate(); err != nil {
			found = append(found, fmt.Errorf("key %.64q: %w", f.Key, err))
		}
		if seen[f.Key] {
			found = append(found, fmt.Errorf("key %.64q is declared twice", f.Key))
		}
		seen[f.Key] = true
	}
	return errors.Join(found...)
}

func (f Field) validate() error {
	switch {
	case !keyForm.MatchString(f.Key):
		return errors.New("keys are letters and digits in camelCase")
	case !slices.Contains([]FieldType{String, Integer, Boolean, Strings}, f.Type):
		return fmt.Errorf("type %.32q is none of string, integer, boolean, strings", f.Type)
	case f.Doc == "" || checkText("doc", f.Doc, maxText) != nil:
		return errors.New("it has no line of documentation")
	case f.Required && f.Default != nil:
		return errors.New("it is required, and has a default")
	case f.Min > f.Max, f.bounded() && f.Type != Integer:
		return errors.New("the bounds are of no integer")
	case len(f.Choices) > 0 && f.Type != String && f.Type != Strings:
		return errors.New("the choices are of no string")
	case f.Default != nil:
		data, err := json.Marshal(f.Default)
		if err != nil {
			return err
		}
		if _, err = f.parse(data); err != nil {
			return fmt.Errorf("the default: %w", err)
		}
	}
	return nil
}

func (f Field) bounded() bool { return f.Min != 0 || f.Max != 0 }

// Parse reads a JSON object as a configuration, fills in defaults, and reports everything
// that is wrong with it, each an *vswitch.Error with the key as its Field.
func (s Schema) Parse(data []byte) (Config, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: "configuration", Err: fmt.Errorf("not an object in JSON: %w", err)}
	}
	var found []error
	known := make([]string, len(s))
	config := Config{}
	for i, f := range s {
		known[i] = f.Key
		value, err := f.value(object[f.Key])
		if err != nil {
			found = append(found, err)
		}
		if value != nil {
			config[f.Key] = value
		}
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, key) {
			found = append(found, unknownKey(key, known))
		}
	}
	return config, errors.Join(found...)
}

func unknownKey(key string, known []string) error {
	if len(known) == 0 {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: fmt.Sprintf("key %.64q", key), Field: key, Err: errors.New("this plugin has no settings"), Hint: "leave it out"}
	}
	err := vswitch.UnknownKey(key, known)
	if e := (*vswitch.Error)(nil); errors.As(err, &e) {
		e.Field = key
	}
	return err
}

// value is that of the key, which may be left out.
func (f Field) value(data json.RawMessage) (any, error) {
	fault := func(err error) error {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: fmt.Sprintf("key %q", f.Key), Field: f.Key, Err: err, Hint: "it is: " + f.Doc}
	}
	if data == nil || string(data) == "null" {
		if f.Required {
			return nil, fault(errors.New("required, and left out"))
		}
		if f.Default == nil {
			return nil, nil
		}
		var err error
		if data, err = json.Marshal(f.Default); err != nil {
			return nil, fault(err)
		}
	}
	value, err := f.parse(data)
	if err != nil {
		return nil, fault(err)
	}
	return value, nil
}

func (f Field) parse(data []byte) (any, error) {
	switch f.Type {
	case Integer:
		var n int
		if err := json.Unmarshal(data, &n); err != nil {
			return nil, fmt.Errorf("%.64s is no integer", data)
		}
		if f.bounded() && (n < f.Min || n > f.Max) {
			return nil, fmt.Errorf("%d is outside %d-%d", n, f.Min, f.Max)
		}
		return n, nil
	case Boolean:
		var b bool
		if err := json.Unmarshal(data, &b); err != nil {
			return nil, fmt.Errorf("%.64s is neither true nor false", data)
		}
		return b, nil
	case Strings:
		var list []string
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("%.64s is no list of strings", data)
		}
		for _, text := range list {
			if err := f.choose(text); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return nil, fmt.Errorf("%.64s is no string", data)
	}
	return text, f.choose(text)
}

func (f Field) choose(text string) error {
	if len(f.Choices) > 0 && !slices.Contains(f.Choices, text) {
		return fmt.Errorf("%.64q is none of %s", text, strings.Join(f.Choices, ", "))
	}
	return nil
}
