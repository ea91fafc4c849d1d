package host

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// newLog is a logger for go-plugin that ends in ours: a plugin's lines keep their level,
// go-plugin's own are for those who debug.
func newLog(log *slog.Logger, name string) hclog.Logger {
	level := hclog.Info
	if log.Enabled(context.Background(), slog.LevelDebug) {
		level = hclog.Debug
	}
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "go-plugin", Level: level, Output: io.Discard})
	l.RegisterSink(sink{log.With("plugin", name), "go-plugin." + name})
	return l
}

type sink struct {
	log    *slog.Logger
	plugin string // the logger's name for what comes from the plugin
}

const (
	longestMessage = 4 << 10
	mostAttributes = 32
)

// Accept passes a line on.
func (s sink) Accept(name string, level hclog.Level, message string, args ...any) {
	switch {
	case level == hclog.Trace && name != s.plugin, !s.log.Enabled(context.Background(), slogLevel(level)):
		return
	case name != s.plugin && level != hclog.Error:
		level = hclog.Debug
	}
	if len(message) > longestMessage {
		message = message[:longestMessage] + "..."
	}
	var attributes []any
	for i := 0; i+1 < len(args) && i < 2*mostAttributes; i += 2 {
		if key, ok := args[i].(string); ok && key != "timestamp" && key != "plugin" {
			attributes = append(attributes, slog.String(key, text(args[i+1])))
		}
	}
	s.log.Log(context.Background(), slogLevel(level), message, attributes...)
}

func text(value any) string {
	s := fmt.Sprint(value)
	if len(s) > longestMessage {
		s = s[:longestMessage] + "..."
	}
	return strings.TrimSpace(s)
}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
