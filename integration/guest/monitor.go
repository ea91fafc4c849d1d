package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SetLink plugs the cable of one of a guest's NICs, n0 to n3, in or out, at this end: the
// other NIC of the pair keeps its carrier. The kernel learns of it a little later.
func SetLink(t testing.TB, nic string, plugged bool) {
	t.Helper()
	err := monitor(fmt.Sprintf(`{"execute":"set_link","arguments":{"name":%q,"up":%t},"id":"set"}`, nic, plugged))
	if err != nil {
		t.Fatalf("set the link of %s: %v", nic, err)
	}
}

// monitor tells the qemu that this guest runs in to do something, by the port of virtio
// that leads to its monitor (docs/interop/qmp-spec in qemu).
func monitor(command string) error {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return err
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(text)) != "monitor" {
			continue
		}
		port, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(converse(port, command), port.Close())
	}
	return errors.New("this guest has no way to its monitor")
}

// converse says what has to be said first, which is refused if it was before, and the
// command, and waits for the answer to it.
func converse(port *os.File, command string) error {
	if _, err := port.WriteString(`{"execute":"qmp_capabilities"}` + "\n" + command + "\n"); err != nil {
		return err
	}
	in := bufio.NewScanner(port)
	for in.Scan() {
		var answer struct {
			ID    string
			Error *struct{ Desc string }
		}
		if err := json.Unmarshal(in.Bytes(), &answer); err != nil {
			return fmt.Errorf("the monitor said %q: %w", in.Text(), err)
		}
		switch {
		case answer.ID == "":
		case answer.Error != nil:
			return errors.New(answer.Error.Desc)
		default:
			return nil
		}
	}
	return errors.Join(errors.New("the monitor fell silent"), in.Err())
}
