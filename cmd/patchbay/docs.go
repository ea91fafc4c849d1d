package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// docsCommand writes the reference from the commands themselves. It is for
// packagers and `go generate`, and hidden.
func (c *cli) docsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "docs",
		Hidden: true,
		Short:  "Write the reference of all commands",
		Long: `Write the reference of all commands, as it is in their help texts, into a directory:
for packagers, and for docs/cli.`,
		Example: "  patchbay docs man /usr/share/man/man1",
	}
	man := &cobra.Command{
		Use:     "man DIR",
		Short:   "Write man pages",
		Long:    "Write a man page of section 1 for every command into a directory, which is made if\nneed be.",
		Example: "  patchbay docs man /usr/share/man/man1",
		Args:    operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeDocs(cmd, args[0], func(dir string) error {
				// The date is today's, or SOURCE_DATE_EPOCH's in a reproducible build.
				header := doc.GenManHeader{Section: "1", Source: "Patchbay", Manual: "Patchbay"}
				if err := doc.GenManTree(cmd.Root(), &header, dir); err != nil {
					return err
				}
				return topicPages(cmd.Root(), filepath.Join(dir, "patchbay-%s.1"), func(topic *cobra.Command, w io.Writer) error {
					header.Title = ""
					return doc.GenMan(topic, &header, w)
				})
			})
		},
	}
	markdown := &cobra.Command{
		Use:     "markdown DIR",
		Short:   "Write Markdown pages",
		Long:    "Write a Markdown page for every command into a directory, which is made if need be.\nPages of commands that are no more are removed from it.",
		Example: "  patchbay docs markdown docs/cli",
		Args:    operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeDocs(cmd, args[0], func(dir string) error {
				if err := removePages(dir); err != nil {
					return err
				}
				if err := doc.GenMarkdownTree(cmd.Root(), dir); err != nil {
					return err
				}
				return topicPages(cmd.Root(), filepath.Join(dir, "patchbay_%s.md"), doc.GenMarkdown)
			})
		},
	}
	cmd.AddCommand(man, markdown)
	group(cmd)
	return cmd
}

func writeDocs(cmd *cobra.Command, dir string, write func(dir string) error) error {
	cmd.Root().DisableAutoGenTag = true
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = write(dir)
	}
	if err != nil {
		return &vswitch.Error{
			Kind: vswitch.Invalid, Op: operation(cmd), Object: dir, Err: err,
			Hint: fmt.Sprintf("name a directory that you may write to: `%s`", synopsis(cmd)),
		}
	}
	return nil
}

// topicPages writes the pages of help topics, which cobra leaves out.
func topicPages(root *cobra.Command, path string, write func(*cobra.Command, io.Writer) error) error {
	for _, topic := range root.Commands() {
		if !topic.IsAdditionalHelpTopicCommand() {
			continue
		}
		var page bytes.Buffer
		if err := write(topic, &page); err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf(path, topic.Name()), page.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removePages removes the pages of commands that may be gone.
func removePages(dir string) error {
	pages, err := filepath.Glob(filepath.Join(dir, "patchbay*.md"))
	if err != nil {
		return err
	}
	for _, p := range pages {
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	return nil
}
