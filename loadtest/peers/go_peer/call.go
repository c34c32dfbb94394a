package main

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/gomodule/redigo/redis"
)

// storeConnections: as many calls may be in flight; what comes on top waits for one. One for each
// request in flight, as redis_py has: with 16 and a queue a like costs a third more.
const storeConnections = 1024

const voteBytes = 8 + 8 + 8 + 2 + 6 + 4 + 1

// calls casts each ballot by a call of its own of the function `like` (like.lua). After the store
// was away each connection that was idle fails one like.
type calls struct {
	pool  redis.Pool
	rules rules
}

func openCalls(told *setup) (*calls, error) {
	c := &calls{
		pool: redis.Pool{
			Dial:      func() (redis.Conn, error) { return dialStore(told) },
			MaxActive: storeConnections,
			MaxIdle:   storeConnections,
			Wait:      true,
		},
		rules: told.rules,
	}
	store := c.pool.Get()
	defer store.Close()
	_, err := store.Do("FUNCTION", "LOAD", "REPLACE", told.library)
	return c, err
}

func dialStore(told *setup) (redis.Conn, error) {
	return redis.Dial("unix", told.socket,
		redis.DialConnectTimeout(storeTimeout),
		redis.DialReadTimeout(storeTimeout),
		redis.DialWriteTimeout(storeTimeout))
}

// calling holds the arguments of a call. They are put into interfaces once; for another like the
// bytes behind them change.
type calling struct {
	day       int
	candidate [2]byte
	vote      [voteBytes]byte
	arguments []any
}

const (
	dayArgument    = 2
	netArgument    = 3
	numberArgument = 9
)

func newCalling(b *ballot, rules rules) *calling {
	c := &calling{day: -1}
	c.arguments = []any{
		"like", "4", "day:", "net:", "tally", "journal",
		b.device[:], b.network[:], c.candidate[:], 0, b.click[:], c.vote[:], rules.LikesPerDay,
	}
	for _, limit := range rules.limits() {
		c.arguments = append(c.arguments, limit)
	}
	return c
}

func (c *calling) fill(b *ballot) {
	if c.day != b.day {
		c.day = b.day
		c.arguments[dayArgument] = "day:" + strconv.Itoa(b.day)
		c.arguments[netArgument] = "net:" + strconv.Itoa(b.day)
	}
	c.arguments[numberArgument] = b.number
	binary.BigEndian.PutUint16(c.candidate[:], uint16(b.number))
	vote := append(c.vote[:0], b.device[:]...)
	vote = append(vote, b.network[:]...)
	vote = append(vote, b.wide[:]...)
	vote = append(vote, c.candidate[:]...)
	vote = append(vote, b.click[:]...)
	vote = binary.BigEndian.AppendUint32(vote, b.ageSeconds)
	_ = append(vote, tokenLevel)
}

func (c *calls) cast(at *workspace) (cast, error) {
	if at.calling == nil {
		at.calling = newCalling(&at.ballot, c.rules)
	}
	at.calling.fill(&at.ballot)
	store := c.pool.Get()
	reply, err := store.Do("FCALL", at.calling.arguments...)
	store.Close()
	if err != nil {
		return cast{}, errStoreDown
	}
	return readCast(reply)
}

func readCast(reply any) (cast, error) {
	numbers, err := redis.Ints(reply, nil)
	if err != nil || len(numbers) != 4 {
		return cast{}, fmt.Errorf("the function answered %v", reply)
	}
	return cast{outcome(numbers[0]), numbers[1], numbers[2], numbers[3]}, nil
}
