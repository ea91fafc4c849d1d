package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Many are detached at the same moment, and one step of the kernel fails. Who is told
// that all is well is gone, who is not tells so, and the same again removes the rest.
func TestManyLeaveAtOnce(t *testing.T) {
	const many = 24
	for _, failing := range []int{0, 1, 2} { // 0: none
		t.Run(fmt.Sprintf("step %d fails", failing), func(t *testing.T) {
			l := newLab(t)
			for i := range many {
				l.kernel.AddNetns(netns(i))
			}
			l.mustAdd(internal())
			pristine := l.kernel.String()
			for i := range many {
				l.mustAttach(request(i))
			}
			if failing > 0 {
				l.kernel.FailAt(failing, errBroken)
			}
			var group sync.WaitGroup
			errs := make([]error, many)
			for i := range many {
				group.Go(func() { errs[i] = l.Detach(context.Background(), owner(i)) })
			}
			group.Wait()
			failures := 0
			for i, err := range errs {
				_, there, lookErr := l.Attached(context.Background(), owner(i))
				must(t, lookErr)
				if there != (err != nil) {
					t.Errorf("port %d: there %v, and its owner is told %v", i, there, err)
				}
				if err != nil {
					failures++
				}
			}
			if failures > 1 || failing == 0 && failures > 0 {
				t.Errorf("%d owners are told of a failure", failures)
			}
			for i := range many {
				must(t, l.Detach(context.Background(), owner(i)))
			}
			l.wantNoGuests()
			if now := l.kernel.String(); now != pristine {
				t.Errorf("left:\n%s\nbefore:\n%s", now, pristine)
			}
		})
	}
}

// One whose port is held by somebody else keeps nobody else waiting.
func TestLeavesBesideOneThatWaits(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	for i := range 3 {
		l.mustAttach(request(i))
	}
	unlock, err := l.store().LockPort(owner(0).PortID())
	must(t, err)
	waits := make(chan error, 1)
	go func() { waits <- l.Detach(context.Background(), owner(0)) }()
	for _, o := range []vswitch.Owner{owner(1), owner(2)} {
		must(t, l.Detach(context.Background(), o))
	}
	unlock()
	must(t, <-waits)
	l.wantNoGuests()
}
