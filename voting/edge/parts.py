"""What every handler of the edge works with."""

from dataclasses import dataclass

from aiohttp import web

from voting.ballot_box import BallotBoxes
from voting.device import Mint
from voting.edge.board import Board
from voting.edge.client_address import ClientAddress
from voting.edge.encoded import EncodedCandidates, EncodedCounts
from voting.edge.issuing import Issuing, ProofDesk
from voting.edge.known_devices import KnownDevices
from voting.edge.known_fingerprints import KnownFingerprints
from voting.edge.live_catalog import LiveCatalog
from voting.edge.log_desk import LogDesk
from voting.edge.loop_lag import LoopLag
from voting.edge.metrics import EdgeMetrics
from voting.edge.vouching import Vouching
from voting.pseudonyms import Pseudonyms
from voting.receipt import Receipts
from voting.settings import Settings
from voting.view import Views


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of one edge process, made once at its start."""

    settings: Settings
    catalog: LiveCatalog
    board: Board
    ballot_boxes: BallotBoxes
    mint: Mint
    issuing: Issuing
    proof_desk: ProofDesk
    vouching: Vouching
    views: Views
    fingerprints: KnownFingerprints
    known_devices: KnownDevices
    pseudonyms: Pseudonyms
    receipts: Receipts
    logs: LogDesk
    client_address: ClientAddress
    encoded_candidates: EncodedCandidates
    encoded_counts: EncodedCounts
    metrics: EdgeMetrics
    loop_lag: LoopLag

    @property
    def ready(self) -> bool:
        """Whether a vote could be taken now."""
        return self.ballot_boxes.ready and self.catalog.loaded


EDGE = web.AppKey("edge", Edge)
