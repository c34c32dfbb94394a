"""What leaves the house beside publications: news, alerts, exports.

outbox.py        news for others, sent after the commit, at least once
destinations.py  to whom; couriers.py how; messages.py what it says
alerts.py        what somebody should know now: told when it begins and when it ends
exports.py       a day's votes as CSV and Parquet, without personal data
office_keys.py   keys of the office API
"""
