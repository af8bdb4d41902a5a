// Package wine tests the commands on Windows, or under Wine, with real sockets
// and real processes: scripts/wine go test ./internal/wine
package wine
