// Package packages tests what operators install: the packages that `make packages`
// builds, and the systemd unit in them. The machine that the tests run on is not
// changed: packages are installed into a copy of it that nobody else sees.
package packages
