package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"
)

// sealLabel is authenticated with every id, so that nothing else sealed under
// a key of ours opens as an upload.
const sealLabel = "upload id 1 "

// upload is what an upload id says (R05): a session is bound to one
// repository and one principal, and knows where the upstream wants to go on.
type upload struct {
	Repository string // client name
	Principal  string // "" is anonymous
	Start      time.Time
	Target     string // as Upstream.uploadTarget wrote it
}

// sealer turns uploads into ids and back. Any instance with the same keys
// opens them, so an upload may go on anywhere.
type sealer struct {
	aeads []cipher.AEAD // the first seals, all open
	label []byte
}

// newSealer takes keys as auth.Tokens.Derive gives them, one at least, and the
// upstream the ids are for: at another one they are not known.
func newSealer(keys [][32]byte, upstream string) *sealer {
	s := &sealer{label: []byte(sealLabel + upstream)}
	for _, key := range keys {
		block, err := aes.NewCipher(key[:])
		if err != nil {
			panic(err) // 32 bytes are a key
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			panic(err) // AES has the block size of GCM
		}
		s.aeads = append(s.aeads, aead)
	}
	return s
}

// seal makes the id of an upload: one path segment of [A-Za-z0-9_-] (R03,
// P04). A target that makes it too long is an error of the upstream, 502.
func (s *sealer) seal(up upload) (string, error) {
	plain := make([]byte, 0, 64+len(up.Repository)+len(up.Principal)+len(up.Target))
	plain = binary.AppendVarint(plain, up.Start.Unix())
	plain = appendString(plain, up.Repository)
	plain = appendString(plain, up.Principal)
	plain = append(plain, up.Target...)

	box := s.sealBytes(plain)
	if base64.RawURLEncoding.EncodedLen(len(box)) > maxUploadID {
		return "", broken(errors.New("upload location is too long to be kept"))
	}
	return base64.RawURLEncoding.EncodeToString(box), nil
}

// open reads an id that came back. Whatever is wrong with it - made up, cut,
// of another repository or of somebody else - is one and the same 404 (R07).
func (s *sealer) open(id, repository, principal string) (upload, error) {
	// One id has one spelling: strict, and without the line breaks that
	// base64 passes over.
	if len(id) > maxUploadID || strings.ContainsAny(id, "\r\n") {
		return upload{}, unknownUpload()
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil {
		return upload{}, unknownUpload()
	}
	if plain, ok := s.openBytes(box); ok {
		if up, ok := readUpload(plain); ok && up.Repository == repository && up.Principal == principal {
			return up, nil
		}
	}
	return upload{}, unknownUpload()
}

// sealBytes makes a box of plain, under the first key.
func (s *sealer) sealBytes(plain []byte) []byte {
	aead := s.aeads[0]
	box := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	_, _ = rand.Read(box) // it never fails
	return aead.Seal(box, box, plain, s.label)
}

// openBytes is the inverse, under any key.
func (s *sealer) openBytes(box []byte) (plain []byte, ok bool) {
	for _, aead := range s.aeads {
		if len(box) < aead.NonceSize() {
			break
		}
		if plain, err := aead.Open(nil, box[:aead.NonceSize()], box[aead.NonceSize():], s.label); err == nil {
			return plain, true
		}
	}
	return nil, false
}

func unknownUpload() *httpError {
	return refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "this upload is not known here; start it again")
}

func readUpload(plain []byte) (up upload, ok bool) {
	start, n := binary.Varint(plain)
	if n <= 0 {
		return up, false
	}
	plain = plain[n:]
	if up.Repository, plain, ok = cutString(plain); !ok {
		return up, false
	}
	if up.Principal, plain, ok = cutString(plain); !ok {
		return up, false
	}
	up.Start, up.Target = time.Unix(start, 0), string(plain)
	return up, true
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	return string(b[n : n+int(size)]), b[n+int(size):], true
}
