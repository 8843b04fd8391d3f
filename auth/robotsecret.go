package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
)

const secretPrefix = "rgw_" // of robots

// secretLen is that of a robot's secret.
const secretLen = len(secretPrefix) + secretRandom + secretSum

// NewRobotSecret makes a secret and the hash that the file of robots keeps. The
// secret is to be shown once, to whoever asked for it, and kept nowhere.
func NewRobotSecret() (secret string, hash RobotHash) {
	secret = newSecret(secretPrefix)
	return secret, hashSecret(secret)
}

// isRobotSecret reports whether text has the form of one. It says nothing about
// whose it is.
func isRobotSecret(text string) bool { return isSecret(secretPrefix, text) }

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
