package main

import (
	"io"
	"os"
	"time"
)

// limitLife ends this process when its time is over, or when its leash is let go.
func (c *call) limitLife() {
	c.over = time.Now().Add(c.life)
	time.AfterFunc(c.life, func() { os.Exit(0) })
	killAfter(c.life + time.Second)
	if c.leash {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
}

// left is the life that a child may have.
func (c *call) left() time.Duration { return max(0, time.Until(c.over)) }
