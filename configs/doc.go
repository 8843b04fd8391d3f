// Package configs answers one question: what was asked for?
package configs
