package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/guest/boot"
)

// needy is a test that calls guest.Needs.
type needy struct {
	name     string
	features []guest.Feature
}

// kernel is the kernel that has what the test needs; the quick one if it has.
func (n needy) kernel() boot.Kernel {
	for _, f := range n.features {
		if !f.InUML() {
			return boot.QEMU
		}
	}
	return boot.UML
}

// findNeedy finds the tests of a directory that call guest.Needs.
func findNeedy(dir string) (found []needy, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			features, err := needsOf(fn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", fn.Name, err)
			}
			if len(features) > 0 {
				found = append(found, needy{fn.Name.Name, features})
			}
		}
	}
	return found, nil
}

// needsOf are the features that a test says it needs.
func needsOf(fn *ast.FuncDecl) (features []guest.Feature, err error) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || nameIn("guest", call.Fun) != "Needs" || err != nil {
			return true
		}
		for _, arg := range call.Args[1:] {
			var f guest.Feature
			if f, err = guest.Named(nameIn("guest", arg)); err != nil {
				return false
			}
			features = append(features, f)
		}
		return false
	})
	return features, err
}

// nameIn is the name that an expression selects of a package, or "".
func nameIn(pkg string, e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := s.X.(*ast.Ident); !ok || x.Name != pkg {
		return ""
	}
	return s.Sel.Name
}

// host knows what this machine's own kernel lacks.
type host struct {
	root    bool
	missing map[guest.Feature]bool
}

func thisHost() *host { return &host{root: os.Getuid() == 0, missing: make(map[guest.Feature]bool)} }

// leaves reports whether this machine leaves a test to a guest.
func (h *host) leaves(n needy) bool {
	for _, f := range n.features {
		missing, known := h.missing[f]
		if !known {
			missing = !h.root || f.Missing() != nil
			h.missing[f] = missing
		}
		if missing {
			return true
		}
	}
	return false
}
