package auth

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxRefreshFile bounds a file of refresh tokens: MaxRefreshTokens of the longest
// names take less.
const MaxRefreshFile = 128 << 20

// refreshRecord is a refresh token as it is kept.
type refreshRecord struct {
	Hash    string    `json:"hash"`
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Via     string    `json:"via"`
	Proof   string    `json:"proof"`
	Epoch   Epoch     `json:"epoch,omitempty"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Client  string    `json:"client,omitempty"`
	Addr    string    `json:"addr,omitempty"`
}

// FormatRefresh writes one as ParseRefresh reads it.
func FormatRefresh(t RefreshToken) []byte {
	text, _ := json.Marshal(refreshRecord{ // fails for no string and no number
		Hash: t.Hash.String(), User: t.User, Host: t.Host, Via: t.Via, Proof: base64.RawStdEncoding.EncodeToString(t.Proof[:]), Epoch: t.Epoch,
		Created: t.Created.UTC(), Used: t.Used.UTC(), Client: t.Client, Addr: t.Addr,
	})
	return text
}

// ParseRefresh reads one.
func ParseRefresh(text []byte) (RefreshToken, error) {
	var r refreshRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return RefreshToken{}, err
	}
	return r.token()
}

func (r *refreshRecord) token() (t RefreshToken, err error) {
	hash, err := hex.DecodeString(r.Hash)
	if err != nil || len(hash) != len(t.Hash) {
		return t, errors.New("hash is no SHA-256 in hex")
	}
	proof, err := base64.RawStdEncoding.Strict().DecodeString(r.Proof)
	if err != nil || len(proof) != len(t.Proof) {
		return t, errors.New("proof is no base64 of 16 bytes")
	}
	switch {
	case r.User == "" || len(r.User) > MaxUser || hasControl(r.User):
		return t, errors.New("user is no name")
	case r.Host == "" || r.Via == "":
		return t, errors.New("host or via is missing")
	case len(r.Host) > MaxUser || len(r.Via) > MaxUser || len(r.Client) > MaxRefreshClient || len(r.Addr) > MaxRefreshClient:
		return t, errors.New("host, via, client or addr is too long")
	case r.Epoch < 0 || !writable(r.Created) || !writable(r.Used):
		return t, errors.New("epoch, created or used is no time")
	}
	return RefreshToken{
		Hash: RefreshHash(hash), User: r.User, Host: r.Host, Via: r.Via, Proof: [16]byte(proof), Epoch: r.Epoch,
		Created: r.Created.UTC(), Used: r.Used.UTC(), Client: r.Client, Addr: r.Addr,
	}, nil
}

// writable reports whether JSON has a spelling for a time in UTC.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}

// FormatRefreshFile is the file that ParseRefreshFile reads, equal for equal
// tokens: a line for each.
func FormatRefreshFile(all []RefreshToken) []byte {
	slices.SortFunc(all, func(a, b RefreshToken) int {
		return cmp.Or(cmp.Compare(a.User, b.User), a.Created.Compare(b.Created), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	var text bytes.Buffer
	text.WriteString(`{"tokens": [`)
	for i, t := range all {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteByte('\n')
		text.Write(FormatRefresh(t))
	}
	text.WriteString("\n]}\n")
	return text.Bytes()
}

// ParseRefreshFile reads a file of refresh tokens. One that was cut off, or in
// which anything is wrong, is an error: to take what can be read for all there
// is would end the others' logins.
func ParseRefreshFile(text []byte) ([]RefreshToken, error) {
	if len(text) > MaxRefreshFile {
		return nil, fmt.Errorf("longer than %d bytes", MaxRefreshFile)
	}
	var file struct {
		Tokens *[]refreshRecord `json:"tokens"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Tokens == nil {
		return nil, errors.New("it has no list of tokens")
	}
	if len(*file.Tokens) > MaxRefreshTokens {
		return nil, fmt.Errorf("more than %d tokens", MaxRefreshTokens)
	}
	all := make([]RefreshToken, len(*file.Tokens))
	there := make(map[RefreshHash]bool, len(all))
	for i := range all {
		var err error
		if all[i], err = (*file.Tokens)[i].token(); err != nil {
			return nil, fmt.Errorf("token %d: %w", i+1, err)
		}
		if there[all[i].Hash] {
			return nil, fmt.Errorf("token %d: it is there twice", i+1)
		}
		there[all[i].Hash] = true
	}
	return all, nil
}
