package pool_test

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/sdk"
)

// killed gives a VF to a port and takes it back, in a process that is killed at one point
// after the other: before and after each write of its record, and before each change in the
// kernel. The next process gives the port its VF, and takes it back to how it was found.
func killed(t *testing.T) {
	c := newCard(t, "n0")
	c.get(c.request(1))
	c.free(c.request(1))
	found := c.idle(0)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	const making = 3 // so many points come before the first VF is there
	for at := range making {
		noVFs(t, "n0")
		dieAndGoOn(t, at+1, found)
	}
	at := 1
	for ; dieAndGoOn(t, at, found); at++ {
	}
	if at < 20 {
		t.Errorf("there were %d points to die at", at-1)
	}
	t.Logf("killed at %d points", at-1+making)
}

// dieAndGoOn reports whether the process died before it was done.
func dieAndGoOn(t *testing.T, at int, found nic.Settings) (died bool) {
	t.Helper()
	record := newRecord(t)
	r := (&card{addr: addrOf(t, "n0")}).request(1)
	r.VLAN, r.MACSpoofing = 6, true
	died = liveUntil(t, at, record, r) != nil

	c := withRecord(t, "n0", record)
	all, err := c.Grants(t.Context())
	if err != nil || len(all) > 1 {
		t.Errorf("killed at %d: %+v, %v", at, all, err)
	}
	g := c.get(r)
	if len(all) == 1 && all[0].VF.PCIAddr != g.VF.PCIAddr {
		t.Errorf("killed at %d: port had %+v, and gets %+v", at, all[0].VF, g.VF)
	}
	want := nic.Settings{MAC: r.MAC, VLAN: 6, VLANProto: nic.VLANProto, Trust: true}
	if diff := cmp.Diff(want, c.holds(g.VF.Index)); diff != "" {
		t.Errorf("killed at %d: %s", at, diff)
	}
	c.free(r)
	for i := range 3 {
		if diff := cmp.Diff(found, c.idle(i)); diff != "" {
			t.Errorf("killed at %d, VF %d is not as it was: %s", at, i, diff)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	return died
}

// liveUntil has a plugin's process give a port a VF and take it back; it fails if the process
// dies.
func liveUntil(t *testing.T, at int, record string, r sdk.Request) error {
	t.Helper()
	cmd := exec.Command("../../../bin/faults/patchbay-plugin-sriov")
	cmd.Env = []string{fmt.Sprint("PATCHBAY_DIE_AT", "=", at)}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue},
		VersionedPlugins: sdk.HostPlugins(), AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd: cmd, Logger: hclog.New(&hclog.LoggerOptions{Output: io.Discard}),
	})
	defer client.Kill()
	conn, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	served, err := conn.Dispense(sdk.PluginName)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := served.(sdk.Client)
	if !ok {
		t.Fatalf("%T is served", served)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = p.Configure(ctx, sdk.Config{"nics": []string{r.NIC}, "vfs": 3, "record": record})
	if err == nil {
		_, err = p.Ensure(ctx, r)
	}
	if err == nil {
		err = p.Release(ctx, r.Ref, r.Generation)
	}
	if sdk.ReasonOf(err) != "" {
		t.Fatalf("killed at %d: %v", at, err)
	}
	return err
}
