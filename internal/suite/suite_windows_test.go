package suite_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/windows"
)

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "killport-suite")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// private: on Windows nothing is, and the tests end only what they started.
func private() error { return nil }

// needs are what scripts of both systems may need.
var needs = map[string]func() error{"private": private, "ipv6": ipv6}

// condition: [wine], and [admin], who on a real Windows is denied nothing.
func condition(name string) (bool, error) {
	wine := windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
	switch name {
	case "wine":
		return wine, nil
	case "admin":
		return !wine && windows.GetCurrentProcessToken().IsElevated(), nil
	}
	return false, fmt.Errorf("nobody knows what %q is", name)
}
