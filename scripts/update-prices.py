#!/usr/bin/env python3
"""Regenerates data/prices.json from a full price list, and says what changed.

    scripts/update-prices.py SOURCE [--check]

SOURCE is a JSON file {"generated_from": {...}, "models": {"provider/model": {...}}}, all rates in US dollars per single
token unless the field's name says otherwise. Kept of every model: its prices, `caps`, `mode`, `max_output` and `match`;
one model a line, sorted, numbers in their shortest form, so that a review reads like a price list. What changed against
the present file goes to standard output: added (+), removed (-), changed (~). `--check` writes nothing and fails if the
file would change. build.rs turns the result into the table inside the Worker, and refuses a field it does not know.
"""

import argparse
import json
import pathlib
import sys

TARGET = pathlib.Path(__file__).resolve().parent.parent / "data" / "prices.json"
DROPPED = {"source", "max_input"}
FIRST = ["input", "output", "cache_read", "cache_write", "cache_write_1h", "cache_write_12h", "reasoning", "input_audio",
         "output_audio"]
LAST = ["tiers", "batch", "flex", "priority", "off_peak", "mode", "max_output", "caps", "match"]
# The mock provider's models are no one's product; they cost something so that a cost can be seen.
OURS = {"mock/mock": {"input": 1e-06, "output": 2e-06, "mode": "chat", "match": ["^mock-"]}}
NOT_PRICES = {"mode", "max_output", "caps", "match"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source", type=pathlib.Path)
    arguments.add_argument("--check", action="store_true")
    options = arguments.parse_args()

    source = json.loads(options.source.read_text())
    models = source["models"] | OURS
    new = {name: reduced(models[name]) for name in sorted(models)}
    text = rendered(source["generated_from"], new)
    present = TARGET.read_text() if TARGET.exists() else '{"models": {}}'
    report(json.loads(present)["models"], new)
    if options.check:
        sys.exit("data/prices.json is not what this source gives" if text != present else None)
    TARGET.write_text(text)


def reduced(model):
    return ordered({field: value for field, value in model.items() if field not in DROPPED})


def ordered(value):
    """Prices first, in the order a price page has them; the rest by name."""
    if isinstance(value, list):
        return [ordered(each) for each in value]
    if not isinstance(value, dict):
        return value
    rank = {field: place for place, field in enumerate(["above", *FIRST])}
    rank |= {field: 1000 + place for place, field in enumerate(LAST)}
    return {field: ordered(value[field]) for field in sorted(value, key=lambda field: (rank.get(field, 500), field))}


def rendered(generated_from, models):
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(model)}" for name, model in models.items())
    return f'{{"generated_from": {json.dumps(generated_from)},\n"models": {{\n{lines}\n}}}}\n'


def report(old, new):
    added, removed, both = new.keys() - old.keys(), old.keys() - new.keys(), new.keys() & old.keys()
    lines = [(name, f"+ {name} {brief(new[name])}") for name in added]
    lines += [(name, f"- {name} {brief(old[name])}") for name in removed]
    for name in both:
        for field in sorted(old[name].keys() | new[name].keys()):
            before, after = old[name].get(field), new[name].get(field)
            if before != after and field not in NOT_PRICES:
                lines.append((name, f"~ {name} {field}: {shown(before)} -> {shown(after)}"))
    for _, line in sorted(lines):
        print(line)
    repriced = {name for name, line in lines if line.startswith("~")}
    print(f"{len(added)} added, {len(removed)} removed, {len(repriced)} with other prices, {len(new)} models")


def brief(model):
    return " ".join(f"{field}={model[field]!r}" for field in ("input", "output") if field in model)


def shown(value):
    return "none" if value is None else json.dumps(value)


if __name__ == "__main__":
    main()
