package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Limits of what is read. A switch takes some 150 bytes.
const (
	MaxSize     = 1 << 20 // bytes of one source
	maxValues   = 1 << 18 // of all documents, each use of an alias counted
	maxProblems = 50
)

// Source is a text and the name that its problems are told under: a file's, or
// "<stdin>".
type Source struct {
	Name string
	Text []byte
}

// Read reads a source of at most MaxSize bytes; a longer one is Invalid.
func Read(name string, r io.Reader) (Source, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err == nil && len(text) > MaxSize {
		err = &vswitch.Error{
			Kind: vswitch.Invalid, Object: name, Err: fmt.Errorf("more than %d bytes", MaxSize),
			Hint: "name a configuration; `patchbay export` shows what one looks like",
		}
	}
	return Source{Name: name, Text: text}, err
}

// Parse reads the configuration that all sources and their YAML documents make
// together: their switches are one list, and the MAC pool is in one of them. The
// error holds every problem, each a *vswitch.Error whose Object is file:line:column.
// The result is valid (vswitch.Config.Validate).
func Parse(sources ...Source) (vswitch.Config, error) {
	p := parser{left: maxValues, root: &place{}}
	for _, s := range sources {
		p.names = append(p.names, s.Name)
		p.source(s)
	}
	if p.documents == 0 && len(p.problems) == 0 && len(sources) > 0 {
		p.problem(&place{source: sources[0].Name}, fmt.Errorf("is empty"), "begin with \"version: 1\"; `patchbay export` shows what a configuration looks like")
	}
	if p.documents > 0 {
		p.validate()
	}
	return p.config, p.err()
}

type parser struct {
	config    vswitch.Config
	root      *place
	documents int
	name      string   // of the source being read
	names     []string // of all sources
	left      int      // values that may still be looked at
	problems  []problem
}

// problem is what is wrong, and where it stands.
type problem struct {
	at  *place
	err error
}

func (p *parser) source(s Source) {
	p.name = s.Name
	if len(s.Text) > MaxSize {
		p.problem(&place{source: s.Name}, fmt.Errorf("more than %d bytes", MaxSize), "")
		return
	}
	d := yaml.NewDecoder(bytes.NewReader(s.Text))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.syntax(err)
			return
		}
		p.document(&doc)
	}
}

// document reads one document and adds it to what was read before.
func (p *parser) document(doc *yaml.Node) {
	n := doc
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	if n.Kind == 0 || n.ShortTag() == nullTag {
		return // nothing but comments
	}
	p.documents++
	var c vswitch.Config
	at := p.value(n, reflect.ValueOf(&c).Elem(), "the configuration")
	if version, given := at.fields["version"]; given {
		if c.Version != vswitch.ConfigVersion && !version.bad {
			p.problem(version, fmt.Errorf("version %d is unknown", c.Version), fmt.Sprintf("this Patchbay reads version: %d", vswitch.ConfigVersion))
		}
	} else if n.Kind == yaml.MappingNode {
		p.problem(at, fmt.Errorf("the version is missing"), fmt.Sprintf("begin with \"version: %d\"", vswitch.ConfigVersion))
	}
	if pool := at.fields["macPool"]; pool != nil {
		if first := p.root.fields["macPool"]; first != nil {
			p.problem(pool, fmt.Errorf("the MAC pool is defined twice"), "the first is at "+first.String())
		} else {
			p.config.MACPool = c.MACPool
			p.root.set("macPool", pool)
		}
	}
	if p.list("switches", at, len(c.Switches)) {
		p.config.Switches = append(p.config.Switches, c.Switches...)
	}
	if p.list("teams", at, len(c.Teams)) {
		p.config.Teams = append(p.config.Teams, c.Teams...)
	}
}

// list adds the places of a document's list to those of the documents before, unless
// what was read of it is not whole.
func (p *parser) list(key string, at *place, read int) bool {
	found := at.fields[key]
	if found == nil || len(found.items) != read {
		return false
	}
	all := &place{source: found.source, line: found.line, column: found.column}
	if before := p.root.fields[key]; before != nil {
		all = before
	}
	all.items = append(all.items, found.items...)
	p.root.set(key, all)
	return true
}

// validate applies the rules of the nouns and finds the place of what they refuse.
// Where a field could not be read, what follows from its absence is not told.
func (p *parser) validate() {
	p.config.Version = vswitch.ConfigVersion // each document's is checked
	for _, err := range parts(p.config.Validate()) {
		var e *vswitch.Error
		if !errors.As(err, &e) {
			p.report(vswitch.Invalid, p.root, err, "")
			continue
		}
		at, part, exact := p.root.find(e.Field)
		if at.bad || part.spoilt() && (!exact || at == part.fields["masquerade"]) {
			continue
		}
		hint := e.Hint
		if e.Kind == vswitch.AlreadyExists {
			hint = p.firstOf(at)
		}
		cause := error(e.Kind)
		if e.Err != nil {
			cause = e.Err
		}
		if e.Object != "" && e.Object != "switch " && e.Object != "switch" {
			cause = fmt.Errorf("%s: %w", e.Object, cause)
		}
		p.report(e.Kind, at, cause, hint)
	}
}

// firstOf tells where the switch or team was defined before that is defined again at
// here.
func (p *parser) firstOf(here *place) string {
	names := map[string][]string{}
	for _, s := range p.config.Switches {
		names["switches"] = append(names["switches"], s.Name)
	}
	for _, t := range p.config.Teams {
		names["teams"] = append(names["teams"], t.Name)
	}
	for key, list := range p.root.fields {
		again := slices.IndexFunc(list.items, func(i *place) bool { return i.fields["name"] == here })
		if again < 0 || again >= len(names[key]) {
			continue
		}
		if first := slices.Index(names[key], names[key][again]); first < again {
			return "the first is at " + list.items[first].String()
		}
	}
	return ""
}

func parts(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// problem is with a value that could not be read.
func (p *parser) problem(at *place, cause error, hint string) {
	at.bad = true
	p.report(vswitch.Invalid, at, cause, hint)
}

func (p *parser) report(kind vswitch.Kind, at *place, cause error, hint string) {
	p.problems = append(p.problems, problem{at, &vswitch.Error{Kind: kind, Object: at.String(), Err: cause, Hint: hint}})
}

// err lists the problems of each source from its first line to its last.
func (p *parser) err() error {
	slices.SortStableFunc(p.problems, func(a, b problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(p.names, a.at.source), slices.Index(p.names, b.at.source)),
			cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column),
		)
	})
	var errs []error
	for _, known := range p.problems[:min(len(p.problems), maxProblems)] {
		errs = append(errs, known.err)
	}
	if more := len(p.problems) - maxProblems; more > 0 {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("and %d more problems", more), Hint: "mend these first"})
	}
	return errors.Join(errs...)
}

// syntax is a text that is no YAML; the library tells the line alone.
func (p *parser) syntax(err error) {
	at := &place{source: p.name}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`(?s)^line (\d+): (.*)$`).FindStringSubmatch(text); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	p.problem(at, fmt.Errorf("not YAML: %.200s", text), "indent with spaces, and put text with ':' or '#' in quotes")
}
