"""What the Hydra entry points share: whatever a person gets wrong is one line, and exit code 2."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from harnessx.errors import UserError
from harnessx.redaction import redact

CONFIGS = str(Path(__file__).parents[1] / "configs")
OPTIONS = frozenset(
    """-h --help --hydra-help --version -c --cfg --resolve -p --package -r --run -m --multirun -i --info
    -sc --shell-completion --experimental-rerun""".split()
)

EXAMPLES = {"task_model.main": "the model, e.g. task_model=openai/gpt-5.4-mini"}
"""How to set what has no default, where its name alone does not say."""

VALUED = frozenset("-c --cfg -p --package -i --info --experimental-rerun".split())
"""Options followed by a value."""


def fail(message: str) -> NoReturn:
    """Say what is wrong in one line, and exit with code 2."""
    print(redact(f"error: {' '.join(message.split())}"), file=sys.stderr)
    sys.exit(2)


def hydra_main(name: str, job: Callable[[dict[str, Any]], float | None]) -> None:
    """Run ``job`` on the composed config ``name``, also in sweeps; what Hydra minds is one line too."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    began = False

    def task(config: DictConfig) -> float | None:
        nonlocal began
        began = True
        try:
            resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            fail(_unresolved(error))
        assert isinstance(resolved, dict)
        try:
            return job({str(k): v for k, v in resolved.items()})
        except UserError as error:
            fail(str(error))

    for argument in sys.argv[1:]:
        if redact(argument) != argument:  # before Hydra, which writes arguments down
            fail(f"{argument} holds what looks like a key or password: put it into the provider's environment variable")
    sys.argv[1:] = _options_first([part for argument in sys.argv[1:] for part in _expand(argument)])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print, and it is said here
    try:
        hydra.main(version_base="1.3", config_path=CONFIGS, config_name=name)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_uncomposed(error, name))
    except (ValueError, OSError) as error:
        if began or isinstance(error, BrokenPipeError):
            raise
        fail(_uncomposed(error, name) if isinstance(error, ValueError) else f"the folder of the sweep: {error}")
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        sys.exit(130)


def _expand(argument: str) -> Iterator[str]:
    """``task_model=provider/name`` is any LiteLLM model, without a file of its own."""
    key, _, value = argument.partition("=")
    if key == "task_model" and "/" in value:
        yield from ("task_model=litellm", f"task_model.main={value}")
        return
    if key.startswith("-") and key not in OPTIONS:
        fail(f"unknown option {argument}; a setting has no dashes: {argument.lstrip('-')}")
    yield argument


def _options_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's parser takes no option after the first setting; a person may."""
    options: list[str] = []
    settings: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option = argument.startswith("-") or (before in VALUED and "=" not in argument)
        (options if option else settings).append(argument)
    return options + settings


def _unresolved(error: Exception) -> str:
    """A value that is missing, or that refers to what is not there."""
    from omegaconf.errors import MissingMandatoryValue

    key = getattr(error, "full_key", None)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is not set; set {EXAMPLES.get(str(key), f'{key}=…')}"
    return f"{key}: {_first_line(error)}" if key else _first_line(error)


def _uncomposed(error: Exception, name: str) -> str:
    """What an argument got wrong: a choice, a setting's name, or its spelling."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        valid = f"valid: {', '.join(error.options)}" if error.options else "there is no such group; see --help"
        return f"unknown {group}={choice}; {valid}"
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument {error.override}: {_first_line(error)}"
    unknown = re.match(r"Could not (?:override|delete from config\.) '([^']*)'", str(error))
    return _unknown_setting(unknown[1], name) if unknown else _first_line(error)


def _unknown_setting(key: str, name: str) -> str:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(CONFIGS, version_base="1.3"):
        known = list(_keys(OmegaConf.to_container(compose(name))))
    near = difflib.get_close_matches(key, known, 3, 0.7) or [k for k in known if k.endswith(f".{key}")]
    return f"no setting is called {key}; " + (f"near it: {', '.join(near)}" if near else "--help lists them all")


def _keys(config: object, above: str = "") -> Iterator[str]:
    """Every dotted key of a config."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{above}{key}"
            yield from _keys(value, f"{above}{key}.")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
