"""A folder of staff's files -> a checked campaign in Postgres."""
