package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/config"
	"github.com/patchbay-net/patchbay/core/vswitch"
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
		opening, _, _ := strings.Cut("\n"+string(text), "\nversion:")
		if drawn := strings.Count(opening, "\n#  "); drawn < 3 { // words begin behind one space
			t.Errorf("%s does not open with a picture", file)
		}
		return nil
	})
	if err != nil || seen < 8 {
		t.Fatalf("%d examples, %v", seen, err)
	}
}

// TestKeysAreDocumented looks for every key of a configuration in docs/declarative.md: those
// of switches stand before those of teams.
func TestKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/declarative.md")
	if err != nil {
		t.Fatal(err)
	}
	switches, teams, found := strings.Cut(string(text), "| `teams[].name`")
	if !found {
		t.Fatal("docs/declarative.md has no teams")
	}
	for _, of := range []struct {
		noun any
		told string
	}{{vswitch.Switch{}, switches}, {vswitch.Team{}, teams}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(of.noun)) {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key != "name" && !strings.Contains(of.told, "`."+key+"`") {
				t.Errorf("docs/declarative.md does not tell of %s of %T", key, of.noun)
			}
		}
	}
}
