//go:build race

package gateway_test

// raceEnabled: every packet takes ten times as long under the race detector.
const raceEnabled = true
