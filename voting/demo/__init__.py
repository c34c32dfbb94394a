"""The demo campaign: a list of candidates, their portraits and where those come from."""
