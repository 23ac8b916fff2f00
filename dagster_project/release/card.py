"""The data card of a release: a README.md in Hugging Face's format.

It explains the numbers of the manifest in plain words. Nothing is computed from data here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dagster_project.data.schema import Attribute, Schema
from dagster_project.release.features import card_features, image_column
from dagster_project.release.verdict import judge

_SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
}
# The identifiers of licences for data that the hub knows; it refuses other values of its field.
LICENCES = {
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "odbl",
    "odc-by", "pddl", "etalab-2.0", "gfdl", "unlicense", "wtfpl", "other", "unknown",
}  # fmt: skip
_KINDS = {
    "gaussian": "Gaussian noise",
    "poisson_sampled_gaussian": "Gaussian noise on Poisson samples",
    "discrete_gaussian": "discrete Gaussian noise",
    "bounded_range": "exponential selection",
}


def write_card(
    manifest: Mapping[str, Any],
    schema: Schema,
    quality: Mapping[str, Any] | None = None,
) -> str:
    """Return the Markdown of the card.

    Args:
        manifest: From `manifest.build`; the file hashes are not needed.
        schema: The public contract.
        quality: From `quality.public_quality`, or None if it was not computed.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["cell"] = _cell
    privacy, sampling = manifest["privacy"], manifest["sampling"]
    epsilon, delta = privacy["epsilon"], privacy["delta"]
    licence = sampling.get("licence")
    return environment.get_template("card.md.j2").render(
        front_matter=_front_matter(schema, sampling["n"], licence),
        name=schema.name,
        n=sampling["n"],
        condition=_condition(sampling),
        privacy=privacy,
        factor=_significant(math.exp(epsilon)),
        even=_percent((math.exp(epsilon) + delta) / (1 + math.exp(epsilon))),
        trade_off=[
            {name: _percent(rate, decimals=2) for name, rate in point.items()}
            for point in privacy["trade_off"]
        ],
        population=manifest["population"],
        image_column=image_column(schema),
        schema={
            "image": schema.image,
            "attributes": [
                {
                    "name": a.column,
                    "kind": a.declared_kind,
                    "domain": _domain(a),
                    "missing": a.missing,
                }
                for a in schema.attributes
                if a.label == 0
            ],
        },
        numeric=any(a.kind == "numeric" for a in schema.attributes),
        quality=quality,
        verdict=judge(
            schema,
            n_public=privacy["n_public"],
            epsilon=epsilon,
            settings=manifest["settings"],
            mechanisms=privacy["mechanisms"],
        ),
        model=_image_model(sampling, privacy["mechanisms"]),
        mechanisms=[_mechanism(item["name"], item["event"]) for item in privacy["mechanisms"]],
        public_images=manifest.get("public_images"),
        public_network=_public_network(manifest),
        ledger_head=manifest["ledger_head"],
        release_id=manifest["release_id"],
        code_version=manifest["code_version"],
        seed=f"sampling seed {sampling['seed']}",
        licence=licence,
    )


def _front_matter(schema: Schema, n: int, licence: str | None) -> str:
    content = {
        **_licence(licence),
        "pretty_name": f"{schema.name} (synthetic)",
        "tags": ["synthetic", "differential-privacy", "dp-tabimage", "image", "tabular"],
        "size_categories": [
            next((label for most, label in _SIZES.items() if n < most), "1B<n<10B"),
        ],
        "dataset_info": {"features": card_features(schema)},
        # Without explicit names the previews would be treated as data too.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _licence(licence: str | None) -> dict[str, str]:
    """Return the hub's fields: an identifier that it knows, or "other" with the text as a name."""
    if licence is None:
        return {"license": "unknown"}
    if licence in LICENCES:
        return {"license": licence}
    name = re.sub(r"[^a-z0-9.-]+", "-", licence.lower()).strip("-.") or "other"
    return {"license": "other", "license_name": name}


def _domain(attribute: Attribute) -> str:
    if attribute.kind == "numeric":
        low, high = map(attribute.edge_text, (attribute.edges[0], attribute.edges[-1]))
        unit = f" {attribute.unit}" if attribute.unit else ""
        whole = ", whole numbers" if attribute.form == "integer" else ""
        return f"{low} to {high}{unit}, in {len(attribute.edges) - 1} bins{whole}"
    group = attribute.group
    words = group.labels if group else attribute.categories
    shown = ", ".join(words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")
    if group:
        none = f", or {group.none}" if group.none else ""
        return f"any of {shown}, with {group.separator} between them{none}"
    return shown


def _image_model(sampling: Mapping[str, Any], mechanisms: Sequence[Mapping[str, Any]]) -> str:
    if sampling.get("model") == "generator":
        return "a generator of images given the record, fitted to them"
    trained = ", trained with DP-SGD" * any(item["name"] == "image_model" for item in mechanisms)
    if sampling.get("model") == "two_scale":
        coarse = f"a diffusion model of coarse images given the record{trained}"
        return f"{coarse}, and a network that adds detail"
    return f"a diffusion model of images given the record{trained}"


def _public_network(manifest: Mapping[str, Any]) -> bool:
    """Return whether the mean pairs include features of a public network."""
    share = manifest["settings"].get("mean_pairs", {}).get("perceptual_share", 0)
    return bool(share) and any(
        item["name"] == "mean_pairs" for item in manifest["privacy"]["mechanisms"]
    )


def _mechanism(name: str, event: Mapping[str, Any]) -> dict[str, Any]:
    noise = event.get("noise_multiplier", event.get("sigma"))
    return {
        "name": name,
        "kind": _KINDS[event["type"]],
        "noise": f"{noise:.4g}" if noise else f"ε = {event['epsilon']:.3g} each",
        "rate": f"{event['sample_rate']:.3g}" if "sample_rate" in event else "",
        "count": event["count"],
    }


def _cell(text: str) -> str:
    """Escape text so that it cannot end a cell of a Markdown table or start markup in it."""
    for character in "\\|`*_<>[]":
        text = text.replace(character, "\\" + character)
    return text


def _condition(sampling: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what the pairs were conditioned on, None if they were not."""
    if "where" not in sampling:
        return None
    return {
        "code": _code(sampling["where"]),
        "share": _percent(sampling["share"], decimals=3),
        "people": f"{sampling['people']:,.0f}",
    }


def _code(text: str) -> str:
    """Return text as a Markdown code span, which nothing in it can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    edge = " " if longest else ""
    return f"{fence}{edge}{' '.join(text.split())}{edge}{fence}"


def _percent(share: float, *, decimals: int = 1) -> str:
    """Format a bound as a percentage, rounded up."""
    scale = 10**decimals
    return f"{math.ceil(100 * scale * share - 1e-9) / scale:g} %"


def _significant(number: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(number)))
    scale = 10**digits
    return f"{math.ceil(number * scale - 1e-9) / scale:,.{digits}f}"
