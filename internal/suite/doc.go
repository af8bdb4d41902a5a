// Package suite holds the tests of the commands as users run them: the real
// binaries, real pipes, real listeners and real processes.
//
// They run in PID, mount and network namespaces of their own, so that nothing
// but what they start is within reach of a kill.
package suite
