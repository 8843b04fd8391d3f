// Package doctor answers one question: why does my client not get on with that
// registry? It looks at a live registry or proxy from the outside, as clients
// do, and knows nothing of how it is built or configured.
package doctor
