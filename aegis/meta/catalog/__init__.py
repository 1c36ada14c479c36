"""The offline meta-agent: a directed search over a catalog of levers."""

from aegis.meta.catalog.catalog import Catalog

__all__ = ["Catalog"]
