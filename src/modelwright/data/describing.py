"""What a look at the data found, as text for people and as JSON for programs."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelwright.data.inspection import DataInspection, Side

if TYPE_CHECKING:
    from modelwright.data.packing import PackingReport


def described(side: Side) -> dict[str, str]:
    """The figures of one side as text, by what they are; lengths are in tokens."""
    ratio = side.bytes_per_token
    figures = {
        "tokens": f"{side.n_tokens:,}",
        "documents": f"{side.n_documents:,}",
        "bytes of text": "not known" if side.n_bytes is None else f"{side.n_bytes:,}",
        "bytes per token": "not known" if ratio is None else f"{ratio:.3f}",
        "shards": f"{side.n_shards:,}",
        "size on disk": f"{side.bytes_on_disk / 1e6:,.2f} MB",
    }
    lengths = side.lengths
    return figures | {
        name: "none" if value is None else f"{value:,.{digits}f}"
        for name, value, digits in (
            ("shortest document", lengths and lengths.least, 0),
            ("median document", lengths and lengths.median, 0),
            ("mean document", lengths and lengths.mean, 1),
            ("90 % are up to", lengths and lengths.percentile_90, 0),
            ("99 % are up to", lengths and lengths.percentile_99, 0),
            ("longest document", lengths and lengths.most, 0),
        )
    }


def described_cut(report: "PackingReport") -> dict[str, str]:
    """The figures of one way of cutting as text, by what they are."""
    return {
        "rows": f"{report.n_rows:,}",
        "padding": f"{report.padding_share:.2%}",
        "documents cut": f"{report.share_cut:.2%}",
        "documents in a row": f"{report.documents_per_row:.2f}",
    }


def as_plain(
    inspection: DataInspection, cuts: "Mapping[str, Mapping[str, PackingReport]] | None" = None
) -> dict[str, Any]:
    """An inspection, and what `compare_cuts` found, in a form that JSON holds."""
    return {
        "path": str(inspection.path),
        "fingerprint": inspection.fingerprint,
        "n_vocab": inspection.n_vocab,
        "sides": {
            name: dataclasses.asdict(side) | {"bytes_per_token": side.bytes_per_token}
            for name, side in inspection.sides.items()
        },
        "cuts": {
            side: {way: _plain_cut(report) for way, report in reports.items()}
            for side, reports in (cuts or {}).items()
        },
        "facts": dict(inspection.facts),
    }


def _plain_cut(report: "PackingReport") -> dict[str, float]:
    return dataclasses.asdict(report) | {
        "padding_share": report.padding_share,
        "share_cut": report.share_cut,
        "documents_per_row": report.documents_per_row,
    }
