package main

import (
	"os"

	"golang.org/x/sys/windows"
)

func denied(c *call) error {
	if err := denyAll(); err != nil {
		return err
	}
	return serve(c)
}

// denyAll leaves one right on this process, to nobody.
func denyAll() error {
	nobody, err := windows.CreateWellKnownSid(windows.WinNullSid)
	if err != nil {
		return err
	}
	nothing, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{{
		AccessPermissions: windows.SYNCHRONIZE, AccessMode: windows.GRANT_ACCESS,
		Trustee: windows.TRUSTEE{
			TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeType: windows.TRUSTEE_IS_USER,
			TrusteeValue: windows.TrusteeValueFromSID(nobody),
		},
	}}, nil)
	if err != nil {
		return err
	}
	return windows.SetSecurityInfo(windows.CurrentProcess(), windows.SE_KERNEL_OBJECT,
		windows.DACL_SECURITY_INFORMATION, nil, nil, nothing, nil)
}

func detached(c *call) error {
	if ok, _, err := windows.NewLazySystemDLL("kernel32.dll").NewProc("FreeConsole").Call(); ok == 0 {
		return os.NewSyscallError("FreeConsole", err)
	}
	return serve(c)
}
