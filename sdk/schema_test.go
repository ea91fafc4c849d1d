package sdk_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

func everyType() sdk.Schema {
	return sdk.Schema{
		{Key: "firmware", Type: sdk.String, Doc: "which", Choices: []string{"a", "b"}, Default: "a"},
		{Key: "vfs", Type: sdk.Integer, Doc: "how many", Min: 1, Max: 8},
		{Key: "trust", Type: sdk.Boolean, Doc: "whether", Default: false},
		{Key: "nics", Type: sdk.Strings, Doc: "which", Required: true},
	}
}

func TestSchemaParse(t *testing.T) {
	for name, c := range map[string]struct {
		json   string
		want   sdk.Config
		fields []string // at fault
	}{
		"defaults":             {json: `{"nics": []}`, want: sdk.Config{"firmware": "a", "trust": false, "nics": []string{}}},
		"everything":           {json: `{"firmware": "b", "vfs": 8, "trust": true, "nics": ["x", "y"]}`, want: sdk.Config{"firmware": "b", "vfs": 8, "trust": true, "nics": []string{"x", "y"}}},
		"what is required":     {json: `{}`, fields: []string{"nics"}},
		"null is left out":     {json: `{"nics": null}`, fields: []string{"nics"}},
		"all that is wrong":    {json: `{"firmware": "c", "vfs": 9, "trust": "yes", "nics": [1], "vsf": 1}`, fields: []string{"firmware", "vfs", "trust", "nics", "vsf"}},
		"half a VF":            {json: `{"nics": [], "vfs": 1.5}`, fields: []string{"vfs"}},
		"a string as a number": {json: `{"nics": [], "vfs": "3"}`, fields: []string{"vfs"}},
		"no object":            {json: `[]`, fields: []string{""}},
		"no JSON":              {json: `{`, fields: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := everyType().Parse([]byte(c.json))
			var fields []string
			for _, e := range parts(err) {
				fields = append(fields, e.Field)
			}
			if diff := cmp.Diff(c.fields, fields); diff != "" {
				t.Fatalf("%v\n%s", err, diff)
			}
			if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
	_, err := everyType().Parse([]byte(`{"nics": [], "vsf": 1}`))
	if vswitch.HintOf(err) != `did you mean "vfs"?` {
		t.Error(err)
	}
}

// parts are the problems that an error of Parse joins.
func parts(err error) (all []*vswitch.Error) {
	joined, ok := err.(interface{ Unwrap() []error })
	var e *vswitch.Error
	switch {
	case errors.As(err, &e) && error(e) == err: //nolint:errorlint // is it the error itself
		return []*vswitch.Error{e}
	case !ok:
		return nil
	}
	for _, part := range joined.Unwrap() {
		if errors.As(part, &e) {
			all = append(all, e)
		}
	}
	return all
}

func TestSchemaValidate(t *testing.T) {
	if err := everyType().Validate(); err != nil {
		t.Error(err)
	}
	for name, f := range map[string]sdk.Field{
		"a key with a blank":   {Key: "a b", Type: sdk.String, Doc: "d"},
		"no type":              {Key: "a", Doc: "d"},
		"no words":             {Key: "a", Type: sdk.String},
		"required and default": {Key: "a", Type: sdk.String, Doc: "d", Required: true, Default: "x"},
		"bounds of a string":   {Key: "a", Type: sdk.String, Doc: "d", Max: 3},
		"bounds the wrong way": {Key: "a", Type: sdk.Integer, Doc: "d", Min: 3, Max: 1},
		"choices of a number":  {Key: "a", Type: sdk.Integer, Doc: "d", Choices: []string{"1"}},
		"a default out of it":  {Key: "a", Type: sdk.Integer, Doc: "d", Min: 1, Max: 2, Default: 3},
		"a default of another": {Key: "a", Type: sdk.Boolean, Doc: "d", Default: "yes"},
	} {
		if err := (sdk.Schema{f}).Validate(); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if err := (sdk.Schema{{Key: "a", Type: sdk.String, Doc: "d"}, {Key: "a", Type: sdk.String, Doc: "d"}}).Validate(); err == nil {
		t.Error("a key twice passes")
	}
}

// What a schema lets pass it lets pass again as it was sent, with the same values.
func FuzzSchemaParse(f *testing.F) {
	f.Add(`{"nics": ["a"], "vfs": 3}`)
	f.Add(`{"firmware": "b", "trust": null, "nics": []}`)
	f.Fuzz(func(t *testing.T, text string) {
		config, err := everyType().Parse([]byte(text))
		if err != nil {
			return
		}
		data, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		again, err := everyType().Parse(data)
		if diff := cmp.Diff(config, again); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}
