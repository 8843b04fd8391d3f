package auth

import (
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
)

// ProofKey keys the proofs that tokens carry. It prints as *** in every verb.
type ProofKey [32]byte

// Format never prints the key.
func (ProofKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// A secret that we make is a prefix of four letters, 43 random ones (256 bits)
// and 6 of a checksum. The prefix is what scanners of repositories and logs look
// for, and the checksum tells a secret from what only looks like one (GitHub's
// tokens are made so).
const (
	secretRandom = 43 // 62^43 is more than 2^256
	secretSum    = 6  // 62^6 is more than 2^32

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

func newSecret(prefix string) string {
	text := []byte(prefix)
	var one [1]byte
	for len(text) < len(prefix)+secretRandom {
		_, _ = rand.Read(one[:])                    // never fails
		if n := int(one[0] & 63); n < len(base62) { // the rest again: every letter is as likely
			text = append(text, base62[n])
		}
	}
	return string(text) + secretChecksum(string(text))
}

func secretChecksum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var letters [secretSum]byte
	for i := range letters {
		letters[len(letters)-1-i] = base62[sum%62]
		sum /= 62
	}
	return string(letters[:])
}

// isSecret reports whether text has the form of one with this prefix.
func isSecret(prefix, text string) bool {
	if len(text) != len(prefix)+secretRandom+secretSum || text[:len(prefix)] != prefix {
		return false
	}
	end := len(text) - secretSum
	return only(text[len(prefix):], base62) && text[end:] == secretChecksum(text[:end])
}
