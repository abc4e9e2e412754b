package strictyaml

// Nearest returns the known word that is most similar to word, or "" if none is
// similar: a third of the word may differ, or two letters of a short one.
func Nearest(word string, known []string) string {
	const (
		minEdits = 2  // letters that may always differ
		fraction = 3  // of a word's length that may differ
		maxLen   = 64 // bytes; longer text is not a misspelt key
	)
	if len(word) > maxLen {
		return ""
	}
	best, distance := "", max(minEdits, len(word)/fraction)+1
	for _, k := range known {
		if d := editDistance(word, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance in bytes. It treats - and _ as
// equal, and ignores case.
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
