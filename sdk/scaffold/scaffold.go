// Package scaffold writes the beginnings of a vendor's plugin: a repository that builds and
// passes package conformance as it is, with a NIC that is made up.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

//go:embed files/* files/.gitignore.tmpl
var files embed.FS

// Options say what is begun.
type Options struct {
	Name   string // NAME of patchbay-plugin-NAME
	Module string // path of the Go module
	Dir    string // which must not exist, or be empty
	// SDK is the release of Patchbay that the plugin is built with. SDKDir is a directory
	// with its source instead; then SDK may be "".
	SDK, SDKDir string
}

var (
	nameForm   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	moduleForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._~/-]{0,200}$`)
)

// Write writes the files and returns their names.
func Write(o Options) ([]string, error) {
	invalid := func(object string, hint string, format string, args ...any) error {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: object, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	if !nameForm.MatchString(o.Name) {
		return nil, invalid("plugin", "name it like acme or acme-nic", "%.40q is not lower-case letters, digits and '-', at most 31", o.Name)
	}
	if !moduleForm.MatchString(o.Module) {
		return nil, invalid("module", "write it like example.com/acme/patchbay-plugin-acme", "%.80q is no module path", o.Module)
	}
	if o.SDKDir != "" {
		abs, err := filepath.Abs(o.SDKDir)
		if err != nil {
			return nil, err
		}
		o.SDK, o.SDKDir = "v0.0.0", abs
	}
	entries, err := os.ReadDir(o.Dir)
	switch {
	case err == nil && len(entries) > 0:
		return nil, &vswitch.Error{Kind: vswitch.AlreadyExists, Object: o.Dir, Err: errors.New("not empty"), Hint: "name another directory with --dir"}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	templates, err := template.ParseFS(files, "files/*")
	if err != nil {
		return nil, err
	}
	var written []string
	for _, t := range templates.Templates() {
		name := strings.TrimSuffix(strings.ReplaceAll(path.Base(t.Name()), "__", "/"), ".tmpl")
		if err := write(t, filepath.Join(o.Dir, filepath.FromSlash(name)), o); err != nil {
			return nil, err
		}
		written = append(written, name)
	}
	return written, nil
}

func write(t *template.Template, name string, o Options) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, o), f.Close())
}
