"""D3, memory: skills that lie in the harness as folders, shown by name and read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.errors import ToolError
from harnessx.hooks import Event, Hook, TaskStartEvent
from harnessx.processor import Context, Dimension, Order, Processor
from harnessx.processors.calls import one_line
from harnessx.tools.base import Tool, ToolContext

ENTRY = "SKILL.md"


@dataclass(frozen=True, slots=True)
class Skill:
    """One folder: what it is for, how it is done, and the further files that it refers to."""

    name: str
    description: str
    text: str
    files: tuple[str, ...]


def read_skill(path: str, source: str, files: Sequence[str] = ()) -> Skill:
    """The skill that ``source`` states: ``name`` and ``description`` between two lines ``---``, then its text.

    Raises:
        ValueError: it does not begin so; the message names ``path``.
    """
    head, separator, text = source.removeprefix("---\n").partition("\n---\n")
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in head.splitlines())}
    if not source.startswith("---\n") or not separator or not (fields.get("name") and fields.get("description")):
        raise ValueError(f"{path}: a skill begins with '---', lines 'name: …' and 'description: …', and '---'")
    return Skill(fields["name"], fields["description"], text.strip(), tuple(files))


@dataclass
class Skills(Processor):
    """Lists the skills of the harness at the end of the system prompt; the tool ``skill`` reads one.

    A skill is a folder of the bundle below ``folder`` with a file `ENTRY`. Without any, nothing is said.

    Raises:
        ValueError: a folder without a readable `ENTRY`, or two skills of one name, when the rollout begins.
    """

    hooks = (Hook.TASK_START,)
    group = "skills"
    order = Order.POST
    after = ("few_shot", "episodic")
    dimension = Dimension.MEMORY

    folder: str = "assets/skills"
    """Where the skills lie."""
    max_chars: int = 20_000
    """Longest text that is read at once, in characters; what is longer is cut, and says so."""
    _skills: dict[str, tuple[str, Skill]] = field(default_factory=dict, init=False, repr=False)

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        root = self.folder.rstrip("/") + "/"
        paths = [path for path in ctx.assets if path.startswith(root) and "/" in path.removeprefix(root)]
        for place in dict.fromkeys(root + path.removeprefix(root).partition("/")[0] + "/" for path in paths):
            inside = [path.removeprefix(place) for path in paths if path.startswith(place)]
            if ENTRY not in inside:
                raise ValueError(f"{place} has no {ENTRY}")
            files = [name for name in inside if name != ENTRY]
            skill = read_skill(place + ENTRY, ctx.asset(place + ENTRY), files)
            if skill.name in self._skills:
                raise ValueError(f"{place}: there is another skill {skill.name!r}")
            self._skills[skill.name] = (place, skill)

    def brings(self) -> Sequence[Tool]:
        return (ReadSkill(self),)

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        if self._skills:
            known = [f"- {skill.name}: {one_line(skill.description, 300)}" for _, skill in self._skills.values()]
            listed = "\n".join(("Skills that the tool skill reads, before you need them:", *known))
            event = replace(event, system_prompt=f"{event.system_prompt}\n\n{listed}".strip())
        yield event

    def read(self, name: str, file: str = "") -> str:
        """The text of a skill, or of a file in its folder.

        Raises:
            ToolError: no such skill or file; says which there are.
        """
        if name not in self._skills:
            raise ToolError(f"there is no skill {name!r}; skills: {', '.join(self._skills) or 'none'}")
        place, skill = self._skills[name]
        if file and file not in skill.files:
            raise ToolError(f"the skill {name!r} has no file {file!r}; files: {', '.join(skill.files) or 'none'}")
        text = self.ctx.asset(place + file) if file else skill.text
        if len(text) > self.max_chars:
            text = f"{text[: self.max_chars]}\n[cut: {len(text) - self.max_chars} characters more]"
        more = f"\n\nFurther files: {', '.join(skill.files)}" if skill.files and not file else ""
        return text + more


@dataclass
class ReadSkill(Tool):
    """``skill``, for the model."""

    name = "skill"
    description = "Read a skill by its name, or one of the files that it refers to."
    parameters = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "file": {"type": "string"}},
        "required": ["name"],
    }

    owner: Skills

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        name, file = arguments.get("name"), arguments.get("file", "")
        if not isinstance(name, str) or not isinstance(file, str):
            raise ToolError("'name' and 'file' must be texts")
        return self.owner.read(name, file)
