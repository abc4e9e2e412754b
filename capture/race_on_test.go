//go:build race

package capture

// raceEnabled: a sync.Pool drops items at random under the race detector.
const raceEnabled = true
