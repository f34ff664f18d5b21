"""A picture of each figure: what its pairs said, their median within the null control's spread, and any target."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from bench.statistics import Outcome, Part

FOLDER = Path(__file__).parent / "plots"
WIDTH, LEFT, RIGHT = 720, 20, 700
HEAD, ROW = 34, 84
MET, MISSED, INK, FAINT = "#1f7a5c", "#b3382c", "#222222", "#8a8a8a"


def write(outcomes: Mapping[str, Outcome], folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    for name, outcome in outcomes.items():
        (folder / f"{name}.svg").write_text(svg(name, outcome))


def svg(name: str, outcome: Outcome) -> str:
    height = HEAD + ROW * len(outcome.parts)
    rows = (line for number, part in enumerate(outcome.parts) for line in _row(part, HEAD + ROW * number))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 22, f"{name}: {outcome.unit}", size=15),
        *rows,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _row(part: Part, top: int) -> Iterator[str]:
    colour = INK if part.target is None else MET if part.holds else MISSED
    most = 1.1 * max(*part.values, part.target or 0, part.value * (1 + part.spread)) or 1
    bound = "reported" if part.target is None else f"to be {'at least' if part.at_least else 'at most'} {part.target:g}"
    axis = top + 48

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * value / most

    low, high = x(part.value * max(1 - part.spread, 0)), x(part.value * (1 + part.spread))
    yield _text(LEFT, top + 18, f"{part.name}: {part.value:.3g}, {bound}", colour=colour)
    yield f'<line x1="{LEFT}" x2="{RIGHT}" y1="{axis}" y2="{axis}" stroke="{FAINT}"/>'
    yield f'<rect x="{low:.1f}" y="{axis - 9}" width="{high - low:.1f}" height="18" fill="{colour}" opacity="0.2"/>'
    yield from (f'<circle cx="{x(value):.1f}" cy="{axis}" r="3" fill="{colour}"/>' for value in part.values)
    yield _upright(x(part.value), axis, colour)
    yield _text(LEFT, axis + 26, "0", colour=FAINT)
    if part.target is not None:
        yield _upright(x(part.target), axis, INK, dashed=True)
        yield _text(x(part.target), axis + 26, f"{part.target:g}", anchor="middle")


def _upright(x: float, axis: int, colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="3 2"' if dashed else ""
    ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{axis - 13}" y2="{axis + 13}"'
    return f'<line {ends} stroke="{colour}" stroke-width="2"{dashes}/>'


def _text(x: float, y: int, text: str, *, colour: str = INK, size: int = 13, anchor: str = "start") -> str:
    style = f'fill="{colour}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(text)}</text>'
