package kernel

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestTransactionReturnsTheFirstFailure(t *testing.T) {
	table := ruleTable{name: "probe", family: unix.NFPROTO_BRIDGE}
	tests := map[string]struct {
		spell func(*transaction)
		want  error
	}{
		"empty": {func(*transaction) {}, nil},
		"first": {func(tx *transaction) {
			table.remove(tx)
			table.add(tx)
		}, unix.ENOENT},
		"middle": {func(tx *transaction) {
			table.add(tx)
			table.addChain(tx, ruleChain{name: "probe", kind: "no such kind"})
			table.addElements(tx, ruleSet{name: setQuiet}, []element{{key: "1234"}})
			table.add(tx)
		}, unix.ENOENT},
		"two": {func(tx *transaction) {
			table.add(tx)
			tx.add(unix.NFT_MSG_NEWTABLE, table.family, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nameAttr(unix.NFTA_TABLE_NAME, table.name))
			table.addElements(tx, ruleSet{name: setQuiet}, []element{{key: "1234"}})
		}, unix.EEXIST},
		"last": {func(tx *transaction) {
			table.add(tx)
			table.addElements(tx, ruleSet{name: setQuiet}, []element{{key: "1234"}})
		}, unix.ENOENT},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			within(t, ns, func() error {
				c, err := dialNetfilter()
				if err != nil {
					return err
				}
				defer c.close()
				var tx transaction
				tt.spell(&tx)
				if err := tx.send(c); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				var next transaction // on a socket with answers of the former
				table.add(&next)
				table.remove(&next)
				return next.send(c)
			})
			if left := sh(t, ns, "nft list ruleset"); left != "" {
				t.Errorf("half a transaction:\n%s", left)
			}
		})
	}
}

// Whoever has no right to change the ruleset is told so in one answer to the
// transaction as a whole.
func TestTransactionWithoutPermission(t *testing.T) {
	ns := newNS(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends without its capabilities
		if _, err := enterNetns(ns); err != nil {
			done <- err
			return
		}
		c, err := dialNetfilter()
		if err != nil {
			done <- err
			return
		}
		defer c.close()
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&head, &none[0]); err != nil {
			done <- err
			return
		}
		var tx transaction
		natTable().build(&tx, nil)
		done <- tx.send(c)
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
}

func TestTablesPresent(t *testing.T) {
	tests := map[string]struct {
		script string
		want   error
	}{
		"both":          {"true", nil},
		"emptied":       {"nft flush table bridge patchbay", nil}, // for another day
		"all gone":      {"nft flush ruleset", vswitch.Drifted},
		"bridge's gone": {"nft delete table bridge patchbay", vswitch.Drifted},
		"inet's gone":   {"nft delete table inet patchbay", vswitch.Drifted},
		"namesake":      {"nft delete table inet patchbay; nft add table ip patchbay", vswitch.Drifted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			apply(t, ns, plan.SetRules{Add: sampleRules()})
			sh(t, ns, tt.script)
			netfilterWithin(t, ns, func(c *rtnl) error {
				if err := tablesPresent(c, plan.RequireRules{}); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				return nil
			})
		})
	}
}

func BenchmarkTablesPresent(b *testing.B) {
	ns := newNS(b)
	netfilterWithin(b, ns, func(c *rtnl) error {
		if err := applyRules(c, plan.SetRules{Add: sampleRules()}); err != nil {
			return err
		}
		for b.Loop() {
			if err := tablesPresent(c, plan.RequireRules{}); err != nil {
				return err
			}
		}
		return nil
	})
}
