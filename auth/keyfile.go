package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// LoadTokens reads the PEM file (P-256 keys: the first signs, all are
// accepted) and makes it on first start if create is set (0600, written
// aside, synced, renamed). Errors name the file, never what is in it.
func LoadTokens(path string, create bool) (*Tokens, error) {
	data, err := readBounded(path, MaxKeyFile)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := createKeyFile(path); err != nil {
			return nil, fmt.Errorf("token key: %w", err)
		}
		data, err = readBounded(path, MaxKeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("token key: %s: %w", path, err)
	}
	t, err := newTokens(keys)
	if err != nil {
		return nil, fmt.Errorf("token key: %s: %w", path, err)
	}
	return t, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s: longer than %d bytes", path, most)
	}
	return data, err
}

func parseKeys(data []byte) ([]*ecdsa.PrivateKey, error) {
	var keys []*ecdsa.PrivateKey
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type == "EC PARAMETERS" { // openssl writes the curve's name first
			continue
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		if keys = append(keys, key); len(keys) > MaxKeys {
			return nil, fmt.Errorf("more than %d keys", MaxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no PEM private key; `openssl ecparam -name prime256v1 -genkey -noout` writes one")
	}
	return keys, nil
}

// parseKey leaves out what the parsers say: it can quote the key.
func parseKey(block *pem.Block) (*ecdsa.PrivateKey, error) {
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("is encrypted; a server needs it in the clear, in a file that only it may read")
		}
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("is encrypted; a server needs it in the clear, in a file that only it may read")
	default:
		return nil, fmt.Errorf("is a PEM block of type %q, not a private key", block.Type)
	}
	if err != nil {
		return nil, errors.New("cannot be read as an EC private key")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("is no EC key; P-256 (prime256v1) is wanted")
	}
	if ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("is on curve %s; P-256 (prime256v1) is wanted", ec.Curve.Params().Name)
	}
	return ec, nil
}

// createKeyFile never leaves half a key behind, and never replaces one that
// another process made meanwhile.
func createKeyFile(path string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".token-*.tmp") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	// A link fails where a rename would replace; not every file system has links.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(f.Name(), path); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
