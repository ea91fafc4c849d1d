package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/plugintest"
)

// This test's own program is the plugins that it runs: which one, its name says.
func TestMain(m *testing.M) {
	plugintest.Main(m, func() { misbehave(os.Args[0]) })
}

// misbehave is the main function of a plugin with a bad habit.
func misbehave(name string) {
	p := &habit{name: name, says: name}
	switch name {
	case "leaves":
		os.Exit(3)
	case "mute":
		select {}
	case "babbles":
		fmt.Println("Hello! I am your driver.")
		select {}
	case "babbles-for-ever":
		for {
			fmt.Print(strings.Repeat("x", 4096))
		}
	case "impostor":
		p.says = "somebody-else"
	case "open-door":
		must(os.Unsetenv("PLUGIN_CLIENT_CERT")) // no TLS
	case "elsewhere":
		must(os.Setenv("PLUGIN_UNIX_SOCKET_DIR", "/tmp"))
	case "other-socket":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		fmt.Printf("1|1|tcp|%s|grpc|\n", l.Addr())
		select {}
	case "from-the-future":
		fmt.Printf("1|2|unix|%s/x|grpc|\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		select {}
	case "deaf": // it takes connections, and says nothing
		at := os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/x"
		l, err := net.Listen("unix", at)
		must(err)
		fmt.Printf("1|1|unix|%s|grpc|\n", at)
		_, err = l.Accept()
		must(err)
		select {}
	case "noisy":
		go func() {
			for i := 0; ; i++ {
				fmt.Fprintf(os.Stderr, `{"@level":"error","@message":"line %d","@timestamp":"2026-01-02T03:04:05.000000Z"}`+"\n", i)
			}
		}()
	case "noisy-on-one-line":
		go func() {
			for {
				fmt.Fprint(os.Stderr, strings.Repeat("y", 4096))
			}
		}()
	}
	sdk.Serve(p)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// habit is a provider that works but for what its name says.
type habit struct {
	name, says string
	mu         sync.Mutex
	grants     []sdk.Grant
}

func (h *habit) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{Name: h.says, Vendor: "tests", Version: "1.2", Features: vswitch.Features(), Schema: sdk.Schema{{Key: "start", Type: sdk.String, Doc: "a word", Default: "fast"}}}, nil
}

func (h *habit) Configure(_ context.Context, c sdk.Config) error {
	if c.Text("start") == "never" {
		return errors.New("as it was configured")
	}
	return nil
}

func (h *habit) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	switch h.name {
	case "stays-silent":
		<-ctx.Done()
		return ctx.Err()
	case "tells-and-ends":
		return tell(sdk.Inventory{NICs: []sdk.NIC{{ID: "a"}}})
	case "tells-too-much":
		for i := 0; ; i++ {
			if err := tell(sdk.Inventory{NICs: []sdk.NIC{{ID: fmt.Sprint(i)}}}); err != nil {
				return err
			}
		}
	}
	if err := tell(sdk.Inventory{NICs: []sdk.NIC{{ID: fmt.Sprintf("pid-%d", os.Getpid())}}}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *habit) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	g := sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation}
	switch h.name {
	case "crashes":
		if r.Port == "bad" {
			os.Exit(7)
		}
	case "crashes-behind":
		go func() { panic("nobody recovers from this") }()
		<-ctx.Done()
	case "forgets-to-answer":
		select {}
	case "freezes":
		must(syscall.Kill(os.Getpid(), syscall.SIGSTOP))
		select {}
	case "lies":
		g.Port = "another"
	case "tells-secrets":
		return g, sdk.Deny(vswitch.Refused, "%s", strings.Join(os.Environ(), " "))
	case "has-children":
		cmd := exec.Command("sleep", "600")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		must(cmd.Start())
		return g, sdk.Deny(vswitch.Refused, "%d", cmd.Process.Pid)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.ContainsFunc(h.grants, func(has sdk.Grant) bool { return has.Ref == g.Ref }) {
		h.grants = append(h.grants, g)
	}
	return g, nil
}

func (h *habit) Release(context.Context, sdk.Ref, uint64) error { return nil }

func (h *habit) Grants(ctx context.Context) ([]sdk.Grant, error) {
	if h.name == "floods" {
		var all []sdk.Grant
		for i := range 16000 {
			all = append(all, sdk.Grant{Ref: sdk.Ref{Port: fmt.Sprint(i), Feature: vswitch.VMQ}, NIC: "a", Detail: strings.Repeat("z", 1000)})
		}
		return all, nil
	}
	sdk.Log(ctx).Info("grants were read", "how many", len(h.grants))
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.grants, nil
}

// Close takes its time.
func (h *habit) Close() error {
	if h.name == "lingers" {
		time.Sleep(time.Hour) //nolint:forbidigo // it is what this plugin is for
	}
	_, err := io.WriteString(os.Stderr, "")
	return err
}
