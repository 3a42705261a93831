"""The table of error and warning codes, read from the calls in the source by its syntax tree. Imports r2star.errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from markdown_table import cell, table

from r2star.errors import ERROR_KINDS

ROOT = Path(__file__).parents[2]
#: r2star/workflows is a link, which a search may or may not follow
SOURCES = sorted(
    {path.resolve() for folder in ("r2star", "workflows") for path in (ROOT / folder).rglob("*.py")}
)
_CODE = re.compile(r"[EW]\d{3}")
_PARTS = ("found", "needed", "fix")
_PLACE = "…"
Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True)
class Use:
    """One place where a code is used: the error's class (empty for a warning or a helper) and its texts."""

    code: str
    kind: str
    found: str
    needed: str
    fix: str


def uses() -> list[Use]:
    """Every use of a code in the package, by code, in the order of the files; equal ones once."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    constants = {name: text for tree in trees for name, text in _constants(tree)}
    found = [use for tree in trees for use in _Module(tree, constants).uses()]
    telling = {use.code for use in found if _says_something(use.found)}
    kept = [use for use in found if _says_something(use.found) or use.code not in telling]
    return sorted(dict.fromkeys(kept), key=lambda use: use.code)


def _says_something(text: str) -> bool:
    return bool(re.search(r"[a-z]{2}", text))


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Texts that a module gives a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    yield target.id, node.value.value


class _Module:
    """The uses of codes in one module."""

    def __init__(self, tree: ast.Module, constants: dict[str, str]) -> None:
        self.tree, self.constants = tree, constants
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def uses(self) -> Iterator[Use]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Dict):
                yield from self._levels(node)
            if isinstance(node, ast.FunctionDef):
                for call in _own(node, ast.Call):
                    yield from self._use(call, node)

    def _levels(self, node: ast.Dict) -> Iterator[Use]:
        """A table of codes and what they mean."""
        for key, value in zip(node.keys, node.values):
            if key is not None and (code := self._code(key)) and isinstance(value, ast.Constant):
                yield Use(code, "", str(value.value), "", "")

    def _use(self, call: ast.Call, scope: ast.FunctionDef) -> Iterator[Use]:
        place, code = next(
            ((k, code) for k, arg in enumerate(call.args) if (code := self._code(arg))), (0, "")
        )
        if not code:
            yield from self._chosen(call, scope)
            return
        helper = self.functions.get(_name(call.func))
        inner = _raised_with_parameter(helper) if helper else []
        for one, where in [(each, helper) for each in inner] or [(call, scope)]:
            yield self._parts(code, one, where or scope, 0 if inner else place)

    def _chosen(self, call: ast.Call, scope: ast.FunctionDef) -> Iterator[Use]:
        """Uses of a code that was given the name ``code`` before, as one of several."""
        if not call.args or _name(call.args[0]) != "code" or _name(call.func) not in {"Notice", *ERROR_KINDS}:
            return
        for assigned in _own(scope, ast.Assign):
            if "code" in {
                node.id
                for target in assigned.targets
                for node in ast.walk(target)
                if isinstance(node, ast.Name)
            }:
                for node in ast.walk(assigned.value):
                    if isinstance(node, ast.Constant) and (code := self._code(node)):
                        yield self._parts(code, call, scope, 0)

    def _parts(self, code: str, call: ast.Call, scope: ast.FunctionDef, place: int) -> Use:
        order = ("found", "fix") if code.startswith("W") else _PARTS
        given = dict(zip(order, call.args[place + 1 :]))
        given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg in _PARTS}
        parts = [self._text(given[part], scope, call.lineno) if part in given else "" for part in _PARTS]
        kind = _name(call.func)
        return Use(code, kind if kind in ERROR_KINDS else "", *parts)

    def _code(self, value: ast.expr) -> str:
        text = value.value if isinstance(value, ast.Constant) else ""
        if isinstance(value, ast.Name):
            text = self.constants.get(value.id, "")
        return text if isinstance(text, str) and _CODE.fullmatch(text) else ""

    def _text(self, value: ast.expr, scope: ast.FunctionDef, line: int) -> str:
        """The words of an expression, with … for what is known only when it happens."""
        if isinstance(value, ast.Constant):
            return str(value.value)
        if isinstance(value, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else _PLACE for part in value.values)
            return "".join(map(str, parts))
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            return self._text(value.left, scope, line) + self._text(value.right, scope, line)
        if isinstance(value, ast.IfExp):
            return " / ".join(self._text(one, scope, line) for one in (value.body, value.orelse))
        if isinstance(value, ast.Name):
            return self._named(value.id, scope, line)
        return _PLACE

    def _named(self, name: str, scope: ast.FunctionDef, line: int) -> str:
        """What a name was last given before a line, or the package's constant of that name."""
        given = [
            node
            for node in _own(scope, ast.Assign)
            if node.lineno < line and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
        if given:
            return self._text(given[-1].value, scope, given[-1].lineno)
        return self.constants.get(name, _PLACE)


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else ""


def _own(scope: ast.AST, kind: type[Node]) -> Iterator[Node]:
    """Nodes of a kind in a scope, in the order of the text, not those of functions within it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef):
            continue
        if isinstance(child, kind):
            yield child
        yield from _own(child, kind)


def _raised_with_parameter(helper: ast.FunctionDef) -> list[ast.Call]:
    """The errors that a helper makes with the code that it was handed."""
    parameters = {argument.arg for argument in helper.args.args}
    return [
        call
        for call in _own(helper, ast.Call)
        if isinstance(call.func, ast.Name) and call.func.id in ERROR_KINDS
        if call.args and isinstance(call.args[0], ast.Name) and call.args[0].id in parameters
    ]


def codes(letters: str) -> str:
    """A table of the codes that begin with one of some letters and digits, such as ``E1`` or ``W``."""
    rows = [
        (
            f"`R2S-{use.code}`",
            str(ERROR_KINDS[use.kind].exit_code) if use.kind else "",
            cell(use.found),
            cell("; ".join(part for part in (use.needed, use.fix) if part)),
        )
        for use in uses()
        if use.code.startswith(letters)
    ]
    if letters.startswith("W"):
        return table(("code", "what was found", "how to mend it"), [(row[0], *row[2:]) for row in rows])
    return table(("code", "exit", "what was found", "what is needed; how to mend it"), rows)


def exit_codes(_argument: str) -> str:
    """Exit code, class and meaning of each kind of error."""
    rows = [
        (f"`{kind.exit_code}`", f"`{kind.state}`", cell((kind.__doc__ or "").splitlines()[0]), f"`{name}`")
        for name, kind in ERROR_KINDS.items()
    ]
    return table(("exit", "state", "meaning", "class in `r2star.errors`"), rows)
