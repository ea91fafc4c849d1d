package host

// LoseUnheard has a plugin's process lost, and its connection closed before the end of the
// process is heard by it.
func (p *Plugin) LoseUnheard() {
	p.mu.Lock()
	i := p.current
	p.current = nil
	p.mu.Unlock()
	_ = i.conn.Close()
	i.stop()
}
