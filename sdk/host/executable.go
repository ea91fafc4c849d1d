package host

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Executable is a plugin's program on disk.
type Executable struct {
	Name string `json:"name"` // NAME of patchbay-plugin-NAME
	Path string `json:"path"`
}

// ExecutableAt is the plugin at a path, whose last part must be patchbay-plugin-NAME.
func ExecutableAt(path string) (Executable, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Executable{}, untrusted(path, "", err)
	}
	name, is := strings.CutPrefix(filepath.Base(abs), sdk.ExecutablePrefix)
	if !is || name == "" {
		return Executable{}, &vswitch.Error{
			Kind: vswitch.Invalid, Object: "plugin " + path, Err: errors.New("not named like a plugin"),
			Hint: "name the program " + sdk.ExecutablePrefix + "NAME",
		}
	}
	return Executable{Name: name, Path: abs}, nil
}

// Find lists the plugins in some directories by name. Of two with one name the one in the
// earlier directory counts. A directory that does not exist holds none.
func Find(dirs ...string) ([]Executable, error) {
	var found []Executable
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			e, err := ExecutableAt(filepath.Join(dir, entry.Name()))
			if err == nil && !slices.ContainsFunc(found, func(f Executable) bool { return f.Name == e.Name }) {
				found = append(found, e)
			}
		}
	}
	slices.SortFunc(found, func(a, b Executable) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// Checksums are the SHA-256 sums, in hexadecimal, that executables must have, by file name.
// Nil asks for none; in any other a plugin that is not named is not started.
type Checksums map[string]string

var checksumLine = regexp.MustCompile(`^([0-9a-f]{64}) [ *](\S+)$`)

// ReadChecksums reads a file as sha256sum writes it. Where there is no file there are no
// Checksums.
func ReadChecksums(path string) (Checksums, error) {
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
	sums := Checksums{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		m := checksumLine.FindStringSubmatch(text)
		if m == nil {
			return nil, untrusted(path, "write it with sha256sum", fmt.Errorf("line %d is not a checksum and a name", n))
		}
		sums[filepath.Base(m[2])] = m[1]
	}
	return sums, lines.Err()
}

func untrusted(path, hint string, err error) error {
	return &vswitch.Error{Kind: vswitch.PluginUntrusted, Object: path, Err: err, Hint: hint}
}

// open opens the program for starting it, if it may be: it and all directories above it
// belong to root or to whom this process runs as, and nobody else can write to them, unless
// somebody vouches for that; and it has the checksum that it must have. What is started is
// what was looked at: the file is never opened again.
func (e Executable) open(sums Checksums, vouched bool) (*os.File, error) {
	resolved, err := filepath.EvalSymlinks(e.Path)
	if err != nil {
		return nil, untrusted(e.Path, "install the plugin, or name another one", err)
	}
	f, err := os.Open(resolved)
	if err != nil {
		return nil, untrusted(e.Path, "", err)
	}
	err = executable(f, e.Path)
	if err == nil && !vouched {
		err = cmp.Or(owned(f, e.Path), ownedAbove(e.Path), ownedAbove(resolved))
	}
	if err == nil && sums != nil {
		err = sums.check(f, e.Path)
	}
	if err != nil {
		_ = f.Close() // it was only read
		return nil, err
	}
	return f, nil
}

// Verify reports why the program would not be started, if it would not.
func (e Executable) Verify(sums Checksums) error {
	f, err := e.open(sums, false)
	if err != nil {
		return err
	}
	return f.Close()
}

func executable(f *os.File, path string) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return untrusted(path, "", err)
	case !info.Mode().IsRegular():
		return untrusted(path, "", errors.New("not a file"))
	case info.Mode()&0o111 == 0:
		return untrusted(path, "run `chmod 0755 "+path+"`", errors.New("not executable"))
	}
	return nil
}

// owned refuses a file that somebody else could change.
func owned(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return untrusted(path, "", err)
	}
	return ownedInfo(info, path)
}

func ownedInfo(info fs.FileInfo, path string) error {
	hint := "run `chown root " + path + " && chmod go-w " + path + "`"
	if info.IsDir() {
		hint = "install plugins in a directory that only root can write to, as /usr/local/lib/patchbay/plugins should be"
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return untrusted(path, "", errors.New("its owner is not known"))
	case stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return untrusted(path, hint, fmt.Errorf("it belongs to user %d, who could change it", stat.Uid))
	case info.Mode().Perm()&0o022 != 0 && (!info.IsDir() || info.Mode()&fs.ModeSticky == 0):
		return untrusted(path, hint, fmt.Errorf("others than its owner may write to it (mode %04o)", info.Mode().Perm()))
	}
	return nil
}

// ownedAbove refuses a path in which somebody else could put another file.
func ownedAbove(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return untrusted(dir, "", err)
		}
		if err := ownedInfo(info, dir); err != nil {
			return err
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (sums Checksums) check(f *os.File, path string) error {
	want, listed := sums[filepath.Base(path)]
	if !listed {
		return untrusted(path, "add the output of sha256sum to the list of checksums", errors.New("no checksum of it is listed"))
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return untrusted(path, "", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return untrusted(path, "install it anew, or list its new checksum", fmt.Errorf("its SHA-256 is %s, not %s", got, want))
	}
	return nil
}
