// Package wiretest looks at what programs do before Go's runtime has begun.
package wiretest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// harmless is what the compiler makes a few instructions of, and system calls.
var harmless = []string{
	"len", "byte", "int", "int8", "uint64", "uintptr", "max", "unsafe.Pointer",
	"unsafe.Add", "unsafe.Sizeof", "unsafe.String", "unsafe.StringData", "syscall.RawSyscall", "syscall.RawSyscall6",
}

// NeedsNoRuntime fails the test where a function that is marked go:nosplit, in these files,
// needs what there is not before the runtime. It may call its like, in any of the files, system
// calls, and what the compiler makes a few instructions of; and it may have no statement with
// which the runtime has something to do. Whether there is stack enough the linker adds up.
// There are so many of these functions at least.
func NeedsNoRuntime(t *testing.T, fewest int, files ...string) {
	t.Helper()
	set := token.NewFileSet()
	var marked []*ast.FuncDecl
	allowed := slices.Clone(harmless)
	for _, name := range files {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, is := d.(*ast.FuncDecl); is && f.Doc != nil && slices.ContainsFunc(f.Doc.List, func(c *ast.Comment) bool { return c.Text == "//go:nosplit" }) {
				marked = append(marked, f)
				allowed = append(allowed, f.Name.Name)
			}
		}
	}
	if len(marked) < fewest {
		t.Errorf("%d functions in %s: the rest is somewhere else", len(marked), files)
	}
	for _, f := range marked {
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				return true
			}
			at := set.Position(n.Pos())
			at.Filename = filepath.Base(at.Filename)
			switch n := n.(type) {
			case *ast.CallExpr:
				if name := called(n.Fun); name != "" && !slices.Contains(allowed, name) {
					t.Errorf("%s: %s is called", at, name)
				}
			case *ast.GoStmt, *ast.DeferStmt, *ast.SelectStmt, *ast.SendStmt, *ast.FuncLit, *ast.CompositeLit, *ast.MapType, *ast.ChanType, *ast.TypeAssertExpr:
				t.Errorf("%s: %T", at, n)
			case *ast.BinaryExpr:
				if lit, is := n.Y.(*ast.BasicLit); n.Op == token.ADD && is && lit.Kind == token.STRING {
					t.Errorf("%s: strings are joined", at)
				}
			}
			return true
		})
	}
}

// called is what a call calls; "" for a conversion to a pointer.
func called(f ast.Expr) string {
	switch f := f.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, is := f.X.(*ast.Ident); is && (x.Name == "unsafe" || x.Name == "syscall") {
			return x.Name + "." + f.Sel.Name
		}
		return f.Sel.Name
	case *ast.ParenExpr:
		return ""
	}
	return "something"
}
