package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/config"
)

// TestExamples has every example understood and valid, and open with a picture. The
// integration tests apply them.
func TestExamples(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../../examples", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".yaml" {
			return err
		}
		seen++
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		c, err := config.Parse(sources(string(text))...)
		if err != nil || len(c.Switches) == 0 {
			t.Errorf("%s is %+v, %v", file, c, err)
		}
		if picture, _, _ := strings.Cut(string(text), "\nversion:"); strings.Count(picture, "\n#") < 8 || !strings.HasPrefix(picture, "#  ") {
			t.Errorf("%s does not open with a picture", file)
		}
		return nil
	})
	if err != nil || seen < 8 {
		t.Fatalf("%d examples, %v", seen, err)
	}
}
