package main

// LAYOUT: all that this peer knows of the bytes that pass between it and voting/ballot_box.lua, of
// its arguments and of its keys. Where those change, this file does, and no other.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"time"
)

const (
	shard          = 0
	layoutVersion  = 1
	campaignNumber = 1
	epochFloor     = 0
	noEnd          = 1<<53 - 1 // microseconds: the last moment that Lua can tell from the next
	rulesVersion   = 2
	tokenLevel     = 1
	verdictCount   = 0

	// antifraud.networks.NetworkClass: one without a limit of new devices, as this peer has none.
	networkClasses = 6
	networkClass   = 5
	scoreBits      = 1<<16 - 4_600 // -4,600: nothing speaks for or against a ballot

	// antifraud.screen.BANDS, antifraud.heuristics.STORE_WEIGHTS
	challengeAt      = 1_500
	holdAt           = 4_000
	refuseAt         = 12_000
	networkWeight    = 1_500
	newDevicesWeight = 2_000

	perCandidateAndDay = 1
	perCampaign        = 0 // no limit
	challenges         = 0 // switched off

	answeredBytes = 1 + 8
	answerBytes   = 1 + 2 + 4 + 2 + 8

	statusCast     = 0
	statusWrongDay = 1

	dayUs = 86_400_000_000
)

var castFunction = regexp.MustCompile(`redis\.register_function\('(cast_[0-9a-f]+)'`)

// functionName finds the cast function in its library's source.
func functionName(library string) (string, error) {
	found := castFunction.FindStringSubmatch(library)
	if found == nil {
		return "", errors.New("the library registers no function cast_...")
	}
	return found[1], nil
}

// plan is a call of the function but for its ballots: the day's keys and the packed rules.
type plan struct {
	startsAtUs int64
	endsAtUs   int64
	arguments  []any // the last two are for replid and ballots
}

// makePlan for the day, in UTC, that holds this moment.
func makePlan(function, campaign string, rules rules, momentUs int64) *plan {
	day := momentUs / dayUs
	p := &plan{startsAtUs: day * dayUs, endsAtUs: (day + 1) * dayUs}
	date := func(day int64) string { return time.Unix(day*86_400, 0).UTC().Format("2006-01-02") }
	key := func(rest string) string { return fmt.Sprintf("{s%d}:%s", shard, rest) }
	p.arguments = []any{
		function, "9",
		key("head"),
		key("journal"),
		tallyKey(campaign),
		key("day:" + campaign + ":" + date(day)),
		key("day:" + campaign + ":" + date(day-1)),
		key("net:" + campaign + ":" + date(day)),
		key("life:" + campaign),
		key("cells:" + campaign + ":" + date(day)),
		key("capacity:" + campaign + ":" + date(day)),
		packPlan(p, uint32(day), rules),
		nil, nil,
	}
	return p
}

// with these ballots, which must stay as they are until the call is answered.
func (p *plan) with(replid string, ballots []byte) []any {
	p.arguments[len(p.arguments)-2] = replid
	p.arguments[len(p.arguments)-1] = ballots
	return p.arguments
}

func (p *plan) holds(momentUs int64) bool {
	return p.startsAtUs <= momentUs && momentUs < p.endsAtUs
}

func tallyKey(campaign string) string {
	return fmt.Sprintf("{s%d}:tally:%s", shard, campaign)
}

// packPlan as _pack_plan of voting/ballot_box.py does.
func packPlan(p *plan, day uint32, rules rules) []byte {
	to := binary.BigEndian
	b := []byte{layoutVersion, shard}
	b = to.AppendUint16(b, epochFloor)
	b = to.AppendUint16(b, campaignNumber)
	b = to.AppendUint32(b, day)
	b = to.AppendUint64(b, uint64(p.startsAtUs))
	b = to.AppendUint64(b, uint64(p.endsAtUs))
	b = to.AppendUint64(b, 0) // opens at
	b = to.AppendUint64(b, noEnd)
	b = append(b, 0) // paused
	b = to.AppendUint16(b, perCandidateAndDay)
	b = to.AppendUint16(b, uint16(rules.LikesPerDay))
	b = to.AppendUint32(b, perCampaign)
	limits := rules.limits()
	for _, limit := range limits[:2] {
		b = to.AppendUint64(b, uint64(limit))
	}
	weights := [...]int16{challengeAt, holdAt, refuseAt, networkWeight, newDevicesWeight}
	for _, weight := range weights {
		b = to.AppendUint16(b, uint16(weight))
	}
	b = append(b, challenges)
	b = append(b, 0) // nobody has to be vouched for
	for range [networkClasses]int{} {
		for _, limit := range limits[2:] {
			b = to.AppendUint64(b, uint64(limit))
		}
		b = append(b, make([]byte, 4*8)...) // no limit of new devices
	}
	return b
}

// packBallot appends what the function gets of one ballot, as pack_ballot of voting/journal.py does.
// What this peer does not know of a request is 0.
func packBallot(b []byte, of *ballot) []byte {
	to := binary.BigEndian
	b = append(b, of.device[:]...)
	b = append(b, of.network[:]...)
	b = append(b, of.wide[:]...)
	b = to.AppendUint16(b, uint16(of.number))
	b = append(b, of.click[:]...)
	b = to.AppendUint32(b, 0)      // asn
	b = append(b, networkClass, 0) // classes of network and user agent
	b = to.AppendUint32(b, 0)      // tls hash
	b = to.AppendUint32(b, of.ageSeconds)
	b = append(b, tokenLevel)
	b = to.AppendUint16(b, 0) // dwell time
	b = to.AppendUint16(b, rulesVersion)
	b = to.AppendUint16(b, scoreBits)
	b = append(b, 0, 0, 0) // reasons
	return append(b, verdictCount)
}

// readAnswered gives the status of a call and the store's time in microseconds.
func readAnswered(reply []byte, ballots int) (status byte, nowUs int64, err error) {
	if len(reply) < answeredBytes {
		return 0, 0, fmt.Errorf("an answer of %d bytes", len(reply))
	}
	status, nowUs = reply[0], int64(binary.BigEndian.Uint64(reply[1:]))
	if status == statusCast && len(reply) != answeredBytes+ballots*answerBytes {
		return 0, 0, fmt.Errorf("an answer of %d bytes for %d ballots", len(reply), ballots)
	}
	return status, nowUs, nil
}

// readAnswer gives what became of the ballot at this place of the call; its position in the
// journal is left where it is, for this peer seals no receipt.
func readAnswer(reply []byte, place int) cast {
	b := reply[answeredBytes+place*answerBytes:]
	return cast{
		outcome:   outcome(b[0]),
		remaining: int(binary.BigEndian.Uint16(b[1:])),
		waitMs:    int(binary.BigEndian.Uint32(b[3:])),
	}
}
