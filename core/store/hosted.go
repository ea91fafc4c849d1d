package store

// hostedKey is where the run file keeps what the host had on a switch's uplink.
func hostedKey(name string) string { return "hosted\x00" + name }

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
