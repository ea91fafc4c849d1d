package sdk

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Bounds of what a plugin says. More is not believed: a plugin that floods fills nobody's
// memory or log.
const (
	MaxMessage = 4 << 20 // bytes of a message, either way
	maxNICs    = 1024
	maxGrants  = 16384
	maxID      = 128
	maxText    = 1024
	maxNumber  = 1 << 40
)

// checkText refuses what is longer than it may be, or would mess up a terminal or a log.
func checkText(what, text string, most int) error {
	if len(text) > most || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%s is %.80q: %d bytes of plain text at most", what, text, most)
	}
	return nil
}

// clean is text of a plugin that is only shown: control characters become blanks, and it is cut.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, cut(text))
}

// cut shortens a text to what an error carries, and makes it what protobuf takes for text.
func cut(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// lie is the error of an answer that cannot be true.
func lie(op, format string, args ...any) error {
	return &vswitch.Error{
		Kind: vswitch.PluginFailed, Op: op, Err: fmt.Errorf("the plugin answered nonsense: "+format, args...),
		Hint: "report it to the plugin's vendor, with the output of `patchbay plugin check PATH`",
	}
}
