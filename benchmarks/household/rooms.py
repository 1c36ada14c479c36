"""What the rooms are made of: receptacles, objects, and what can be done to which.

Nouns follow the vocabulary of ALFWorld (Shridhar et al., 2021), so that an agent for one plays the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OPENABLE = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})
"""Receptacles that start closed."""

LAMPS = frozenset({"desklamp", "floorlamp"})

APPLIANCE: Mapping[str, str] = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
"""The receptacle that each transformation needs."""

_FOOD = frozenset({"apple", "tomato", "potato", "lettuce", "egg", "bread"})
_DISHES = frozenset({"mug", "cup", "bowl", "plate"})
_COOKWARE = frozenset({"pan", "pot"})
_CUTLERY = frozenset({"fork", "spoon", "knife", "butterknife", "spatula", "ladle"})

CAN: Mapping[str, frozenset[str]] = {
    "clean": _FOOD - {"bread"} | _DISHES | _COOKWARE | _CUTLERY | {"soapbar", "cloth", "dishsponge"},
    "heat": _FOOD - {"lettuce"} | _DISHES,
    "cool": _FOOD | _DISHES | _COOKWARE,
}
"""The objects that each transformation works on."""


@dataclass(frozen=True, slots=True)
class Room:
    """A kind of room: how many of each receptacle (inclusive range), and the objects found there."""

    receptacles: Mapping[str, tuple[int, int]]
    objects: tuple[str, ...]
    lamp: str | None = None


ROOMS: Mapping[str, Room] = {
    "kitchen": Room(
        {
            "cabinet": (1, 4),
            "coffeemachine": (1, 1),
            "countertop": (1, 3),
            "diningtable": (0, 1),
            "drawer": (1, 4),
            "fridge": (1, 1),
            "garbagecan": (1, 1),
            "microwave": (1, 1),
            "shelf": (0, 3),
            "sinkbasin": (1, 1),
            "stoveburner": (1, 2),
            "toaster": (1, 1),
        },
        (*sorted(_FOOD | _DISHES | _COOKWARE | _CUTLERY), "dishsponge", "peppershaker", "saltshaker", "soapbottle"),
    ),
    "bathroom": Room(
        {
            "bathtubbasin": (0, 1),
            "cabinet": (1, 4),
            "countertop": (1, 2),
            "drawer": (0, 4),
            "garbagecan": (1, 1),
            "handtowelholder": (1, 2),
            "shelf": (0, 2),
            "sinkbasin": (1, 2),
            "toilet": (1, 1),
            "toiletpaperhanger": (1, 1),
        },
        ("candle", "cloth", "handtowel", "soapbar", "soapbottle", "spraybottle", "tissuebox", "toiletpaper"),
    ),
    "bedroom": Room(
        {
            "armchair": (0, 1),
            "bed": (1, 1),
            "desk": (1, 2),
            "drawer": (1, 4),
            "dresser": (0, 1),
            "garbagecan": (1, 1),
            "safe": (0, 1),
            "shelf": (0, 4),
            "sidetable": (1, 2),
        },
        ("alarmclock", "book", "bowl", "cd", "cellphone", "creditcard", "keychain", "laptop", "mug", "pen",
         "pencil", "pillow"),
        "desklamp",
    ),
    "livingroom": Room(
        {
            "armchair": (1, 2),
            "cabinet": (0, 4),
            "coffeetable": (1, 1),
            "diningtable": (0, 1),
            "drawer": (1, 4),
            "dresser": (0, 1),
            "garbagecan": (1, 1),
            "shelf": (0, 4),
            "sidetable": (1, 3),
            "sofa": (1, 1),
        },
        ("book", "box", "candle", "creditcard", "keychain", "laptop", "newspaper", "pillow", "plate",
         "remotecontrol", "statue", "tissuebox", "vase", "watch"),
        "floorlamp",
    ),
}  # fmt: skip


def kind(name: str) -> str:
    """The noun of a numbered thing: ``kind("mug 1") == "mug"``."""
    return name[: name.index(" ")]
