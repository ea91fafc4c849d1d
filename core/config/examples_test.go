package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay-net/patchbay/core/config"
)

// TestExamplesOfTeams has every file that shows teams understood and valid.
func TestExamplesOfTeams(t *testing.T) {
	files, err := filepath.Glob("../../examples/teams/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse(sources(string(text))...)
			if err != nil || len(c.Teams) == 0 || len(c.Switches) == 0 {
				t.Errorf("it is %+v, %v", c, err)
			}
		})
	}
}
