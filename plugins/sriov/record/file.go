package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/patchbay-net/patchbay/core/mortal"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// File is the state on disk. Whoever uses it sees to it that only one does at a time.
type File struct {
	path  string
	state State
}

// maxFile is more than a state of the most VFs is long.
const maxFile = 64 << 20

// Open reads the file at a path, or begins one. What it says of another boot than this is
// left out: VFs and all that they were set to ended with that.
func Open(path, boot string) (*File, error) {
	f := &File{path: path, state: State{Version: version, Boot: boot}}
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: "record " + path, Err: err}
	}
	s, err := Parse(data)
	if err != nil {
		return nil, &vswitch.Error{
			Kind: vswitch.StoreCorrupt, Object: "record " + path, Err: err,
			Hint: fmt.Sprintf("move it away with `mv %s %s.bad`; VFs that it knew of then count as others'", path, path),
		}
	}
	if s.Boot == boot {
		f.state = s
	}
	return f, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	return data, err
}

// Parse reads a state as it was written; whatever else it is given is an error.
func Parse(data []byte) (State, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var s State
	if err := d.Decode(&s); err != nil {
		return State{}, err
	}
	if d.More() {
		return State{}, errors.New("something follows its end")
	}
	return s, s.Validate()
}

// State is what is written down. It is the caller's.
func (f *File) State() State {
	s := f.state
	s.Made, s.First, s.VFs = maps.Clone(s.Made), maps.Clone(s.First), maps.Clone(s.VFs)
	return s
}

// Put writes a VF down, and Made has it known that VFs were made on a NIC: both are on the
// disk when they return. One that failed has changed nothing.
func (f *File) Put(addr string, vf VF) error {
	s := f.State()
	if s.VFs == nil {
		s.VFs = map[string]VF{}
	}
	s.VFs[addr] = vf
	return f.save(s)
}

// Drop forgets VFs.
func (f *File) Drop(addrs ...string) error {
	s := f.State()
	n := len(s.VFs)
	for _, addr := range addrs {
		delete(s.VFs, addr)
	}
	if len(s.VFs) == n {
		return nil
	}
	return f.save(s)
}

// Made notes how many VFs were made on a NIC, 0 for none, and the first one's inode, 0 while
// that is not known.
func (f *File) Made(pf string, n int, first uint64) error {
	s := f.State()
	if s.Made[pf] == n && s.First[pf] == first {
		return nil
	}
	if s.Made == nil {
		s.Made = map[string]int{}
	}
	if s.First == nil {
		s.First = map[string]uint64{}
	}
	s.Made[pf], s.First[pf] = n, first
	if first == 0 {
		delete(s.First, pf)
	}
	if n == 0 {
		delete(s.Made, pf)
		delete(s.First, pf)
	}
	return f.save(s)
}

// save replaces the file by another: whenever the process or the machine ends there is the
// one or the other, whole.
func (f *File) save(s State) error {
	data, err := json.Marshal(s)
	if err == nil {
		mortal.Point()
		err = replace(f.path, data)
		mortal.Point()
	}
	if err != nil {
		return &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: "record " + f.path, Err: err, Hint: "see that there is room, and that the directory can be written"}
	}
	f.state = s
	return nil
}

func replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	half := path + ".half"
	f, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(half, path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
