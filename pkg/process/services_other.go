//go:build !windows

package process

import "errors"

func services(int) ([]Service, error) { return nil, nil }

func (p *Pin) stopService(string) (string, error) { return "", errors.ErrUnsupported }
