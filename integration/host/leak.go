package host

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is what there is on a host, each thing in words. Two of them tell
// what a test left behind.
type Snapshot []string

// Snapshot lists the host's netdevs, its nftables rules and elements, the
// processes in its namespaces and the mounts of the sandbox.
func (h *Host) Snapshot() (Snapshot, error) {
	var s Snapshot
	for _, list := range []func() ([]string, error){h.netdevs, h.rules, h.processes, h.mounts} {
		items, err := list()
		if err != nil {
			return nil, err
		}
		s = append(s, items...)
	}
	return s, nil
}

// Since lists what is in s and was not in before.
func (s Snapshot) Since(before Snapshot) []string {
	var left []string
	for _, item := range s {
		if !slices.Contains(before, item) {
			left = append(left, item)
		}
	}
	return left
}

func (h *Host) netdevs() ([]string, error) {
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	defer links.Close()
	all, err := links.LinkList()
	if err != nil {
		return nil, err
	}
	var s []string
	for _, l := range all {
		s = append(s, fmt.Sprintf("netdev %s (%s)", l.Attrs().Name, l.Type()))
	}
	return s, nil
}

// Ruleset is what nft lists on the host, but for what packets have put into sets: that
// comes and goes by itself.
func (h *Host) Ruleset() (string, error) {
	out, err := h.Run("nft", "-s", "list", "ruleset")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	learnt, skipping := false, false // of the set whose lines come
	for line := range strings.Lines(out) {
		switch word := strings.TrimSpace(line); {
		case strings.HasPrefix(word, "set "), strings.HasPrefix(word, "map "):
			learnt = false
		case strings.HasPrefix(word, "flags "):
			learnt = strings.Contains(word, "dynamic")
		case strings.HasPrefix(word, "elements "):
			skipping = learnt
		}
		if !skipping {
			b.WriteString(line)
		}
		skipping = skipping && !strings.Contains(line, "}")
	}
	return b.String(), nil
}

// rules lists what nft lists. Of Patchbay's own tables, which are constant and
// stay, only elements of sets count; of others the tables and their rules.
func (h *Host) rules() ([]string, error) {
	out, err := h.Ruleset()
	if err != nil {
		return nil, err
	}
	var s []string
	table := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "table "); ok {
			if table = strings.TrimSuffix(name, " {"); !strings.HasSuffix(table, " patchbay") {
				s = append(s, "rules: table "+table)
			}
			continue
		}
		ours := strings.HasSuffix(table, " patchbay")
		switch {
		case line == "" || line == "}" || strings.HasSuffix(line, "{") && !strings.Contains(line, "elements"):
		case ours && !strings.HasPrefix(line, "elements"):
		case strings.HasPrefix(line, "type ") || strings.HasPrefix(line, "comment "):
		default:
			s = append(s, "rules: "+table+": "+line)
		}
	}
	return s, nil
}

// processes lists those whose network is the host's or one of its containers'.
func (h *Host) processes() ([]string, error) {
	ours := map[string]string{}
	h.mu.Lock()
	all := append([]*Netns{h.Netns}, h.others...)
	for _, c := range h.containers {
		all = append(all, c.Netns)
	}
	h.mu.Unlock()
	for _, ns := range all {
		if ns.closed.Load() {
			continue
		}
		var name string
		if err := ns.Do(func() (err error) { name, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
			return nil, err
		}
		ours[name] = ns.Path
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var s []string
	for _, link := range links {
		name, err := os.Readlink(link)
		if err != nil {
			continue // it ended meanwhile
		}
		if at, ok := ours[name]; ok {
			dir := filepath.Dir(filepath.Dir(link))
			if filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
				continue // our own main thread, which cannot end and has been there
			}
			command, _ := os.ReadFile(filepath.Join(dir, "comm")) // best effort: for the message only
			s = append(s, fmt.Sprintf("process %s %s in %s", filepath.Base(dir), strings.TrimSpace(string(command)), at))
		}
	}
	return s, nil
}

// mounts lists those of the sandbox, but for the namespaces of h.
func (h *Host) mounts() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	var s []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && filepath.Dir(fields[4]) != filepath.Dir(h.Path) {
			s = append(s, "mount "+fields[4])
		}
	}
	return s, lines.Err()
}
