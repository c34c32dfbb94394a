"""The pages that the public reads, made on the server: they work without a script, under any mount
prefix, in light and dark, and on paper.

    render.py     what all of them share: the frame, addresses, headers
    kept.py       pages that are made once and answered many times
    budget.py     how much time the others get
    colours.py    any colour of a campaign -> colours that can be read; theme.py serves them
    notice.py     the public notice, and those before it
    static.py     style sheets, scripts and drawings
"""
