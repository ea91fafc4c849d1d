package host

import "strings"

// Where plugins and their checksums are, unless the environment says otherwise.
const (
	DirsEnv      = "PATCHBAY_PLUGIN_DIRS" // directories, with colons between them
	defaultDirs  = "/usr/local/lib/patchbay/plugins:/usr/lib/patchbay/plugins"
	ChecksumFile = "/etc/patchbay/plugins.sha256"
)

// Dirs are the directories in which plugins are looked for.
func Dirs(getenv func(string) string) []string {
	list := getenv(DirsEnv)
	if list == "" {
		list = defaultDirs
	}
	return strings.FieldsFunc(list, func(r rune) bool { return r == ':' })
}
