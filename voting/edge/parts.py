"""What every handler of the edge works with."""

from dataclasses import dataclass

from aiohttp import web

from voting.ballot_box import BallotBox
from voting.device import Mint
from voting.edge.board import Board
from voting.edge.client_address import ClientAddress
from voting.edge.live_catalog import LiveCatalog
from voting.edge.metrics import EdgeMetrics
from voting.pseudonyms import Pseudonyms
from voting.receipt import Receipts
from voting.settings import Settings


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of one edge process, made once at its start."""

    settings: Settings
    catalog: LiveCatalog
    board: Board
    ballot_box: BallotBox
    mint: Mint
    pseudonyms: Pseudonyms
    receipts: Receipts
    client_address: ClientAddress
    metrics: EdgeMetrics


EDGE = web.AppKey("edge", Edge)
