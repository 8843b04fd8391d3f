package proxy

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/rs/cors"
)

// preflightAge is how long a browser need not ask again, in seconds. An origin
// that is taken out cannot read anything from then on.
const preflightAge = 600

// prepareOrigins makes what lets pages of listed origins ask (R22).
func (s *Snapshot) prepareOrigins() error {
	s.foreign = http.NewCrossOriginProtection()
	for _, origin := range s.Origins {
		if err := s.foreign.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("cors.origins: %w", err)
		}
	}
	if len(s.Origins) == 0 {
		return nil
	}
	origins := slices.Clone(s.Origins)
	s.cors = cors.New(cors.Options{
		// Exactly, and one: the library would forgive another case, and echo several.
		AllowOriginVaryRequestFunc: func(r *http.Request, origin string) (bool, []string) {
			return len(r.Header["Origin"]) == 1 && slices.Contains(origins, origin), nil
		},
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Accept", "Authorization", "Cache-Control", "Content-Range", "Content-Type", "If-Match", "If-Modified-Since",
			"If-None-Match", "If-Range", "If-Unmodified-Since", "Range", "Traceparent", "X-Requested-With"},
		ExposedHeaders: []string{"WWW-Authenticate", "Link", "Location", "Range", "Content-Range", "Accept-Ranges", "ETag", "Content-Length",
			"Docker-Content-Digest", "Docker-Upload-UUID", "Docker-Distribution-API-Version", "OCI-Subject", "OCI-Filters-Applied", "OCI-Tag",
			"OCI-Chunk-Min-Length", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Docker-RateLimit-Source", "Retry-After",
			"Warning", "X-Request-Id"},
		MaxAge:           preflightAge,
		AllowCredentials: true,
		// Registries stand in private networks, and the pages that were listed
		// are meant wherever they come from.
		AllowPrivateNetwork: true,
		OptionsPassthrough:  true, // we answer OPTIONS ourselves
	})
	return nil
}

// allowOrigin adds what lets the page that asks read the answer, whatever it
// will be, refusals too. A preflight is then answered as any OPTIONS, before
// anybody is asked who they are.
func (x *exchange) allowOrigin() {
	x.s.cors.ServeHTTP(x.w, x.r, func(http.ResponseWriter, *http.Request) {})
}
