"""The plan: what a campaign of a given size needs, before a machine is bought for it.

figures.py   what one like costs: measured by `make bench`, or the shipped reference
model.py     demand and figures -> how many of each part, how busy, what gives out first
commands.py  `dianzan plan`
"""
