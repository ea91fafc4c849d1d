package sdk

import (
	"io"
	"log/slog"
	"strings"
	"time"
)

// pluginLog writes lines as go-plugin's host reads them: JSON with @level, @message and
// @timestamp, whose other keys stay what they are.
func pluginLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: slog.LevelDebug, // the host leaves out what it does not want
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch v := a.Value.Any().(type) {
			case slog.Level:
				return slog.String("@level", strings.ToLower(v.String()))
			case time.Time:
				if a.Key == slog.TimeKey {
					return slog.String("@timestamp", v.Format("2006-01-02T15:04:05.000000Z07:00"))
				}
			case string:
				if a.Key == slog.MessageKey {
					return slog.String("@message", v)
				}
			}
			return a
		},
	}))
}
