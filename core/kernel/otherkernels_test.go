package kernel

import (
	"testing"

	"github.com/patchbay-net/patchbay/integration/guest"
)

// What ports may do is made of parts of the kernel that have changed over the years: it is
// tried on kernels of distributions besides this machine's.

func TestPolicyOnLinux61(t *testing.T) {
	guest.Needs(t, guest.Linux61)
	testPolicy(t)
}

func TestPolicyOnLinux612(t *testing.T) {
	guest.Needs(t, guest.Linux612)
	testPolicy(t)
}

func testPolicy(t *testing.T) {
	t.Run("guards", TestGuardsDropAttacks)
	t.Run("fragments", TestGuardsDropWhatCannotBeRead)
	t.Run("acls", TestACLTraffic)
	t.Run("sessions", TestACLSessions)
	t.Run("spoofed frames", TestSpoofedFramesAreCounted)
	t.Run("priority", TestPriorityIsReset)
	t.Run("copies", TestMirrorCopies)
	t.Run("copies of limited ports", TestMirrorCopiesWhatIsHeldBack)
}
