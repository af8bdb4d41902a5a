// Command prngdll writes bcryptprimitives.dll for Wine: Go programs take their
// first random bytes from its ProcessPrng, and Wine has it from version 9 on
// only. It is for tests; nothing of it is shipped.
//
//	prngdll FILE
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "prngdll: error: usage: prngdll FILE")
		os.Exit(2)
	}
	dll := forwarder("bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036")
	if err := os.WriteFile(os.Args[1], dll, 0o644); err != nil {
		fmt.Fprintf(os.Stderr, "prngdll: error: %v\n", err)
		os.Exit(3)
	}
}

// The layout: headers in the first page, the only section in the second. Both
// take less than one sector of the file.
const (
	sector = 0x200
	page   = 0x1000
	base   = 0x180000000
)

// dosHeader ends with the offset of what follows it, the only field that is
// read today.
type dosHeader struct {
	Magic [2]byte
	_     [58]byte
	Next  uint32
}

// fileHeader, optionalHeader and section are IMAGE_FILE_HEADER,
// IMAGE_OPTIONAL_HEADER64 and IMAGE_SECTION_HEADER of winnt.h, little-endian:
// https://learn.microsoft.com/windows/win32/debug/pe-format
type fileHeader struct {
	Signature       [4]byte
	Machine         uint16
	Sections        uint16
	_               [3]uint32 // time, symbols
	OptionalSize    uint16
	Characteristics uint16
}

type directory struct{ Address, Size uint32 }

type optionalHeader struct {
	Magic                    uint16
	Linker                   [2]byte
	Code, Data, Zeroed       uint32
	Entry, CodeBase          uint32
	ImageBase                uint64
	SectionAlign, FileAlign  uint32
	OS, Image, Subsystem     [2]uint16
	_                        uint32
	ImageSize, HeaderSize    uint32
	Checksum                 uint32
	Console, Characteristics uint16
	Stack, StackCommit       uint64
	Heap, HeapCommit         uint64
	_, Directories           uint32
	Export                   directory
	_                        [15]directory
}

type section struct {
	Name            [8]byte
	Size, Address   uint32
	FileSize        uint32
	FileOffset      uint32
	_               [3]uint32
	Characteristics uint32
}

// exports is IMAGE_EXPORT_DIRECTORY with its three tables of one entry each.
type exports struct {
	_                      [3]uint32
	Name                   uint32
	FirstOrdinal           uint32
	Functions, Names       uint32
	AtFunctions, AtNames   uint32
	AtOrdinals             uint32
	Function, FunctionName uint32
	Ordinal                uint16
}

// forwarder makes a DLL without code, whose one function is another DLL's: a
// function's address that lies within the export directory is the name of
// where it is forwarded to.
func forwarder(dll, function, to string) []byte {
	var names bytes.Buffer
	name := func(s string) uint32 {
		at := page + binary.Size(exports{}) + names.Len()
		names.WriteString(s + "\x00")
		return uint32(at)
	}
	table := exports{
		Name: name(dll), FirstOrdinal: 1, Functions: 1, Names: 1,
		AtFunctions: page + 40, AtNames: page + 44, AtOrdinals: page + 48,
		Function: name(to), FunctionName: name(function),
	}
	size := uint32(binary.Size(table) + names.Len())
	headers := []any{
		dosHeader{Magic: [2]byte{'M', 'Z'}, Next: 64},
		fileHeader{
			Signature: [4]byte{'P', 'E'}, Machine: 0x8664, Sections: 1,
			OptionalSize:    uint16(binary.Size(optionalHeader{})),
			Characteristics: 0x2022, // executable, DLL, large addresses
		},
		optionalHeader{
			Magic: 0x20b, Data: sector, CodeBase: page, ImageBase: base,
			SectionAlign: page, FileAlign: sector, OS: [2]uint16{6}, Subsystem: [2]uint16{6},
			ImageSize: 2 * page, HeaderSize: sector,
			Console: 3, Characteristics: 0x100, // not executable: there is no code
			Stack: 1 << 20, StackCommit: page, Heap: 1 << 20, HeapCommit: page,
			Directories: 16, Export: directory{page, size},
		},
		section{
			Name: [8]byte{'.', 'r', 'd', 'a', 't', 'a'}, Size: size, Address: page,
			FileSize: sector, FileOffset: sector, Characteristics: 0x40000040, // readable data
		},
	}
	file := make([]byte, 0, 2*sector)
	for _, h := range headers {
		file, _ = binary.Append(file, binary.LittleEndian, h)
	}
	file = append(file, make([]byte, sector-len(file))...)
	file, _ = binary.Append(file, binary.LittleEndian, table)
	file = append(file, names.Bytes()...)
	return append(file, make([]byte, 2*sector-len(file))...)
}
