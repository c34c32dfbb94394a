"""A folder of staff's files -> a checked campaign in Postgres.

    manifest.py     campaign.toml -> Manifest
    sheet.py        candidates.xlsx or .csv -> rows of text (xlsx_reader.py: in a process apart)
    roster.py       rows -> candidates as listed, every cell checked
    photos.py       photos/ -> pictures in two sizes
    videos.py       videos/ -> videos that browsers play (containers.py: what a file says of itself)
    folder.py       all of that over one folder, all problems at once
    save.py         what it makes of the campaign that is there, in one transaction
    importer.py     from folder to database; commands.py and demo.py call it

Whatever staff can get wrong is a `Problem` with its place, never an exception; one error among
them and nothing is imported.
"""
