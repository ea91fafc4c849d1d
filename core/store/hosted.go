package store

import "errors"

// hostedKey is where the run file keeps what the host had on a switch's uplink, and
// keptKey where the configuration has what is kept for the host beyond a reboot.
func hostedKey(name string) string { return "hosted\x00" + name }
func keptKey(name string) string   { return "kept\x00" + name }

// Hosted returns what PutHosted stored for the switch since the boot.
func (tx *Tx) Hosted(name string) (body []byte, found bool, err error) {
	return tx.run.table(factTable).get(hostedKey(name))
}

// PutHosted is called before what the host has on a switch's uplink is touched, so that
// a process killed in the middle leaves a note of all of it.
func (tx *Tx) PutHosted(name string, body []byte) error {
	if err := checkKey("switch", name); err != nil {
		return err
	}
	return tx.run.table(factTable).put(hostedKey(name), body)
}

// DropHosted is called when the host has all back.
func (tx *Tx) DropHosted(name string) error {
	return tx.run.table(factTable).remove(hostedKey(name))
}

// KeptForHost returns what KeepForHost stored for the switch, before the boot perhaps.
func (tx *Tx) KeptForHost(name string) (body []byte, found bool, err error) {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return nil, false, err
	}
	return t.get(keptKey(name))
}

// KeepForHost stores what the host has nowhere while the switch is closed to it. It needs
// UpdateConfig.
func (tx *Tx) KeepForHost(name string, body []byte) error {
	if err := checkKey("switch", name); err != nil {
		return err
	}
	t, err := tx.configTable(settingTable)
	return errors.Join(err, t.put(keptKey(name), body))
}

// DropKeptForHost is called when the host has it back. It needs UpdateConfig.
func (tx *Tx) DropKeptForHost(name string) error {
	t, err := tx.configTable(settingTable)
	return errors.Join(err, t.remove(keptKey(name)))
}
