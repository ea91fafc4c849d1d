package host

import (
	"cmp"
	"strings"
)

// Where plugins and their checksums are, unless the environment says otherwise.
const (
	DirsEnv      = "PATCHBAY_PLUGIN_DIRS" // directories, with colons between them
	defaultDirs  = "/usr/local/lib/patchbay/plugins:/usr/lib/patchbay/plugins"
	ChecksumFile = "/etc/patchbay/plugins.sha256"
	SettingsEnv  = "PATCHBAY_PLUGIN_SETTINGS" // the directory of their configurations, NAME.json
	settingsDir  = "/etc/patchbay/plugins"
)

// Settings is the directory of the plugins' configurations.
func Settings(getenv func(string) string) string { return cmp.Or(getenv(SettingsEnv), settingsDir) }

// Dirs are the directories in which plugins are looked for.
func Dirs(getenv func(string) string) []string {
	list := getenv(DirsEnv)
	if list == "" {
		list = defaultDirs
	}
	return strings.FieldsFunc(list, func(r rune) bool { return r == ':' })
}
