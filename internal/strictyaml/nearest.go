package strictyaml

// Nearest is the known word that somebody who wrote this one most likely meant, or "" when none is near:
// At most a third of it may differ, and at least two letters may.
func Nearest(word string, known []string) string {
	const (
		slips = 2  // letters
		share = 3  // of a word's length
		most  = 64 // bytes; whoever writes more did not mean a key
	)
	if len(word) > most {
		return ""
	}
	best, distance := "", max(slips, len(word)/share)+1
	for _, k := range known {
		if d := editDistance(word, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes, with - and _ alike.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if fold(a[i]) != fold(b[j]) {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func fold(c byte) byte {
	switch {
	case c == '-':
		return '_'
	case 'A' <= c && c <= 'Z':
		return c - 'A' + 'a'
	}
	return c
}
