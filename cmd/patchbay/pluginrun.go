package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

func (c *cli) pluginRunCommand() *cobra.Command {
	var config string
	var debug bool
	cmd := &cobra.Command{
		Use:   "run PLUGIN",
		Short: "Start a plugin and call it by hand",
		Long: `Start a plugin and call what it serves, a line from stdin at a time; answers are JSON and
what the plugin logs is on stderr. PLUGIN is the path of its program, or the name of one
that is installed. The lines:

` + runHelp(),
		Example: `  patchbay plugin run ./patchbay-plugin-acme
  echo 'ensure vmq pb1 0000:3b:00.0' | patchbay plugin run acme`,
		SuggestFor:        []string{"call", "exec", "shell"},
		Args:              operands("PLUGIN"),
		ValidArgsFunction: completePlugins,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := namedPlugin(args[0])
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if debug {
				level = slog.LevelDebug
			}
			return withRunDir(func(dir string) error {
				p := host.Open(host.Options{
					Executable: e, Config: []byte(config), RunDir: dir, Vouched: true,
					Log: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: level})),
				})
				defer p.Close()
				if _, err := p.Describe(cmd.Context()); err != nil {
					return err
				}
				return c.callByHand(cmd.Context(), p)
			})
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the plugin's configuration, an object in JSON; default: none")
	cmd.Flags().BoolVar(&debug, "debug", false, "show all that is logged")
	completeBy(cmd, "config", noCompletion)
	return cmd
}

// byHand is what a line calls.
type byHand struct {
	usage string // the verb and its operands; those in brackets may be left out
	about string
	call  func(context.Context, *host.Plugin, []string) (any, error)
}

func byHands() []byHand {
	return []byHand{
		{"describe", "who it is", func(ctx context.Context, p *host.Plugin, _ []string) (any, error) { return p.Describe(ctx) }},
		{"status", "its process", func(_ context.Context, p *host.Plugin, _ []string) (any, error) { return p.Status(), nil }},
		{"inventory", "its NICs", firstInventory},
		{"ensure FEATURE PORT NIC [KEY=VALUE...]", "give it one; with vlan=7 generation=2, say", ensureByHand},
		{"release FEATURE PORT [GENERATION]", "take it back", releaseByHand},
		{"grants", "what ports hold", func(ctx context.Context, p *host.Plugin, _ []string) (any, error) { return p.Grants(ctx) }},
		{"counters FEATURE PORT", "what the hardware counted", func(ctx context.Context, p *host.Plugin, args []string) (any, error) {
			return p.Counters(ctx, handRef(args))
		}},
		{"path FEATURE PORT hardware|software", "move a port's frames", func(ctx context.Context, p *host.Plugin, args []string) (any, error) {
			return nil, p.SwitchPath(ctx, handRef(args), sdk.Path(args[2]))
		}},
		{"probe", "whether the hardware is well", func(ctx context.Context, p *host.Plugin, _ []string) (any, error) { return nil, p.Probe(ctx) }},
		{"health", "whether the process is", func(ctx context.Context, p *host.Plugin, _ []string) (any, error) { return nil, p.Healthy(ctx) }},
		{"help", "these lines", nil},
		{"quit", "end, as the end of the input does", nil},
	}
}

func runHelp() string {
	var b strings.Builder
	for _, h := range byHands() {
		fmt.Fprintf(&b, "    %-40s %s\n", h.usage, h.about)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// callByHand carries out lines until there are no more. What fails is told at once; where
// the last line did, the command fails.
func (c *cli) callByHand(ctx context.Context, p *host.Plugin) error {
	lines := bufio.NewScanner(c.stdin)
	failed := false
	for c.prompt(); lines.Scan() && ctx.Err() == nil; c.prompt() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0:
			continue
		case words[0] == "quit":
			return failedByHand(failed)
		case words[0] == "help":
			_, _ = io.WriteString(c.stdout, runHelp()+"\n") // the next answer's error tells
			continue
		}
		answer, err := callLine(ctx, p, words)
		if failed = err != nil; failed {
			_, _ = io.WriteString(c.stderr, formatFailures(failuresOf(err, ""), table)) // as above
			continue
		}
		if err := c.answer(answer); err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), failedByHand(failed))
}

// failedByHand is the error of a failure that was told.
func failedByHand(failed bool) error {
	if failed {
		return errTold
	}
	return nil
}

func (c *cli) answer(v any) error {
	if v == nil {
		_, err := io.WriteString(c.stdout, "ok\n")
		return err
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(append(text, '\n'))
	return err
}

func (c *cli) prompt() {
	if c.terminal.columns > 0 {
		_, _ = io.WriteString(c.stderr, "> ") // nobody misses it
	}
}

func callLine(ctx context.Context, p *host.Plugin, words []string) (any, error) {
	var verbs []string
	for _, h := range byHands() {
		usage := strings.Fields(h.usage)
		if usage[0] != words[0] {
			verbs = append(verbs, usage[0])
			continue
		}
		least := 0
		for _, u := range usage[1:] {
			if u[0] != '[' {
				least++
			}
		}
		if got := len(words) - 1; got < least || got > len(usage)-1 && !strings.HasSuffix(h.usage, "...]") {
			return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: words[0], Err: fmt.Errorf("%d operands", got), Hint: "write `" + h.usage + "`"}
		}
		return h.call(ctx, p, words[1:])
	}
	hint := "write `help`"
	if near := vswitch.Nearest(words[0], verbs); near != "" {
		hint = fmt.Sprintf("did you mean `%s`?", near)
	}
	return nil, &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("there is no verb %.40q", words[0]), Hint: hint}
}

func handRef(args []string) sdk.Ref {
	return sdk.Ref{Feature: vswitch.Feature(args[0]), Port: args[1]}
}

func firstInventory(ctx context.Context, p *host.Plugin, _ []string) (any, error) {
	var first sdk.Inventory
	enough := errors.New("enough")
	err := p.WatchInventory(ctx, func(i sdk.Inventory) error { first = i; return enough })
	if errors.Is(err, enough) {
		err = nil
	}
	return first, err
}

func ensureByHand(ctx context.Context, p *host.Plugin, args []string) (any, error) {
	r := sdk.Request{
		Ref: handRef(args), NIC: args[2], Generation: 1, MAC: vswitch.DerivedMAC("plugin run", args[1]), MTU: vswitch.DefaultMTU,
		Owner: vswitch.OwnerContainer, Weight: vswitch.DefaultWeight,
	}
	for _, setting := range args[3:] {
		key, value, found := strings.Cut(setting, "=")
		if !found {
			return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: setting, Err: errors.New("not KEY=VALUE")}
		}
		text, err := json.Marshal(map[string]any{key: handValue(value)})
		if err != nil {
			return nil, err
		}
		if err := vswitch.CheckKeys(text, vswitch.JSONKeys(&r)); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: setting, Err: err}
		}
	}
	return p.Ensure(ctx, r)
}

// handValue is a number or a boolean where the word is one.
func handValue(word string) any {
	var value any
	if json.Unmarshal([]byte(word), &value) == nil {
		return value
	}
	return word
}

func releaseByHand(ctx context.Context, p *host.Plugin, args []string) (any, error) {
	generation := uint64(1)
	if len(args) == 3 {
		if _, err := fmt.Sscan(args[2], &generation); err != nil {
			return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: "generation", Err: fmt.Errorf("%.40q is no number", args[2])}
		}
	}
	return nil, p.Release(ctx, handRef(args), generation)
}
