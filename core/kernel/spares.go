package kernel

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// This file is about the netdevs that modules make when a probe loads them, in the first
// namespace of the machine: down, nobody's, and in the way of who wants one of that name.

// spareNetdev is one that a module makes.
type spareNetdev struct{ module, kind, name string }

func spareNetdevs() []spareNetdev {
	return []spareNetdev{{"bonding", "bond", "bond0"}, {"ifb", "ifb", "ifb0"}, {"ifb", "ifb", "ifb1"}}
}

// spares are those whose module is not loaded, so that a netdev of that name which is there
// afterwards is the module's.
func (c *rtnl) spares() (all []spareNetdev) {
	for _, s := range spareNetdevs() {
		_, module := os.Stat(filepath.Join("/sys/module", s.module))
		if _, err := c.link(s.name); os.IsNotExist(module) && isAbsent(err) {
			all = append(all, s)
		}
	}
	return all
}

// dropSpares removes those that modules have made since, as far as they are as modules make
// them.
func (c *rtnl) dropSpares(spares []spareNetdev) error {
	var errs []error
	for _, s := range spares {
		errs = append(errs, c.dropSpare(s))
	}
	return errors.Join(errs...)
}

func (c *rtnl) dropSpare(s spareNetdev) error {
	if !modulesOwn(s.name) {
		return nil
	}
	l, err := c.link(s.name)
	if isAbsent(err) || err == nil && (l.kind != s.kind || l.up || l.master != 0 || l.alias != "") {
		return nil
	}
	if err != nil {
		return err
	}
	members, err := c.members(l.index)
	if err != nil || len(members) > 0 {
		return err
	}
	return c.do(deleteLinks(0, 0, []int{l.index}))
}

// modulesOwn reports that a netdev was named by the kernel: what somebody has made, and be it
// at the same moment, has the name that he gave it. sysfs(5) refuses to tell of the former.
func modulesOwn(netdev string) bool {
	_, err := os.ReadFile(filepath.Join("/sys/class/net", netdev, "name_assign_type"))
	return errors.Is(err, unix.EINVAL)
}
