package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// unavailable is the error of a path that cannot be read or written.
func unavailable(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path is the object already
	}
	return &vswitch.Error{
		Kind: vswitch.StoreUnavailable, Object: "store " + path,
		Err: err, Hint: unavailableHint(path, err),
	}
}

func unavailableHint(path string, err error) string {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "run as root"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Sprintf("make room: `df %s` shows the file system that is full", path)
	case errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("mount the file system of %s for writing", path)
	case errors.Is(err, syscall.EIO):
		return "check the disk: `dmesg` tells which one failed"
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "free memory or raise the limit on open files, then try again"
	}
	return fmt.Sprintf("check %s and its directory", path)
}

// isSystem tells an error of the operating system from one of the file's content.
func isSystem(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// withErrno gives an error back the errno that bbolt (1.5.0) tells of in words alone, where
// it makes the file larger. What kept a commit from being written is no damage of the file.
func withErrno(err error) error {
	if err == nil || isSystem(err) {
		return err
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS} {
		if strings.HasSuffix(err.Error(), ": "+errno.Error()) {
			return fmt.Errorf("make the file larger: %w", errno)
		}
	}
	return err
}

// corrupt is the error of a file that is not as we wrote it. Nothing of it is
// removed: the user may want to look, or has a backup.
func (k fileKind) corrupt(path string, err error) error {
	return &vswitch.Error{
		Kind: vswitch.StoreCorrupt, Object: "store " + path, Err: err,
		Hint: fmt.Sprintf("keep the file for a report: `mv %s %s.corrupt`, then %s", path, path, k.recovery),
	}
}

// newer is the error of a file whose format we do not know.
func newer(path, by string, schema int) error {
	return &vswitch.Error{
		Kind: vswitch.StoreNewer, Object: "store " + path,
		Err:  fmt.Errorf("written by Patchbay %s in format %d, and this one reads up to %d", by, schema, schemaVersion),
		Hint: "install that Patchbay or a later one",
	}
}
