package boot

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

//go:embed setup.sh netdevsim
var recipe embed.FS

// recipeSum is a checksum of all that the recipe consists of.
func recipeSum() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := recipe.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text) // a hash takes anything
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}

// Dir is where pieces of guests are kept: $PATCHBAY_GUEST_DIR, or patchbay-guest in
// the user's cache. It may be removed at any time while no guest runs.
func Dir() (string, error) {
	if dir := os.Getenv("PATCHBAY_GUEST_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w; set PATCHBAY_GUEST_DIR", err)
	}
	return filepath.Join(cache, "patchbay-guest"), nil
}

// Setup makes what guests of this kernel need, unless it was made before by the same
// recipe, and returns the directories of the root and of the kernel. It may be
// called by several processes at once, and be killed: a piece gets its name when it
// is complete. It says on progress what it does, if anything.
func Setup(ctx context.Context, k Kernel, progress io.Writer) (root, kernel string, err error) {
	if root, err = Piece(ctx, "root", progress); err != nil {
		return "", "", err
	}
	if kernel, err = Piece(ctx, string(k), progress); err != nil {
		return "", "", err
	}
	return root, kernel, nil
}

// Piece is Setup for one piece by its name in setup.sh; it returns the directory.
func Piece(ctx context.Context, name string, progress io.Writer) (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	sum, err := recipeSum()
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, name+"-"+sum)
	if _, err := os.Stat(at); err == nil {
		return at, nil
	}
	lock, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // which unlocks it
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(at); err == nil {
		return at, nil // another process made it meanwhile
	}
	half := filepath.Join(dir, name+".half") // whoever made it was killed: we have the lock
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	if err := os.Mkdir(half, 0o755); err != nil {
		return "", err
	}
	_, _ = fmt.Fprintf(progress, "setting up %s for guests in %s\n", name, dir) // only talk
	script := filepath.Join(half, ".recipe")                                    // which setup.sh removes
	if err := os.CopyFS(script, recipe); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "bash", filepath.Join(script, "setup.sh"), name, half)
	c.Stdout, c.Stderr = progress, progress
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("set up %s for guests: %w", name, err)
	}
	return at, os.Rename(half, at)
}
