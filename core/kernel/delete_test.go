package kernel

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// pairs is a script for `ip -batch` that makes n pairs with our alias, and their names.
func pairs(n int) (script string, names []string) {
	var b strings.Builder
	for i := range n {
		name := fmt.Sprintf("pb%013d", i)
		names = append(names, name)
		fmt.Fprintf(&b, "link add %s group %#x type veth peer name e%d\nlink set %s alias patchbay:port\n", name, vswitch.Group(1), i, name)
	}
	return b.String(), names
}

func (l *linuxLab) batch(script string) {
	l.t.Helper()
	sh(l.t, l.host, "ip -batch - <<'END'\n"+script+"END\n")
}

// veths counts the pairs' ends on the host.
func (l *linuxLab) veths() int {
	l.t.Helper()
	return strings.Count(sh(l.t, l.host, "ip -o link show type veth"), "\n")
}

// Many go at once, more than travel in one message, whatever became of some; and
// what only has the name of one of ours stays.
func TestDeleteNetdevs(t *testing.T) {
	l := newLinuxLab(t, 0)
	script, names := pairs(120)
	l.batch(script + `link add theirs type veth peer name theirpeer
link add pbbornnow group 0x50420001 type veth peer name ebornnow
link add pbnotours00000 type bridge
link add pbnotours00001 type veth peer name enotours
link del ` + names[7] + "\n")
	all := append(names, "pbbornnow", "pbnotours00000", "pbnotours00001", "pbnobody000000")
	if err := l.apply(plan.DeleteNetdevs{Names: all}); err != nil {
		t.Fatal(err)
	}
	left := sh(t, l.host, "ip -o link show type veth; ip -o link show type bridge")
	for _, stays := range []string{"theirs@", "theirpeer@", "pbnotours00000:", "pbnotours00001@", "enotours@"} {
		if !strings.Contains(left, stays) {
			t.Errorf("%s is gone", stays)
		}
	}
	if n := strings.Count(left, "\n"); n != 5 {
		t.Errorf("%d netdevs are left, want 5:\n%s", n, left)
	}
	if err := l.apply(plan.DeleteNetdevs{Names: all}); err != nil {
		t.Errorf("again: %v", err)
	}
}

// A process that died between marking and removing is in nobody's way: another's
// removal does not take what it marked, and the next of the same does.
func TestDeleteNetdevsAfterAKill(t *testing.T) {
	l := newLinuxLab(t, 0)
	script, names := pairs(4)
	l.batch(script)
	err := l.do(func(k *Linux) error {
		return k.host(func(c *rtnl) error {
			indexes, err := c.ourLinks(0, names[:2])
			if err != nil {
				return err
			}
			marking := deleteGroup(0, vswitch.DoomedGroup(names[:2]...), indexes)
			return c.do(marking[:len(indexes)])
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.apply(plan.DeleteNetdevs{Names: names[2:]}); err != nil {
		t.Fatal(err)
	}
	if n := l.veths(); n != 4 {
		t.Errorf("%d ends are left, want those of the two that are only marked", n)
	}
	if err := l.apply(plan.DeleteNetdevs{Names: names}); err != nil || l.veths() != 0 {
		t.Errorf("%v, and %d ends are left", err, l.veths())
	}
}

// A netdev that vanishes between marking and removing is gone, and no error.
func TestDeleteNetdevsThatVanish(t *testing.T) {
	l := newLinuxLab(t, 0)
	script, names := pairs(2)
	l.batch(script)
	err := l.do(func(k *Linux) error {
		return k.host(func(c *rtnl) error {
			indexes, err := c.ourLinks(0, names)
			if err != nil {
				return err
			}
			gone := []request{{NetlinkRequest: byName(unix.RTM_DELLINK, 0, names[0], noHeader())}, {NetlinkRequest: byName(unix.RTM_DELLINK, 0, names[1], noHeader())}}
			if err := c.do(gone); err != nil {
				return err
			}
			return c.do(deleteGroup(0, vswitch.DoomedGroup(names...), indexes))
		})
	})
	if err != nil {
		t.Error(err)
	}
}
