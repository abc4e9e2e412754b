//go:build race

package capture

// raceEnabled: a sync.Pool forgets at random under the race detector.
const raceEnabled = true
