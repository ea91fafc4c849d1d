// Package integration tries Patchbay's binaries on this kernel, with libcni and
// with real container runtimes, in private namespaces. `make test-integration`
// builds and installs what it needs.
package integration
