package process

import (
	"sync"

	"golang.org/x/sys/windows"
)

// Account returns who runs the process, as Windows writes it: DOMAIN\name. It
// is "" where we may not know.
func (p *Pin) Account() string {
	var token windows.Token
	if p.handle == 0 || windows.OpenProcessToken(p.handle, windows.TOKEN_QUERY, &token) != nil {
		return ""
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return ""
	}
	return accountName(user.User.Sid)
}

// accounts are the names of those that were looked up, by SID: a domain
// controller may have to be asked.
var accounts sync.Map

func accountName(sid *windows.SID) string {
	key := sid.String()
	if name, ok := accounts.Load(key); ok {
		return name.(string)
	}
	name, domain, _, err := sid.LookupAccount("")
	switch {
	case err != nil:
		name = ""
	case domain != "":
		name = domain + `\` + name
	}
	accounts.Store(key, name)
	return name
}
