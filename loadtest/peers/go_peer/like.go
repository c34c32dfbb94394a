package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	bodyBytesMax = 4096
	likesPath    = "/v1/likes"
)

// outcome of a ballot, numbered as voting.ballot.Outcome; again = the first answer once more.
type outcome int

const (
	again outcome = iota
	counted
	held
	repeated
	quotaSpent
	challenge
	throttled
	refused
	closed
	notOpen
	paused
	clickReused
)

// said is what a client is told of an outcome. Held as counted: do not teach the bot.
var said = [...]struct {
	status int
	word   string
}{
	again:       {http.StatusCreated, "counted"},
	counted:     {http.StatusCreated, "counted"},
	held:        {http.StatusCreated, "counted"},
	repeated:    {http.StatusOK, "repeated"},
	quotaSpent:  {http.StatusConflict, "quota-spent"},
	challenge:   {http.StatusPreconditionRequired, "challenge"},
	throttled:   {http.StatusTooManyRequests, "throttled"},
	refused:     {http.StatusForbidden, "refused"},
	closed:      {http.StatusForbidden, "closed"},
	notOpen:     {http.StatusForbidden, "not-open"},
	paused:      {http.StatusForbidden, "paused"},
	clickReused: {http.StatusBadRequest, "malformed"},
}

// ballot is a like that may be cast: checked, its device and networks by their pseudonyms.
type ballot struct {
	number     int // of the candidate
	device     [8]byte
	network    [8]byte
	wide       [8]byte
	click      [6]byte
	ageSeconds uint32 // of the token
	day        int    // since 1970-01-01, UTC
}

// cast is what became of a ballot.
type cast struct {
	outcome   outcome
	remaining int // likes left today
	waitMs    int // until a throttled like may come again
	likes     int // of the candidate
}

var (
	// errOverloaded: it was not cast, there are too many.
	errOverloaded = errors.New("too many ballots wait")
	// errStoreDown: nobody knows whether it was cast; the same click again finds out.
	errStoreDown = errors.New("the store does not answer")
)

// ballotBox casts the ballot of a workspace and waits for what became of it.
type ballotBox interface {
	cast(at *workspace) (cast, error)
}

// workspace holds what one like needs, to be used again for another: one thing out of a pool, not
// ten from the heap.
type workspace struct {
	body    [bodyBytesMax + 1]byte // one more than is allowed: full means too large
	like    like
	seal    *seal
	ballot  ballot
	answer  []byte
	calling *calling // only of calls
	waiting *waiting // only of group commit
}

// edge answers POST /v1/likes.
type edge struct {
	campaign   string
	origin     string
	candidates map[string]int
	box        ballotBox
	workspaces sync.Pool
}

func newEdge(told *setup, box ballotBox) *edge {
	e := &edge{
		campaign:   told.campaign,
		origin:     told.origin,
		candidates: make(map[string]int, told.candidates),
		box:        box,
	}
	for number := 1; number <= told.candidates; number++ {
		e.candidates[fmt.Sprintf("c%03d", number)] = number
	}
	e.workspaces.New = func() any { return &workspace{seal: newSeal(told.key)} }
	allowOrigin[0] = told.origin
	return e
}

// Values of headers are shared by all answers: net/http reads them and changes none, and a slice
// less is made for each.
var (
	jsonType    = []string{"application/json; charset=utf-8"}
	problemType = []string{"application/problem+json; charset=utf-8"}
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
	allowOrigin = []string{""}
	varyOrigin  = []string{"Origin"}
	hangUp      = []string{"close"}
	allowPost   = []string{http.MethodPost}
	retrySoon   = []string{"2"}
)

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Written into the map, for Set would look at each letter of names that are right already.
	headers := w.Header()
	headers["Cache-Control"] = noStore
	headers["X-Content-Type-Options"] = noSniff
	headers["Access-Control-Allow-Origin"] = allowOrigin
	headers["Vary"] = varyOrigin
	at := e.workspaces.Get().(*workspace)
	e.postLike(w, r, at)
	e.workspaces.Put(at)
}

// postLike: parse, judge, cast, answer.
func (e *edge) postLike(w http.ResponseWriter, r *http.Request, at *workspace) {
	if r.URL.Path != likesPath {
		at.refuse(w, http.StatusNotFound, "not-found")
		return
	}
	if r.Method != http.MethodPost {
		w.Header()["Allow"] = allowPost
		at.refuse(w, http.StatusMethodNotAllowed, "wrong-method")
		return
	}
	body, err := readBody(r.Body, at.body[:])
	if err != nil {
		// What is left of it is nobody's request.
		w.Header()["Connection"] = hangUp
		if err == errTooLarge {
			at.refuse(w, http.StatusRequestEntityTooLarge, "too-large")
		} else {
			at.refuse(w, http.StatusBadRequest, "malformed")
		}
		return
	}
	like := &at.like
	if !like.read(body) || !isClick(like.click) {
		at.refuse(w, http.StatusBadRequest, "malformed")
		return
	}
	if string(like.campaign) != e.campaign {
		at.refuse(w, http.StatusNotFound, "unknown-campaign")
		return
	}
	if origin := r.Header["Origin"]; len(origin) > 0 && origin[0] != e.origin {
		at.refuse(w, http.StatusForbidden, "wrong-origin")
		return
	}
	deviceID, issuedAt, genuine := at.seal.verified(like.token)
	if !genuine {
		at.refuse(w, http.StatusUnauthorized, "bad-token")
		return
	}
	number, known := e.candidates[string(like.candidate)]
	if !known {
		at.refuse(w, http.StatusNotFound, "unknown-candidate")
		return
	}
	at.fillBallot(number, deviceID, issuedAt, clientAddress(r), time.Now().Unix())
	cast, err := e.box.cast(at)
	if err != nil {
		w.Header()["Retry-After"] = retrySoon
		if err == errOverloaded {
			at.refuse(w, http.StatusServiceUnavailable, "overloaded")
		} else {
			at.refuse(w, http.StatusServiceUnavailable, "store-down")
		}
		return
	}
	at.tell(w, cast)
}

func (at *workspace) fillBallot(
	number int, deviceID []byte, issuedAt uint32, address string, now int64,
) {
	b := &at.ballot
	b.number = number
	b.day = int(now / 86_400)
	b.ageSeconds = 0
	if age := now - int64(issuedAt); age > 0 {
		b.ageSeconds = uint32(age)
	}
	at.seal.pseudonym(&b.device, deviceID)
	at.seal.pseudonymOf(&b.network, address)
	at.seal.pseudonymOf(&b.wide, wideOf(address))
	b.click = clickHash(at.like.click)
}

// tell answers with what became of the ballot.
func (at *workspace) tell(w http.ResponseWriter, of cast) {
	if of.outcome < 0 || int(of.outcome) >= len(said) {
		at.refuse(w, http.StatusInternalServerError, "defect")
		return
	}
	answer := said[of.outcome]
	if answer.status > http.StatusCreated {
		if of.waitMs > 0 {
			w.Header()["Retry-After"] = []string{strconv.Itoa((of.waitMs + 999) / 1000)}
		}
		at.refuse(w, answer.status, answer.word)
		return
	}
	// The candidate is one of ours by now, so it holds nothing that JSON would escape.
	body := append(at.answer[:0], `{"outcome":"`...)
	body = append(body, answer.word...)
	body = append(body, `","candidate":"`...)
	body = append(body, at.like.candidate...)
	body = append(body, `","likes":`...)
	body = strconv.AppendInt(body, int64(of.likes), 10)
	body = append(body, `,"remaining_today":`...)
	body = strconv.AppendInt(body, int64(of.remaining), 10)
	body = append(body, '}')
	at.send(w, answer.status, jsonType, body)
}

func (at *workspace) refuse(w http.ResponseWriter, status int, word string) {
	body := append(at.answer[:0], `{"status":`...)
	body = strconv.AppendInt(body, int64(status), 10)
	body = append(body, `,"outcome":"`...)
	body = append(body, word...)
	body = append(body, `"}`...)
	at.send(w, status, problemType, body)
}

// send: net/http adds date and length. Where the client is gone nobody is left to hear of it.
func (at *workspace) send(w http.ResponseWriter, status int, contentType []string, body []byte) {
	at.answer = body
	w.Header()["Content-Type"] = contentType
	w.WriteHeader(status)
	w.Write(body)
}

var errTooLarge = errors.New("the body is too large")

// readBody reads to the end, or until the room is full, which is too much. A body that breaks off
// is an error, other than by io.ReadFull.
func readBody(from io.Reader, room []byte) ([]byte, error) {
	length := 0
	for length < len(room) {
		n, err := from.Read(room[length:])
		length += n
		if err == io.EOF && length < len(room) {
			return room[:length], nil
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	return nil, errTooLarge
}
