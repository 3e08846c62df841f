"""The parts that only the page about many runs has: a wide table, and pictures to switch between.

Pictures are switched by radio buttons before them, which the style sheet asks for. So it works
where scripts do not, from the keyboard too, and prints the picture that is shown.
"""

import html
import itertools
from collections.abc import Mapping, Sequence

css = """
main { max-width: 76rem; }
header .answer { font-size: 1.1rem; color: #1f2933; margin: .5rem 0 .8rem; max-width: 62rem; }
figure { margin: 0; } figure svg, .panels svg { display: block; margin: 0 auto; }
figcaption, .caption { color: #52606d; font-size: .88rem; max-width: 62rem; }
figcaption { margin: .4rem 0 0; }
.wide { overflow-x: auto; }
.wide table { font-size: .9rem; } .wide table.full { width: 100%; }
.wide th { color: #52606d; font-weight: 500; vertical-align: bottom; white-space: nowrap; }
.wide th, .wide td { padding: .25rem .5rem; }
.wide th:first-child, .wide td:first-child { padding-left: 0; }
.wide td { white-space: nowrap; vertical-align: top; }
.wide tr:last-child td { font-weight: inherit; border-bottom: 1px solid #e4e7eb; }
.wide .words { text-align: left; }
.wide td.words ~ td.words { white-space: normal; min-width: 10rem; }
.wide small { color: #52606d; }
section > details { margin-top: .6rem; }
.columns { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(16rem, 1fr);
  gap: 1rem; overflow-x: auto; padding-bottom: .5rem; }
.columns h3 { margin: 0; } .columns p { margin: 0; }
.columns blockquote { font-size: .86rem; max-height: 24rem; overflow-y: auto; }
.wide table.texts { width: 100%; min-width: 48rem; table-layout: fixed; }
.texts th:first-child { width: 9rem; } .wide .texts th { text-align: left; vertical-align: top; }
.wide .texts td { white-space: pre-wrap; overflow-wrap: anywhere; text-align: left; }
.texts td > div { max-height: 15rem; overflow-y: auto; font-size: .84rem; line-height: 1.4; }
.switch { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 0; }
.switch > input { position: absolute; opacity: 0; }
.switch > label { padding: .15rem .7rem; border: 1px solid #cbd2d9; margin-left: -1px;
  font-size: .88rem; color: #334e68; cursor: pointer; background: #fff; }
.switch > label.first { border-radius: 6px 0 0 6px; margin-left: 0; }
.switch > label.end { border-radius: 0 6px 6px 0; margin-right: .9rem; }
.switch > label.first.end { border-radius: 6px; }
.switch > input:checked + label { background: #2364aa; border-color: #2364aa; color: #fff; }
.switch > input:focus-visible + label { outline: 2px solid #edae49; outline-offset: 1px; }
.switch > .panels { flex-basis: 100%; margin: .6rem 0 0; }
.switch > .panels > div { display: none; }
@media print { .switch > label { border: 0; } .columns { grid-auto-flow: row; } }
"""


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    n_words: int = 0,
    last_is_words: bool = False,
    is_full: bool = False,
) -> str:
    """A table that scrolls by itself where the page is narrow.

    Args:
        rows: as HTML.
        n_words: columns at the left that are words.
        last_is_words: whether the last column is, too; all but the first of them may break.
        is_full: whether it is as wide as the page.
    """

    def kind(n: int) -> str:
        if last_is_words and n == len(head) - 1:
            return " class='words'"
        return " class='words'" if n < n_words else ""

    titles = "".join(f"<th{kind(n)}>{title}</th>" for n, title in enumerate(head))
    lines = "".join(
        f"<tr>{''.join(f'<td{kind(n)}>{cell}</td>' for n, cell in enumerate(row))}</tr>"
        for row in rows
    )
    full = " class='full'" if is_full else ""
    return f"<div class='wide'><table{full}><tr>{titles}</tr>{lines}</table></div>"


def switch(
    name: str,
    groups: Sequence[Sequence[str]],
    labels: Mapping[str, str],
    panels: Mapping[tuple[str, ...], str],
) -> str:
    """Panels of which one is shown, by a choice in each group; the first of each is chosen.

    Args:
        name: no other switch of the page may have it.
        labels: of each choice.
        panels: for every combination of choices.
    """
    buttons: list[str] = []
    for n, choices in enumerate(groups):
        for m, choice in enumerate(choices):
            identity = f"{name}-{n}-{choice}"
            place = " ".join(
                filter(None, ["first" if m == 0 else "", "end" if m == len(choices) - 1 else ""])
            )
            checked = " checked" if m == 0 else ""
            buttons.append(
                f"<input type='radio' name='{name}-{n}' id='{identity}'{checked}>"
                f"<label for='{identity}' class='{place}'>{html.escape(labels[choice])}</label>"
            )
    shown = "".join(
        f"<div class='{'-'.join(key)}'>{panels[key]}</div>" for key in itertools.product(*groups)
    )
    return f"<div class='switch'>{''.join(buttons)}<div class='panels'>{shown}</div></div>"


def switch_css(name: str, groups: Sequence[Sequence[str]]) -> str:
    """The style that shows the chosen panel of a switch."""
    rules: list[str] = []
    for key in itertools.product(*groups):
        chosen = "".join(f"#{name}-{n}-{choice}:checked ~ " for n, choice in enumerate(key))
        rules.append(f"{chosen}.panels > .{'-'.join(key)}")
    return ",\n".join(rules) + " { display: block; }\n" if rules else ""
