// Package bytesize formats numbers of bytes.
package bytesize

import "fmt"

// Text formats a number of bytes in binary units (IEC 80000-13), for example
// 1.5 KiB.
func Text(n float64) string {
	const step, units = 1024, "KMGTPE"
	if n < step {
		return fmt.Sprintf("%.0f B", n)
	}
	i := -1
	for n >= step && i < len(units)-1 {
		n /= step
		i++
	}
	return fmt.Sprintf("%.1f %ciB", n, units[i])
}
