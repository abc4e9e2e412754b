//go:build linux && race

package lab

// raceEnabled says that the test is race-checked, and so is what it builds.
const raceEnabled = true
