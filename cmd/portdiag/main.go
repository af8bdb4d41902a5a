// Command portdiag explains why ports can or cannot be had.
package main

import (
	"os"

	"github.com/killport/killport/internal/cli"
)

func main() { os.Exit(cli.Main("portdiag", cli.DiagnoseHelp, &cli.Diagnose{}, os.Args[1:]...)) }
