package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
)

// A robot's secret is secretPrefix, 43 random letters (256 bits) and 6 of a
// checksum. The prefix is what scanners of repositories and logs look for, and
// the checksum tells a secret from what only looks like one (GitHub's tokens are
// made so).
const (
	secretPrefix = "rgw_"
	secretRandom = 43 // 62^43 is more than 2^256
	secretSum    = 6  // 62^6 is more than 2^32
	secretLen    = len(secretPrefix) + secretRandom + secretSum

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewRobotSecret makes a secret and the hash that the file of robots keeps. The
// secret is to be shown once, to whoever asked for it, and kept nowhere.
func NewRobotSecret() (secret string, hash RobotHash) {
	text := []byte(secretPrefix)
	var one [1]byte
	for len(text) < len(secretPrefix)+secretRandom {
		_, _ = rand.Read(one[:])                    // never fails
		if n := int(one[0] & 63); n < len(base62) { // the rest again: every letter is as likely
			text = append(text, base62[n])
		}
	}
	text = append(text, secretChecksum(text)...)
	return string(text), hashSecret(string(text))
}

func secretChecksum(text []byte) []byte {
	sum := crc32.ChecksumIEEE(text)
	letters := make([]byte, secretSum)
	for i := range letters {
		letters[len(letters)-1-i] = base62[sum%62]
		sum /= 62
	}
	return letters
}

// isRobotSecret reports whether text has the form of one. It says nothing about
// whose it is.
func isRobotSecret(text string) bool {
	if len(text) != secretLen || text[:len(secretPrefix)] != secretPrefix {
		return false
	}
	body := []byte(text)
	end := len(body) - secretSum
	return only(text[len(secretPrefix):], base62) && bytes.Equal(body[end:], secretChecksum(body[:end]))
}

// findRobotSecret is where the first secret in data begins, -1 without one.
func findRobotSecret(data []byte) int {
	for at := 0; ; at++ {
		next := bytes.Index(data[at:], []byte(secretPrefix))
		if next < 0 {
			return -1
		}
		at += next
		if len(data)-at >= secretLen && isRobotSecret(string(data[at:at+secretLen])) {
			return at
		}
	}
}

// RobotHash is the SHA-256 of a secret. A slow and salted hash is for what
// people choose: of 256 random bits nobody can try a part worth naming, no two
// robots have the same, and a CI that logs in for every job costs nothing. Only
// what has the form of a secret is ever compared with it, so that nobody can
// put the hash of a word there.
type RobotHash [sha256.Size]byte

func hashSecret(secret string) RobotHash { return sha256.Sum256([]byte(secret)) }

// String is the hash in hex, as the file has it.
func (h RobotHash) String() string { return hex.EncodeToString(h[:]) }

// ID names the secret where last uses are told: the first eight digits.
func (h RobotHash) ID() string { return hex.EncodeToString(h[:4]) }
