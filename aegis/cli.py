"""What the Hydra entry points share: composing with clear errors, and one line for a user's mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from harnessx.errors import UserError

CONFIGS = str(Path(__file__).parents[1] / "configs")
GROUPS = ("benchmark", "task_model", "meta", "gate", "strategy", "runner", "tracking", "experiment")


def fail(message: str) -> NoReturn:
    """Say what is wrong in one line, and exit with code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def hydra_main(name: str, job: Callable[[dict[str, Any]], float | None]) -> None:
    """Run ``job`` on the composed config ``name``, also in sweeps; what Hydra minds is one line too."""
    import hydra
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    sys.argv[1:] = [_expand(argument) for argument in sys.argv[1:]]
    sys.argv[1:] = [part for argument in sys.argv[1:] for part in argument.split("\0")]
    if not any(a.startswith("-") for a in sys.argv[1:]):
        _precheck(name, sys.argv[1:])

    def task(config: DictConfig) -> float | None:
        try:
            resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            fail(str(error).split("\n")[0])
        assert isinstance(resolved, dict)
        try:
            return job({str(k): v for k, v in resolved.items()})
        except UserError as error:
            fail(str(error))

    hydra.main(version_base="1.3", config_path=CONFIGS, config_name=name)(task)()


def _expand(argument: str) -> str:
    """``task_model=provider/name`` is any LiteLLM model, without a file of its own."""
    key, _, value = argument.partition("=")
    if key == "task_model" and "/" in value:
        return f"task_model=litellm\0task_model.main={value}"
    return argument


def _precheck(name: str, overrides: Sequence[str]) -> None:
    """Compose once before Hydra does, to say in one line what it says in many."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in GROUPS and value not in ("", "null"):
            valid = sorted(p.stem for p in (Path(CONFIGS) / key).glob("*.yaml"))
            if value not in valid:
                fail(f"unknown {key}={value}; valid: {', '.join(valid)}")
    try:
        with initialize_config_dir(CONFIGS, version_base="1.3"):
            compose(name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        fail(str(error).split("\n")[0])
