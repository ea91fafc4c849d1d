package metadata

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Bounds of what is read, far above what anybody writes.
const (
	maxDepth    = 64
	maxElements = 100_000
)

// Element is an element of XML that was read.
type Element struct {
	Name     xml.Name
	Attrs    []xml.Attr
	Children []*Element
	Text     string // what stands in it, without its children
}

// Find reads the children of a <metadata> and returns the one of this name. One of the
// namespace with another name is Invalid: it was meant for us. Nil is none.
func Find(inner string, name xml.Name) (*Element, error) {
	all, err := read(inner)
	if err != nil {
		return nil, err
	}
	var found *Element
	for _, e := range all {
		switch {
		case e.Name.Space != name.Space:
		case e.Name.Local != name.Local:
			return nil, unknown("metadata", e.Name.Local, []string{name.Local})
		case found != nil:
			return nil, invalid("metadata", "there are two elements %s", name.Local)
		default:
			found = e
		}
	}
	return found, nil
}

// read reads a sequence of elements.
func read(inner string) ([]*Element, error) {
	d := xml.NewDecoder(strings.NewReader(inner))
	root := &Element{}
	open := []*Element{root}
	for n := 0; ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 1 {
			return root.Children, nil
		}
		if err != nil {
			return nil, invalid("metadata", "%w", err)
		}
		top := open[len(open)-1]
		switch t := t.(type) {
		case xml.StartElement:
			if n++; n > maxElements || len(open) > maxDepth {
				return nil, invalid("metadata", "more than %d elements, or deeper than %d", maxElements, maxDepth)
			}
			e := &Element{Name: t.Name, Attrs: t.Copy().Attr}
			top.Children = append(top.Children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			top.Text += string(t)
		}
	}
}

// CheckDepth refuses a document that is not XML or nests deeper than any of libvirt's, for
// what reads it by recursion.
func CheckDepth(document []byte) error {
	d := xml.NewDecoder(strings.NewReader(string(document)))
	depth := 0
	for {
		t, err := d.RawToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return invalid("XML", "%w", err)
		}
		switch t.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return invalid("XML", "elements nest deeper than %d", maxDepth)
			}
		case xml.EndElement:
			depth--
		}
	}
}

func invalid(object, format string, args ...any) *vswitch.Error {
	return &vswitch.Error{Kind: vswitch.Invalid, Object: object, Err: fmt.Errorf(format, args...)}
}

// unknown is the error of a name at a place that does not know it.
func unknown(place, name string, known []string) error {
	e := &vswitch.Error{Kind: vswitch.Invalid, Object: place, Err: fmt.Errorf("%.64q is unknown", name)}
	e.Hint = vswitch.HintOf(vswitch.UnknownKey(name, known))
	return e
}
