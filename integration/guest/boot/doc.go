// Package boot boots stock Linux kernels as guests of this machine and runs one
// program in each: Debian's user-mode-linux, a process like any other, and Debian's
// kernel for real machines under qemu, without KVM.
//
// A guest's root is an overlay in memory over a directory that all guests share and
// none can write; the source tree is one too. Guests have no network with the
// machine, which they cannot change in any way. Neither root nor KVM is needed.
package boot
