# Two commands matter: `make test` installs what the tests need and runs them
# all; `go run ./cmd/regward demo` shows the main job.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test unit e2e soak lint tools fuzz bench demo

build: ## the program, static, as it is released
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/regward ./cmd/regward

test: tools unit e2e ## everything, with the race detector

unit:
	go test -race ./...
	go test -run G16 ./ratelimit # the whole million, which takes too long under the race detector

e2e: ## the real clients and registries
	cd e2e && go test -race -timeout 40m ./...

soak: ## an hour of mixed traffic (SOAK=3m: less), then 1000 reloads, 10,000 cuts and the like under load; never on every change
	cd e2e && SOAK=$(or $(SOAK),1h) go test -tags soak -timeout 0 -v -run 'TestSoak|TestG[0-9]+_' .

tools: ## what the tests need: Debian packages and a few Go programs
	scripts/install-test-tools

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not gofmt'd:" $$unformatted; exit 1; fi
	go vet ./...
	cd e2e && go vet ./...
	go run $(STATICCHECK) ./...
	cd e2e && go run $(STATICCHECK) ./...
	cd tools/schema && go vet ./...

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz $(or $(FUZZTIME),60s)

bench:
	go test -run '^$$' -bench . -benchmem ./auth ./ratelimit ./tls ./proxy ./replay ./cmd/regward

demo:
	go run ./cmd/regward demo
