package configs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/regward/regward/auth"
)

const maxPEM = 4 << 20

// files reads what the configuration names. With Static it reads nothing and
// notes what it left alone.
func (k *checker) files() {
	k.pair("tls.cert_file", k.TLS.CertFile, "tls.key_file", k.TLS.KeyFile)
	k.readTLSFiles()
	for i := range k.Upstreams {
		u := &k.Upstreams[i]
		at := k.UpstreamPath(i)
		u.CA, _ = k.read(at+".ca_file", u.CAFile, maxPEM)
		if len(u.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(u.CA) {
			k.bad(at+".ca_file", u.CAFile+" holds no certificate in PEM", "")
		}
		u.ClientCert, u.ClientKey = k.pair(at+".client_cert_file", u.ClientCertFile, at+".client_key_file", u.ClientKeyFile)
	}
	k.Redis.CA, _ = k.read("redis.ca_file", k.Redis.CAFile, maxPEM)
	if len(k.Redis.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(k.Redis.CA) {
		k.bad("redis.ca_file", k.Redis.CAFile+" holds no certificate in PEM", "")
	}
	k.htpasswd()
	k.robots()
	k.providerFiles()
	if !k.Token.Create {
		k.read("token.key_file", k.Token.KeyFile, auth.MaxKeyFile)
	}
	if data, ok := k.read("admin.token_file", k.Admin.TokenFile, maxSecretFile); ok && len(strings.TrimSpace(string(data))) < 16 {
		k.bad("admin.token_file", k.Admin.TokenFile+" holds fewer than 16 characters", "write a long random one: openssl rand -hex 32")
	}
}

// providerFiles reads the CAs of those who know people.
func (k *checker) providerFiles() {
	ca := func(path, name string, to *[]byte) {
		data, ok := k.read(path, name, maxPEM)
		if ok && !x509.NewCertPool().AppendCertsFromPEM(data) {
			k.bad(path, name+" holds no certificate in PEM", "copy the CA's whole: from -----BEGIN CERTIFICATE----- to the end of its END line")
		}
		*to = data
	}
	ca("auth.ldap.ca_file", k.Auth.LDAP.CAFile, &k.Auth.LDAP.CA)
	ca("auth.webhook.ca_file", k.Auth.Webhook.CAFile, &k.Auth.Webhook.CA)
	for i := range k.Auth.OIDC {
		ca(fmt.Sprintf("auth.oidc[%d].ca_file", i), k.Auth.OIDC[i].CAFile, &k.Auth.OIDC[i].CA)
	}
}

// read gives the content of a file that path names; false if there is none or
// the reason was reported.
func (k *checker) read(path, name string, limit int64) ([]byte, bool) {
	if name == "" {
		return nil, false
	}
	k.src.watch(name)
	if k.opts.Static {
		k.say(Note, path, path, name+" was not read", "")
		return nil, false
	}
	data, err := readFile(name, limit)
	if err != nil {
		k.bad(path, err.Error(), "")
		return nil, false
	}
	if len(data) == 0 {
		k.bad(path, name+" is empty", "")
		return nil, false
	}
	if k.src.sums == nil {
		k.src.sums = map[string]string{}
	}
	sum := sha256.Sum256(data)
	k.src.sums[path] = string(sum[:])
	return data, true
}

// pair reads a certificate and its key and checks that they belong together.
func (k *checker) pair(certPath, certName, keyPath, keyName string) (cert, key []byte) {
	cert, certOK := k.read(certPath, certName, maxPEM)
	key, keyOK := k.read(keyPath, keyName, maxPEM)
	if !certOK || !keyOK {
		return cert, key
	}
	certWhole := k.whole(certPath, certName, cert, "CERTIFICATE", "certificate")
	if !k.whole(keyPath, keyName, key, "PRIVATE KEY", "private key") || !certWhole {
		return cert, key
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		why := strings.TrimPrefix(err.Error(), "tls: ")
		if strings.Contains(why, "private key does not match") {
			why = "they do not belong together"
		}
		k.bad(certPath, fmt.Sprintf("%s and %s: %s", certName, keyName, why), "")
	}
	return cert, key
}

// whole reports whether data has a PEM block of a kind in it and ends behind a
// block; else it says what is wrong.
func (k *checker) whole(path, name string, data []byte, kind, word string) bool {
	found, locked, holds := false, false, ""
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		found = found || strings.HasSuffix(block.Type, kind)
		locked = locked || strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			holds = "private key"
		} else if block.Type == "CERTIFICATE" {
			holds = "certificate"
		}
		data = rest
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		k.bad(path, fmt.Sprintf("%s ends in the middle of a %s: is it still being written?", name, word), "")
	case !found && holds != "":
		k.bad(path, fmt.Sprintf("%s holds a %s and no %s: are the two files swapped?", name, holds, word), "")
	case locked:
		k.bad(path, name+" is locked with a passphrase: write it without one, readable by regward alone", "")
	case !found:
		k.bad(path, fmt.Sprintf(`%s holds no %s in PEM form ("-----BEGIN %s-----")`, name, word, kind), "")
	default:
		return true
	}
	return false
}

var lineOfFile = regexp.MustCompile(`^(.*):(\d+): (.*)$`)

// htpasswd reads the user file and parses it once, so that its bad lines are
// reported with everything else.
func (k *checker) htpasswd() {
	data, ok := k.read("auth.htpasswd", k.Auth.Htpasswd, auth.MaxHtpasswd)
	if !ok {
		return
	}
	k.Auth.HtpasswdData = data
	users, err := auth.ParseHtpasswd(k.Auth.Htpasswd, data, auth.HtpasswdOptions{
		AllowWeak: k.Auth.AllowWeakHashes, CaseSensitive: k.Auth.CaseSensitive,
	})
	if err == nil {
		k.users = users.Names()
	}
	for _, line := range lines(err) {
		p := Problem{File: k.Auth.Htpasswd, Msg: line}
		if m := lineOfFile.FindStringSubmatch(line); m != nil {
			p.Line, _ = strconv.Atoi(m[2])
			p.Msg = m[3]
		}
		k.problems = append(k.problems, p)
	}
}

// lines takes a joined error apart.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var out []string
		for _, e := range joined.Unwrap() {
			out = append(out, lines(e)...)
		}
		return out
	}
	return strings.Split(err.Error(), "\n")
}
