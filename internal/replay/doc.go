// Package replay remembers which messages were already accepted, so that a
// captured copy is refused: in memory (MemoryStore), or in files that survive
// the process (FileStore).
package replay
