package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

const (
	nullTag   = "!!null"
	boolTag   = "!!bool"
	intTag    = "!!int"
	stringTag = "!!str"
)

// value reads a node into v as encoding/json would read the same words, and
// returns where everything stands. what names the value in problems.
func (p *parser) value(n *yaml.Node, v reflect.Value, what string) *place {
	at := &place{source: p.name, line: n.Line, column: n.Column}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if p.left--; p.left < 0 {
		if p.left == -1 {
			p.problem(at, fmt.Errorf("more than %d values, with those that aliases repeat", maxValues), "write the configuration in several files")
		}
		at.bad = true
		return at
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	_, readsText := v.Addr().Interface().(encoding.TextUnmarshaler)
	_, readsJSON := v.Addr().Interface().(json.Unmarshaler)
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == nullTag:
		p.problem(at, fmt.Errorf("%s has no value", what), "give it one, or leave it out")
	case (readsText || readsJSON) && (n.Kind != yaml.MappingNode || !isObject(v)):
		p.scalar(n, v, at, what)
	case v.Kind() == reflect.Struct:
		p.mapping(n, v, at, what)
	case v.Kind() == reflect.Slice:
		p.sequence(n, v, at, what)
	default:
		p.scalar(n, v, at, what)
	}
	return at
}

// isObject reports whether a value that reads a text may be an object as well.
func isObject(v reflect.Value) bool {
	return v.Kind() == reflect.Struct && len(vswitch.JSONKeys(v.Addr().Interface())) > 0
}

func (p *parser) mapping(n *yaml.Node, v reflect.Value, at *place, what string) {
	known := vswitch.JSONKeys(v.Addr().Interface())
	if n.Kind != yaml.MappingNode {
		p.problem(at, fmt.Errorf("%s is %s, not keys with values", what, kindWords(n)), "known keys: "+strings.Join(known, ", "))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		keyAt := &place{source: p.name, line: key.Line, column: key.Column}
		index := slices.Index(known, key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			p.problem(keyAt, fmt.Errorf("a key of %s is %s, not a word", what, kindWords(key)), "known keys: "+strings.Join(known, ", "))
		case key.Value == "<<":
			p.problem(keyAt, fmt.Errorf("merge keys (<<) are not read"), "write the values out")
		case index < 0:
			e := vswitch.UnknownKey(key.Value, known)
			var unknown *vswitch.Error
			if errors.As(e, &unknown) {
				p.problem(keyAt, fmt.Errorf("%s is unknown", unknown.Object), unknown.Hint)
			}
		case at.fields[key.Value] != nil:
			p.problem(keyAt, fmt.Errorf("key %q is given twice", key.Value), "the first is at "+at.fields[key.Value].String())
		default:
			at.set(key.Value, p.value(value, fieldOf(v, key.Value), key.Value))
			continue
		}
		at.set("!"+keyAt.String(), keyAt) // so that the whole counts as spoilt
	}
}

// fieldOf is the struct's field with that JSON key.
func fieldOf(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name == key {
			return v.Field(i)
		}
	}
	panic("config: no field for key " + key) // JSONKeys named it
}

func (p *parser) sequence(n *yaml.Node, v reflect.Value, at *place, what string) {
	if n.Kind != yaml.SequenceNode {
		p.problem(at, fmt.Errorf("%s is a list, and this is %s", what, kindWords(n)), fmt.Sprintf("write \"%s: [%s]\" or a line with \"- \" for each", what, n.Value))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	item := strings.TrimSuffix(strings.TrimSuffix(what, "s"), "e") // of switches, a switch
	for i, c := range n.Content {
		if p.left < 0 {
			break
		}
		at.items = append(at.items, p.value(c, list.Index(i), item))
	}
	v.Set(list.Slice(0, len(at.items)))
}

func (p *parser) scalar(n *yaml.Node, v reflect.Value, at *place, what string) {
	if n.Kind != yaml.ScalarNode {
		p.problem(at, fmt.Errorf("%s is one value, and this is %s", what, kindWords(n)), shape(v))
		return
	}
	target := v.Addr().Interface()
	var err error
	switch text, _ := target.(encoding.TextUnmarshaler); {
	case text != nil:
		err = text.UnmarshalText([]byte(n.Value))
	case isJSON(target):
		err = decodeJSON(n, target)
	case v.Kind() == reflect.String && n.ShortTag() != stringTag:
		p.problem(at, fmt.Errorf("%s is text, and %.64s is %s", what, n.Value, kindWords(n)), fmt.Sprintf("put it in quotes: %.64q", n.Value))
		return
	case v.Kind() == reflect.Int && n.ShortTag() != intTag:
		err = errors.New("no number")
	default:
		err = n.Decode(target)
	}
	if err == nil {
		return
	}
	v.SetZero()
	var e *vswitch.Error
	if errors.As(err, &e) {
		p.problem(at, e.Err, e.Hint)
		return
	}
	p.problem(at, fmt.Errorf("%s cannot be %.64q", what, n.Value), shape(v))
}

func isJSON(target any) bool {
	_, ok := target.(json.Unmarshaler)
	return ok
}

func decodeJSON(n *yaml.Node, target any) error {
	word := any(n.Value)
	if _, number := target.(*vswitch.Number); number && n.ShortTag() == intTag {
		return json.Unmarshal([]byte(n.Value), target)
	}
	if n.ShortTag() == boolTag {
		var on bool
		if err := n.Decode(&on); err != nil {
			return err
		}
		word = on
	}
	text, err := json.Marshal(word)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, target)
}

// shape says how a value of v's type is written.
func shape(v reflect.Value) string {
	switch v.Interface().(type) {
	case netip.Prefix:
		return "write an address with its prefix length, like 10.0.10.1/24"
	case vswitch.MAC:
		return "write it like 0a:50:42:10:00:00"
	case vswitch.Masquerade:
		return "write true, false, ipv4 or ipv6"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "write true or false"
	case reflect.Int:
		return "write a whole number"
	}
	return "write one word, or text in quotes"
}

func kindWords(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case stringTag:
		return "text"
	case boolTag:
		return "true or false"
	case intTag, "!!float":
		return "a number"
	case nullTag:
		return "nothing"
	}
	return "of type " + n.ShortTag()
}
