"""stopgap"""

from meshd.core.board import Board
from meshd.core.phases import Place
from meshd.model import JsonObject


def feature_fields(board: Board, place: Place) -> JsonObject:
    return {"title": place[2]}
