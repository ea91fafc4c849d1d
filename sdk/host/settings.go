package host

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// maxSettings bounds the configuration of a plugin.
const maxSettings = 1 << 20

// ReadSettings reads the configuration of a plugin, the file NAME.json of a directory, which
// nobody but its owner may be able to change. Where there is no file there are no settings.
func ReadSettings(dir, name string) (json.RawMessage, error) {
	path := filepath.Join(dir, name+".json")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	if err := owned(f, path); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxSettings || !json.Valid(text):
		return nil, &vswitch.Error{
			Kind: vswitch.Invalid, Object: path, Err: errors.New("it is no object in JSON"),
			Hint: "write the plugin's settings, as in {\"vfs\": 4}; `patchbay plugin run " + name + "` shows which it has",
		}
	}
	return text, nil
}
