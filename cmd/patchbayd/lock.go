package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func errNotRoot() error {
	return &vswitch.Error{
		Kind: vswitch.KernelFailed, Op: "start", Err: errors.New("patchbayd changes the host's network, which root alone may"),
		Hint: "run `sudo patchbayd`, or `systemctl start patchbayd`",
	}
}

// lockRunDir makes this process the one patchbayd of a run directory. The lock
// ends with the process, however it ends.
func lockRunDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	path := filepath.Join(dir, "patchbayd.pid")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable(path, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = taken(f)
	} else if err == nil {
		err = note(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// note writes who holds the lock.
func note(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return unusable(f.Name(), err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return unusable(f.Name(), err)
	}
	return nil
}

func taken(f *os.File) error {
	pid := make([]byte, 32)
	n, _ := f.ReadAt(pid, 0) // for the message alone
	who := strings.TrimSpace(string(pid[:n]))
	return &vswitch.Error{
		Kind: vswitch.AlreadyExists, Op: "start", Err: fmt.Errorf("patchbayd runs already, as process %s", who),
		Hint: fmt.Sprintf("use that one, or stop it first: `systemctl stop patchbayd`, or `kill %s`", who),
	}
}

func unusable(path string, err error) error {
	return &vswitch.Error{Kind: vswitch.StoreUnavailable, Op: "start", Object: path, Err: err, Hint: "check " + path + " and its directory"}
}
