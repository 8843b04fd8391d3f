package configs

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// maxSecretFile bounds the file that NAME_FILE names.
const maxSecretFile = 1 << 20

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// expanded is a value after ${NAME} was put in.
type expanded struct {
	text   string
	from   string // "environment NAME", "file F"; "" if nothing was put in
	absent string // the variable that is not set, with Static only
}

// expand puts environment variables into text: ${NAME}, else the content of
// the file that NAME_FILE names, else x of ${NAME:-x}. $$ is a dollar sign; a
// dollar sign before anything else stays. It runs after YAML was parsed, so a
// value never changes the file's structure.
func (r *reader) expand(text string) (expanded, error) {
	if !strings.Contains(text, "$") {
		return expanded{text: text}, nil
	}
	var out expanded
	var b strings.Builder
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 || i == len(rest)-1 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		rest = rest[i:]
		switch {
		case rest[1] == '$':
			b.WriteByte('$')
			rest = rest[2:]
			continue
		case rest[1] != '{':
			b.WriteByte('$')
			rest = rest[1:]
			continue
		}
		m := variable.FindStringSubmatch(rest)
		if m == nil {
			return out, fault{`"${" without a name and "}"`, `write ${NAME}, or "$${" for the two characters themselves`}
		}
		value, from, err := r.lookup(m[1])
		switch {
		case err != nil:
			return out, err
		case from == "" && m[2] != "":
			value, from = m[3], "default of ${"+m[1]+"}"
		case from == "" && r.opts.Static:
			out.absent, from = m[1], "environment "+m[1]
		case from == "":
			return out, fault{"environment variable " + m[1] + " is not set, and neither is " + m[1] + "_FILE", "set one of them, or write ${" + m[1] + ":-x} for a default"}
		}
		out.from = from
		b.WriteString(value)
		rest = rest[len(m[0]):]
	}
	out.text = b.String()
	return out, nil
}

// lookup finds the value of a variable; from is empty if there is none.
func (r *reader) lookup(name string) (value, from string, err error) {
	if r.opts.Getenv == nil {
		return "", "", nil
	}
	if v := r.opts.Getenv(name); v != "" {
		return v, "environment " + name, nil
	}
	file := r.opts.Getenv(name + "_FILE")
	if file == "" || r.opts.Static {
		return "", "", nil
	}
	r.src.watch(file)
	data, err := readFile(file, maxSecretFile)
	if err != nil {
		return "", "", fault{name + "_FILE: " + err.Error(), "make the file readable, or set " + name}
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	return text, "file " + file, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, plainPathError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	return readAny(name, limit)
}

// readAny is readFile for pipes too: diff <(git show main:regward.yaml) regward.yaml.
func readAny(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, plainPathError(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}
