package main

import (
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/regward/regward"

// arrows are the only imports of ours that a package may have (architecture.md,
// section 3).
func arrows() map[string][]string {
	return map[string][]string{
		"auth":               {},
		"ratelimit":          {},
		"fleet":              {},
		"replay":             {},
		"tls":                {"internal/filelock"},
		"doctor":             {},
		"trust":              {},
		"proxy":              {"auth", "ratelimit"},
		"configs":            {"auth", "ratelimit"},
		"internal/filelock":  {},
		"internal/redistest": {}, // of tests: no package may import it elsewhere
		"internal/slapdtest": {}, // likewise
		"cmd/regward":        {"auth", "ratelimit", "fleet", "replay", "tls", "doctor", "trust", "proxy", "configs", "internal/filelock"},
	}
}

func TestImportsFollowTheArrows(t *testing.T) {
	for pkg, allowed := range arrows() {
		files, err := filepath.Glob(filepath.Join("../..", pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", pkg, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range f.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if ours, ok := strings.CutPrefix(path, module+"/"); ok && !slices.Contains(allowed, ours) {
					t.Errorf("%s imports %s; %s may import %v of ours", file, ours, pkg, allowed)
				}
				if path == "html/template" || path == "text/template" {
					t.Errorf("%s imports %s: it makes the linker keep every method of the program", file, path)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for pkg := range arrows() {
		files, err := filepath.Glob(filepath.Join("../..", pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		var words string
		for _, file := range files {
			f, err := parser.ParseFile(fset, file, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				words += f.Doc.Text()
			}
		}
		if new(doc.Package).Synopsis(words) == "" {
			t.Errorf("package %s has no doc comment", pkg)
		}
	}
}

// No folder beside these holds a package that the program could import.
func TestNoPackageHides(t *testing.T) {
	known := arrows()
	err := filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("../..", path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "e2e" || name == "tools" || name == "scripts") {
				return filepath.SkipDir
			}
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		if strings.HasSuffix(rel, ".go") && known[dir] == nil {
			t.Errorf("%s: package %s is none that has arrows", rel, dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
