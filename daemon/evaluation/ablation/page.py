"""Page: `ablations.md` and its pictures, written anew by every ablation.

Owns the page's words and what it shows. Promises the same page from the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...rows import Mean
from .drawing import draw
from .study import Figure
from .summary import INTERVAL, Summary

_OPENING = """# Ablations

What each part of the models is worth on The Complete Journey, by training them without it. This
page and its pictures are written by

```
headwater ablate --docs docs --json FILE
```

which keeps every finished run in `.headwater/ablations` and goes on where it was stopped, also by
`kill -9`. A run is done again when its configuration, its data, numpy, torch or the code of its
model changes. `--only NAME` does one study, for the figures alone; `--seeds N` trains each system
N times, by default 3.

Every number is the mean over seeds and users, ± its standard error: of the users by bootstrap, of
the seeds from their variance, pooled over a study's systems. An interval in a picture reaches
{interval:g} standard errors to each side. Differences are paired user by user; one that is worse
beyond its interval is bold. Nothing was chosen by these figures. Models learn from a slice of the
data, so they are below those of [evaluation](evaluation.md); within a study all learn from the
same rows.
"""

_TITLES = {
    "ranker": "Ranker: parts of GESR",
    "retriever": "Retriever: terms of the score",
    "history": "Length of histories, and stochastic length",
}


def write(folder: Path, summaries: Sequence[Summary]) -> None:
    """Write the page and the pictures into a folder of documents."""
    pictures = folder / "ablations"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [_OPENING.format(interval=INTERVAL)]
    for summary in summaries:
        name = summary.study.name
        (pictures / f"{name}.png").write_bytes(draw(summary, _TITLES[name]))
        parts.append(_section(summary))
    (folder / "ablations.md").write_text("\n".join(parts))


def _section(summary: Summary) -> str:
    study = summary.study
    headings = ["system", "what"]
    for figure in study.figures:
        headings += [figure.title, f"less `{study.reference}`"]
    headings += ["CPU s", "learned numbers"]
    lines = [
        f"## {_TITLES[study.name]}\n",
        f"{study.about} {_counted(summary)}\n",
        f"![{_TITLES[study.name]}](ablations/{study.name}.png)\n",
        _line(headings),
        _line(["---"] * len(headings)),
    ]
    for system, what in study.systems.items():
        cells = [f"`{system}`", what]
        for figure in study.figures:
            one = summary.figures[figure.axis][system]
            cells += [_value(one.mean), _difference(figure, one.less)]
        cells += [f"{summary.train_s[system].value:.0f}", f"{summary.parameters[system]:,}"]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _counted(summary: Summary) -> str:
    users = [
        f"{summary.figures[figure.axis][summary.study.reference].mean.n:,} ({figure.title})"
        for figure in summary.study.figures
    ]
    return f"{summary.seeds} seeds; users: {', '.join(users)}."


def _value(mean: Mean) -> str:
    return f"{mean.value:.4f} ± {mean.spread:.4f}".replace("0.", ".")


def _difference(figure: Figure, less: Mean | None) -> str:
    """Bold where it is worse beyond its interval."""
    if less is None:
        return ""
    text = f"{less.value:+.4f} ± {less.spread:.4f}".replace("0.", ".")
    worse = less.value if figure.falls else -less.value
    return f"**{text}**" if worse > INTERVAL * less.spread else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
