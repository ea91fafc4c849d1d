package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Decode reads an element into the struct that v points to. All that is wrong is reported,
// each problem with its place: "portProfile web: policy: dhcpGuard: ...".
func (e *Element) Decode(v any) error {
	d := decoder{space: e.Name.Space}
	d.object(e, reflect.ValueOf(v).Elem(), e.Place())
	return errors.Join(d.problems...)
}

// Place is how an error names the element: with the attribute that identifies it.
func (e *Element) Place() string {
	for _, key := range []string{"name", "alias", "mac"} {
		if value := e.Attr(key); value != "" {
			return fmt.Sprintf("%s %.64s", e.Name.Local, value)
		}
	}
	return e.Name.Local
}

// Attr is the value of an attribute, "" where there is none.
func (e *Element) Attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

type decoder struct {
	space    string
	problems []error
}

func (d *decoder) problem(err error) { d.problems = append(d.problems, err) }

// object reads an element into a struct.
func (d *decoder) object(e *Element, v reflect.Value, place string) {
	if strings.TrimSpace(e.Text) != "" {
		d.problem(invalid(place, "text %.32q where none is read", strings.TrimSpace(e.Text)))
	}
	seen := make(map[string]bool)
	for _, a := range e.Attrs {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		field, fits := fieldOf(v, a.Name.Local)
		switch {
		case a.Name.Space != "" || !fits:
			d.problem(unknown(place, a.Name.Local, keysOf(v)))
		case shape(field.Type()) != oneWord:
			d.problem(invalid(place, "%s is an element of its own, not an attribute", a.Name.Local))
		case seen[a.Name.Local]:
			d.problem(invalid(place, "%s is given twice", a.Name.Local))
		default:
			seen[a.Name.Local] = true
			d.word(field, a.Value, place+": "+a.Name.Local)
		}
	}
	for _, child := range e.Children {
		d.child(child, v, place, seen)
	}
}

// child reads an element into the field of its name.
func (d *decoder) child(e *Element, v reflect.Value, place string, seen map[string]bool) {
	key := e.Name.Local
	field, fits := fieldOf(v, key)
	if e.Name.Space != d.space || !fits {
		d.problem(unknown(place, key, keysOf(v)))
		return
	}
	kind := shape(field.Type())
	if seen[key] && kind != many {
		d.problem(invalid(place, "%s is given twice", key))
		return
	}
	first := !seen[key]
	seen[key] = true
	switch kind {
	case oneWord:
		d.problem(invalid(place, "%s is an attribute, not an element", key))
	case object:
		d.object(e, pointed(field), place+": "+key)
	case objects:
		item := reflect.New(field.Type().Elem()).Elem()
		d.object(e, item, e.Place())
		field.Set(reflect.Append(field, item))
		delete(seen, key)
	case many:
		d.item(e, pointed(field), place+": "+key, first)
	}
}

// item reads an element's text onto the end of a list. An empty element is an empty list.
func (d *decoder) item(e *Element, list reflect.Value, place string, first bool) {
	text := strings.TrimSpace(e.Text)
	if len(e.Attrs) > 0 || len(e.Children) > 0 {
		d.problem(invalid(place, "holds something else than text"))
		return
	}
	if text == "" {
		if !first || list.Len() > 0 {
			d.problem(invalid(place, "an empty one beside others"))
		}
		list.Set(reflect.MakeSlice(list.Type(), 0, 0))
		return
	}
	if !first && list.Len() == 0 {
		d.problem(invalid(place, "an empty one beside others"))
		return
	}
	value := reflect.New(list.Type().Elem()).Elem()
	d.word(value, text, place)
	list.Set(reflect.Append(list, value))
}

// word reads a value that is one word.
func (d *decoder) word(v reflect.Value, text, place string) {
	v = pointed(v)
	fail := func(err error) {
		e := &vswitch.Error{Kind: vswitch.Invalid, Object: place, Err: err}
		if own := (*vswitch.Error)(nil); errors.As(err, &own) {
			e.Kind, e.Hint, e.Err = own.Kind, own.Hint, own.Err
		}
		d.problem(e)
	}
	if own, reads := v.Addr().Interface().(json.Unmarshaler); reads {
		quoted, _ := json.Marshal(text)
		if err := own.UnmarshalJSON(quoted); err != nil {
			fail(err)
		}
		return
	}
	if own, reads := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); reads {
		if err := own.UnmarshalText([]byte(text)); err != nil {
			fail(err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		switch {
		case slices.Contains([]string{"yes", "on", "true"}, text):
			v.SetBool(true)
		case slices.Contains([]string{"no", "off", "false"}, text):
			v.SetBool(false)
		default:
			fail(fmt.Errorf("%.32q is neither yes nor no", text))
		}
	case reflect.Int, reflect.Int64:
		n, err := strconv.Atoi(text)
		if err != nil {
			fail(fmt.Errorf("%.32q is not a whole number", text))
		}
		v.SetInt(int64(n))
	default: // a string, by shape
		v.SetString(text)
	}
}
