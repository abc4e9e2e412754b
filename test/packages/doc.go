// Package packages tests what operators install: the packages that `make
// packages` builds, and the systemd unit in them. The machine that the tests
// run on is not changed: packages are installed into a private copy of it.
//
// What takes long or needs much is asked for: KNOCKGW_BOOT='bookworm trixie'
// boots these releases of Debian and has the service live there (mmdebstrap,
// systemd-container), KNOCKGW_PODMAN=1 runs the container (podman, buildah,
// socat), and KNOCKGW_LONG=1 the program for arm64 (qemu-user-static).
package packages
