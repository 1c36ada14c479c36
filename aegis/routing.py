"""Who serves a task: one harness, or a pool of variants behind a router (paper §3, variant isolation).

On disk a pool is a bundle that holds bundles: ``router.json``, one folder a variant under ``variants/``, and
as ``harness.yaml`` with ``assets/`` the variant of unseen tasks, for whoever knows no router.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from harnessx.canonical import digest_of
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task

FORMAT = 1
ROUTER = "router.json"


@dataclass(frozen=True, slots=True)
class RoutedPool:
    """Variants, the cluster each serves, and the variant of clusters that no route names.

    Args:
        routes: cluster -> index into ``variants``. A variant may serve nothing.
        default: index of the variant with the best overall rate.
    """

    variants: tuple[HarnessConfig, ...]
    routes: Mapping[str, int]
    default: int = 0

    def serving(self, task: Task) -> HarnessConfig:
        """The harness that plays ``task``."""
        return self.variants[self.routes.get(task.cluster, self.default)]

    def clusters(self, index: int) -> tuple[str, ...]:
        """The clusters routed to a variant, by name."""
        return tuple(sorted(cluster for cluster, route in self.routes.items() if route == index))

    @property
    def digest(self) -> str:
        """Its behaviour: a pool in which one variant serves everything is that variant."""
        served = {cluster: self.variants[index].digest for cluster, index in self.routes.items()}
        unseen = self.variants[self.default].digest
        if set(served.values()) <= {unseen}:
            return unseen
        return digest_of(["pool", dict(sorted(served.items())), unseen])

    @property
    def system(self) -> System:
        """A pool of one variant is a plain harness."""
        return self if len(self.variants) > 1 else self.variants[0]

    def routed(self, clusters: Sequence[str], index: int) -> RoutedPool:
        """The pool with ``clusters`` sent to a variant."""
        return replace(self, routes={**self.routes, **dict.fromkeys(clusters, index)})

    def grown(self, variant: HarnessConfig) -> RoutedPool:
        """The pool with one more variant, the last, which serves nothing yet."""
        return replace(self, variants=(*self.variants, variant))

    def swapped(self, index: int, variant: HarnessConfig) -> RoutedPool:
        """The pool with a variant in the place of another."""
        variants = (*self.variants[:index], variant, *self.variants[index + 1 :])
        return replace(self, variants=variants)

    def without(self, index: int) -> RoutedPool:
        """The pool without a variant.

        Raises:
            ValueError: it still serves a cluster or unseen tasks.
        """
        if self.clusters(index) or self.default == index:
            raise ValueError(f"variant {index} still serves; route its clusters elsewhere first")

        def moved(route: int) -> int:
            return route - (route > index)

        variants = (*self.variants[:index], *self.variants[index + 1 :])
        return RoutedPool(variants, {c: moved(route) for c, route in self.routes.items()}, moved(self.default))

    def files(self) -> dict[str, str]:
        """Its bundle: text by path."""
        names = [f"V{number}" for number in range(1, len(self.variants) + 1)]
        router = {
            "format": FORMAT,
            "default": names[self.default],
            "routes": {cluster: names[index] for cluster, index in sorted(self.routes.items())},
            "variants": {name: v.digest for name, v in zip(names, self.variants, strict=True)},
        }
        files = bundle(self.variants[self.default])
        for name, variant in zip(names, self.variants, strict=True):
            files |= {f"variants/{name}/{path}": text for path, text in bundle(variant).items()}
        return {**files, ROUTER: json.dumps(router, indent=1, sort_keys=True) + "\n"}

    @classmethod
    def load(cls, folder: Path | str) -> RoutedPool:
        """Read what `files` wrote.

        Raises:
            UserError: no router there, or one that names what is not there.
        """
        file = Path(folder, ROUTER)
        try:
            data: Any = json.loads(file.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise UserError(f"{file}: router format {data['format']!r}; this version reads {FORMAT}")
            names = list(data["variants"])
            routes = {str(cluster): names.index(name) for cluster, name in data["routes"].items()}
            default = names.index(data["default"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} is not a router: {error!r}; it names a default, routes and variants") from error
        return cls(tuple(HarnessConfig.load(Path(folder, "variants", name)) for name in names), routes, default)


System: TypeAlias = HarnessConfig | RoutedPool
"""What can be evaluated, shipped and deployed."""


def serving(system: System, task: Task) -> HarnessConfig:
    """The harness that plays ``task``."""
    return system.serving(task) if isinstance(system, RoutedPool) else system


def changed(before: System, after: System) -> Callable[[Task], bool]:
    """Whether another harness plays a task after than before; on all others the two are the same."""
    return lambda task: serving(before, task) != serving(after, task)


def bundle(system: System) -> dict[str, str]:
    """Text by path of the bundle on disk, what is read first (``harness.yaml``, ``router.json``) last."""
    if isinstance(system, RoutedPool):
        return system.files()
    return {**system.assets, "harness.yaml": system.to_yaml()}
