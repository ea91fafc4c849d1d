package metadata

import (
	"encoding/xml"
	"fmt"
	"reflect"
	"strings"
)

// Encode writes a struct as an element of that name, with the prefix that the namespace is
// to be declared for, each line behind indent. The namespace is declared here where space
// is not empty.
func Encode(b *strings.Builder, indent string, name Name, v any) {
	w := writer{b: b}
	if name.Prefix != "" {
		w.prefix = name.Prefix + ":"
	}
	declared := ""
	if name.Space != "" {
		declared = fmt.Sprintf(" xmlns:%s=%s", name.Prefix, quoted(name.Space))
	}
	w.object(indent, name.Local, declared, reflect.Indirect(reflect.ValueOf(v)))
}

// Name is how an element is called: <prefix:local xmlns:prefix="space">. Without a prefix it is
// for libvirt to declare the namespace.
type Name struct{ Prefix, Local, Space string }

type writer struct {
	b      *strings.Builder
	prefix string
}

func (w writer) object(indent, name, declared string, v reflect.Value) {
	fmt.Fprintf(w.b, "%s<%s%s%s", indent, w.prefix, name, declared)
	var children []int
	for i := range v.NumField() {
		field, key := v.Field(i), keyOf(v.Type().Field(i))
		switch {
		case key == "" || !given(field):
		case shape(field.Type()) == oneWord:
			fmt.Fprintf(w.b, " %s=%s", key, quoted(word(field)))
		default:
			children = append(children, i)
		}
	}
	if len(children) == 0 {
		w.b.WriteString("/>\n")
		return
	}
	w.b.WriteString(">\n")
	for _, i := range children {
		w.child(indent+"  ", keyOf(v.Type().Field(i)), reflect.Indirect(v.Field(i)))
	}
	fmt.Fprintf(w.b, "%s</%s%s>\n", indent, w.prefix, name)
}

func (w writer) child(indent, key string, v reflect.Value) {
	switch shape(v.Type()) {
	case object:
		w.object(indent, key, "", v)
	case objects:
		for i := range v.Len() {
			w.object(indent, key, "", v.Index(i))
		}
	case many:
		for i := range v.Len() {
			fmt.Fprintf(w.b, "%s<%s%s>%s</%s%s>\n", indent, w.prefix, key, Escape(word(v.Index(i))), w.prefix, key)
		}
		if v.Len() == 0 {
			fmt.Fprintf(w.b, "%s<%s%s/>\n", indent, w.prefix, key)
		}
	}
}

// given reports whether a field says something: a pointer by being there.
func given(v reflect.Value) bool {
	if v.Kind() == reflect.Slice {
		return v.Len() > 0
	}
	return !v.IsZero()
}

// word is a value that shape calls oneWord.
func word(v reflect.Value) string {
	v = reflect.Indirect(v)
	if v.Kind() == reflect.Bool {
		if v.Bool() {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(v.Interface())
}

func quoted(s string) string { return "'" + Escape(s) + "'" }

// Escape writes a text as XML has it.
func Escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
