package main

import (
	"errors"
	"fmt"
	"log"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

const (
	// As BATCH_MAX and waiting_max of voting/ballot_box.py.
	batchMax   = 256
	waitingMax = 8192
	// Midnight may pass between us and the store, but not over and over.
	tries        = 3
	publishEvery = time.Second
)

// waiting is one ballot on its way.
type waiting struct {
	ballot *ballot
	cast   cast
	err    error
	done   chan struct{} // room for one, so whoever answers never waits
}

// group commits ballots in batches: while one call is in flight, ballots gather; the next call
// carries them all. Owner of the connection, plan and batch: the one goroutine in `run`.
//
// A crash with a batch in flight leaves ballots whose fate their clients do not know: the same
// click again finds the first answer, or is cast now.
type group struct {
	told      *setup
	function  string
	gathering chan *waiting
	published atomic.Pointer[[]int] // likes by candidate as of the last second

	// The goroutine's own.
	store         redis.Conn
	replid        string
	plan          *plan
	ballots       []byte
	clockOffsetUs int64 // the store's clock less ours
	away          bool
}

func openGroup(told *setup) (*group, error) {
	function, err := functionName(told.library)
	if err != nil {
		return nil, err
	}
	g := &group{told: told, function: function, gathering: make(chan *waiting, waitingMax)}
	if err := g.connect(); err != nil {
		return nil, err
	}
	board, err := dialStore(told)
	if err != nil {
		return nil, err
	}
	if err := g.publish(board); err != nil {
		return nil, err
	}
	go g.run()
	go g.keepPublishing(board)
	return g, nil
}

func (g *group) cast(at *workspace) (cast, error) {
	w := at.waiting
	if w == nil {
		// It stays with this ballot's workspace, which is nobody else's until we return.
		w = &waiting{ballot: &at.ballot, done: make(chan struct{}, 1)}
		at.waiting = w
	}
	select {
	case g.gathering <- w:
	default:
		return cast{}, errOverloaded
	}
	<-w.done
	w.cast.likes = g.likes(w)
	return w.cast, w.err
}

// likes of a candidate as its card shows them: as of the last second, with this one.
func (g *group) likes(w *waiting) int {
	published := (*g.published.Load())[w.ballot.number]
	if w.cast.outcome == repeated {
		return max(1, published)
	}
	return published + 1
}

func (g *group) run() {
	batch := make([]*waiting, 0, batchMax)
	for first := range g.gathering {
		// Not now: whoever else can run may put a ballot in first. A goroutine that waits at a
		// channel is woken ahead of all others, and the first ballot would go alone. At full load
		// the batches are as large without it; it costs nothing that could be measured.
		runtime.Gosched()
		batch = append(batch[:0], first)
		for len(batch) < batchMax && len(g.gathering) > 0 {
			batch = append(batch, <-g.gathering) // nobody else takes from it
		}
		err := g.commit(batch)
		if err != nil {
			g.lose(err)
		}
		for _, w := range batch {
			if w.err = nil; err != nil {
				w.err = errStoreDown
			}
			w.done <- struct{}{}
		}
	}
}

// commit casts a batch; with an error nobody knows what became of it.
func (g *group) commit(batch []*waiting) error {
	if g.store == nil {
		if err := g.connect(); err != nil {
			return err
		}
	}
	g.ballots = g.ballots[:0]
	for _, w := range batch {
		g.ballots = packBallot(g.ballots, w.ballot)
	}
	nowUs := time.Now().UnixMicro() + g.clockOffsetUs
	for try := 0; try < tries; try++ {
		if g.plan == nil || !g.plan.holds(nowUs) {
			g.plan = makePlan(g.function, g.told.campaign, g.told.rules, nowUs)
		}
		reply, err := redis.Bytes(g.store.Do("FCALL", g.plan.with(g.replid, g.ballots)...))
		if err != nil {
			return err
		}
		var status byte
		if status, nowUs, err = readAnswered(reply, len(batch)); err != nil {
			return err
		}
		g.clockOffsetUs = nowUs - time.Now().UnixMicro()
		switch status {
		case statusCast:
			for place, w := range batch {
				w.cast = readAnswer(reply, place)
			}
			return nil
		case statusWrongDay:
			// Nothing was cast. The same ballots go again, as of the day that the store has.
		default:
			return fmt.Errorf("the function answered with status %d", status)
		}
	}
	return errors.New("the store's day is never the one that it says")
}

// lose the connection, whatever it was: the next batch makes and greets a new one. Said once, for
// nobody may be reading what we say.
func (g *group) lose(why error) {
	if !g.away {
		log.Printf("a batch was not cast: %v", why)
		g.away = true
	}
	if g.store != nil {
		g.store.Close()
		g.store = nil
	}
}

var replidLine = regexp.MustCompile(`(?m)^master_replid:([0-9a-f]+)`)

// connect makes a connection to a store that has our function, and learns its replication id.
func (g *group) connect() error {
	store, err := dialStore(g.told)
	if err != nil {
		return err
	}
	if _, err = store.Do("FUNCTION", "LOAD", "REPLACE", g.told.library); err != nil {
		store.Close()
		return err
	}
	info, err := redis.Bytes(store.Do("INFO", "replication"))
	found := replidLine.FindSubmatch(info)
	if err == nil && found == nil {
		err = errors.New("INFO replication names no master_replid")
	}
	if err != nil {
		store.Close()
		return err
	}
	g.store, g.replid, g.away = store, string(found[1]), false
	return nil
}

// keepPublishing each second what the public may see, over a connection of its own. While the
// store is away the last state stands.
func (g *group) keepPublishing(store redis.Conn) {
	for range time.Tick(publishEvery) {
		if g.publish(store) == nil {
			continue
		}
		store.Close()
		if another, err := dialStore(g.told); err == nil {
			store = another
		}
	}
}

func (g *group) publish(store redis.Conn) error {
	sums, err := redis.ByteSlices(store.Do("HGETALL", tallyKey(g.told.campaign)))
	if err != nil {
		return err
	}
	likes := make([]int, g.told.candidates+1)
	for at := 0; at+1 < len(sums); at += 2 {
		// Other fields than a candidate's number are sums of another kind.
		number, err := strconv.Atoi(string(sums[at]))
		if err != nil || number < 0 || number >= len(likes) {
			continue
		}
		if likes[number], err = strconv.Atoi(string(sums[at+1])); err != nil {
			return err
		}
	}
	g.published.Store(&likes)
	return nil
}
