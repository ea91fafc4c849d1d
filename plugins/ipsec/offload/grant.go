package offload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// grant is what a port was given: room for SAs on a NIC.
type grant struct {
	Port       string      `json:"port"`
	NIC        string      `json:"nic"`
	MAC        vswitch.MAC `json:"mac"` // by which its VF is known
	Generation uint64      `json:"generation"`
	MaxSAs     int         `json:"maxSAs"`
	Netns      string      `json:"netns,omitempty"` // path; "" for the host's
	Inode      uint64      `json:"inode"`           // which namespace was there
}

func (g grant) ref() sdk.Ref { return sdk.Ref{Port: g.Port, Feature: vswitch.IPsec} }

// standsAtPath reports whether the path leads to the namespace that the grant is of, and not
// to none, or to a later one.
func (g grant) standsAtPath() bool {
	inode, err := netnsInode(g.Netns)
	return err == nil && inode == g.Inode
}

// record is the grants on disk, a file each, so that a plugin that starts again knows whose
// SAs are on the NICs. SAs and their keys are not in it: the kernel has them. It is on a file
// system that a boot empties, as a boot ends SAs.
type record struct{ dir string }

const suffix = ".json"

func (r record) file(g grant) string {
	sum := sha256.Sum256([]byte(g.Port))
	return filepath.Join(r.dir, hex.EncodeToString(sum[:16])+suffix)
}

// save writes a grant, before it is carried out.
func (r record) save(g grant) error {
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	half := r.file(g) + ".half"
	err = os.WriteFile(half, text, 0o600)
	if err == nil {
		err = os.Rename(half, r.file(g))
	}
	return r.failed(err)
}

// remove removes one, after it was taken back.
func (r record) remove(g grant) error {
	err := os.Remove(r.file(g))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return r.failed(err)
}

func (r record) failed(err error) error {
	if err == nil {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.StoreUnavailable, Object: r.dir, Err: err,
		Hint: "make the directory of the ipsec plugin's setting `state` writable for root",
	}
}

// load reads them all. A file that is not one of ours, or half of one, is an error only in
// the log: the port will be ensured anew.
func (r record) load() (all []grant, err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, r.failed(err)
	}
	names, err := filepath.Glob(filepath.Join(r.dir, "*"+suffix))
	if err != nil {
		return nil, r.failed(err)
	}
	var unread []error
	for _, name := range names {
		var g grant
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &g)
		}
		if err == nil && r.file(g) != name {
			err = errors.New("it is another port's")
		}
		if err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", name, err), os.Remove(name))
			continue
		}
		all = append(all, g)
	}
	logIfAny("grants that cannot be read", unread)
	return all, nil
}
