"""python -m loadtest.rehearsal: `dianzan rehearse` without the rest of the program."""

import sys

from loadtest.rehearse_command import app

if __name__ == "__main__":
    app(prog_name="python -m loadtest.rehearsal", args=["rehearse", *sys.argv[1:]])
