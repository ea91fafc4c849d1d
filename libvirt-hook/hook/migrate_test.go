package hook_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// TestStateRefused: what the other host says of a VM's ports is understood whole, or the VM does
// not come: the hook fails before any memory moves, and libvirt's user sees why.
func TestStateRefused(t *testing.T) {
	for name, c := range map[string]struct{ state, says string }{
		"as we write it": {`{"version":1,"ports":[{"switch":"ext","mac":"52:54:00:00:00:40","policy":{"stormLimit":7}}]}`, ""},
		"later":          {fmt.Sprintf(`{"version":%d,"ports":[],"turbo":{}}`, engine.DomainStateVersion+1), fmt.Sprintf("and this host reads up to %d; bring Patchbay on this host up to that of the other one", engine.DomainStateVersion)},
		"a field more":   {`{"version":1,"ports":[{"switch":"ext","mac":"52:54:00:00:00:40","turbo":true}]}`, `unknown field "turbo"; bring Patchbay on this host up`},
		"a guard more":   {`{"version":1,"ports":[{"switch":"ext","mac":"52:54:00:00:00:40","policy":{"tlsGuard":true}}]}`, `unknown field "tlsGuard"`},
		"no version":     {`{"ports":[]}`, "it is of version 0"},
		"no state":       {`[1]`, "state of the VM's ports"},
		"half of one":    {`{"version":1,"ports":[`, "domain vmeth, from the other host: unexpected end of JSON"},
		"narrowed":       {`{"version":1,"ports":[{"switch":"ext","mac":"52:54:00:00:00:40","narrowed":"{\"x\":1}"}]}`, `key "x"`},
		"too much":       {`{"version":1,"ports":[` + strings.Repeat(" ", 1<<20) + `]}`, "bytes are more than"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			state := strings.NewReplacer("<state>", "<p:state xmlns:p='"+domain.StateNamespace+"'>", "</state>", "</p:state>").Replace(domain.WriteState([]byte(c.state)))
			text := strings.Replace(ethernet(`<p:port alias='ua-e0' switch='ext' profile='plain'/>`), "</metadata>", state+"</metadata>", 1)
			says := l.serve("qemu", []string{"vmeth", "migrate", "begin", "-"}, text)
			if c.says == "" && says != "" || c.says != "" && (!strings.Contains(says, c.says)) {
				t.Errorf("it says %q", says)
			}
		})
	}
}
