package wire

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// What comes before the runtime cannot use it. So each function there says that it has
// stack enough (the linker adds up whether that is so), and calls nothing but its like,
// system calls and what the compiler makes a few instructions of; and there is no
// statement with which the runtime has something to do.
func TestEarlyNeedsNoRuntime(t *testing.T) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "early_amd64.go", nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	harmless := []string{
		"len", "byte", "int", "int8", "uint64", "uintptr", "unsafe.Pointer",
		"unsafe.Add", "unsafe.Sizeof", "unsafe.String", "unsafe.StringData", "syscall.RawSyscall6",
	}
	functions := 0
	for _, d := range file.Decls {
		if f, is := d.(*ast.FuncDecl); is {
			harmless = append(harmless, f.Name.Name)
			functions++
			if f.Doc == nil || !slices.ContainsFunc(f.Doc.List, func(c *ast.Comment) bool { return c.Text == "//go:nosplit" }) {
				t.Errorf("%s is not marked go:nosplit", f.Name.Name)
			}
		}
	}
	if functions < 10 {
		t.Errorf("%d functions: the rest is somewhere else", functions)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		at := func() token.Position { return set.Position(n.Pos()) }
		switch n := n.(type) {
		case *ast.CallExpr:
			if name := called(n.Fun); name != "" && !slices.Contains(harmless, name) {
				t.Errorf("%s: %s is called", at(), name)
			}
		case *ast.GoStmt, *ast.DeferStmt, *ast.SelectStmt, *ast.SendStmt, *ast.FuncLit, *ast.CompositeLit, *ast.MapType, *ast.ChanType, *ast.TypeAssertExpr:
			t.Errorf("%s: %T", at(), n)
		case *ast.BinaryExpr:
			if lit, is := n.Y.(*ast.BasicLit); n.Op == token.ADD && is && lit.Kind == token.STRING {
				if _, constant := n.X.(*ast.Ident); !constant || !strings.HasSuffix(n.X.(*ast.Ident).Name, "Namespace") {
					t.Errorf("%s: strings are joined", at())
				}
			}
		}
		return true
	})
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
