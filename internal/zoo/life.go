package main

import (
	"io"
	"os"
	"time"
)

// farewell holds what is to be done before the end.
var farewell = make(chan func(), 1)

func leave() {
	sayFarewell()
	os.Exit(0)
}

func sayFarewell() {
	select {
	case last := <-farewell:
		last()
	default:
	}
}

// limitLife ends this process when its time is over, or when its leash is let go.
func (c *call) limitLife() {
	c.over = time.Now().Add(c.life)
	time.AfterFunc(c.life, leave)
	killAfter(c.life + time.Second)
	if c.leash {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			leave()
		}()
	}
}

// left is the life that a child may have.
func (c *call) left() time.Duration { return max(0, time.Until(c.over)) }
