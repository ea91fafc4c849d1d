package vswitch

import "strings"

// ShellWords writes words as a shell takes them, for commands in hints: what stands in them is
// often somebody else's, a VM's name say.
func ShellWords(words ...string) string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		out = append(out, shellWord(w))
	}
	return strings.Join(out, " ")
}

func shellWord(w string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("_@%+=:,./-", r)
	}
	switch {
	case w != "" && !strings.ContainsFunc(w, func(r rune) bool { return !plain(r) }):
		return w
	case strings.Contains(w, "'") && !strings.ContainsAny(w, "\"$`\\!"):
		return `"` + w + `"` // easier to read
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
