"""``python -m aegis.power``: what the gate's settings can confirm, and at what price, before any rollout."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from aegis.start import start


def power(config: dict[str, Any]) -> float | None:
    """Print the table; returns the smallest gain that an edit which acts everywhere can ship with.

    Raises:
        UserError: a setting is out of range, or the gate has no power to speak of.
    """
    from aegis.gate.config import GateConfig
    from aegis.settings import check_gate, number, one_of, section_of, whole
    from aegis.statistics.power import TYPICAL_NOISE, detectable_gains, power_table
    from aegis.views import power as view

    gate = section_of(GateConfig, "gate", config["gate"], ignore=("decisions",))
    decisions = config["gate"]["decisions"]
    check_gate(gate, decisions)
    one_of("gate.rule", gate.rule, ("paired",))
    whole("seed", config["seed"], 0)
    one_of("json", config["json"], (True, False))
    noise = TYPICAL_NOISE if config["noise"] is None else config["noise"]
    number("noise", noise, "from 0 to 0.5", lambda x: 0 <= x <= 0.5)
    if config["tokens"] is not None:
        whole("tokens", config["tokens"])
    test = gate.test(decisions)
    rows = power_table(test, noise, config["seed"])
    smallest = detectable_gains(test, noise, config["seed"])
    if config["json"]:
        table = {"test": asdict(test), "noise": noise, "rows": [asdict(r) for r in rows], "detectable": smallest}
        print(json.dumps(table))
    else:
        view.show(test, noise, rows, smallest, config["tokens"])
    return smallest[1.0]


if __name__ == "__main__":
    start("power", power)
