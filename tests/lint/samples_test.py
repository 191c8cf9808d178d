"""Samples: the pairs, SFT rows and regression prompts of data/samples are as data/README.md says.

    samples_test.py SOURCE_DIR BUILD_DIR
"""

import hashlib
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

MIN_TRAIN, MIN_EVAL, MIN_TOPICS = 300, 100, 40
MIN_SHAPE = {"multi-turn": 20, "with a system message": 20, "not in English": 10}
MIN_SFT_SHAPE = {"multi-turn": 10, "with a system message": 10, "not in English": 5}
SFT_WORDS = range(20, 56)
REGRESSION_ROWS = 100
GRAM, MAX_SHARED, MAX_LONGER = 5, 0.60, 0.65
HELD_OUT_BELOW = "44e"  # of the hex SHA-256 of a pair's last user message
# Frequent words; an English text has hardly any of the second set.
ENGLISH = set("the and is are i you my your it it's of to for how what do does can should with "
              "that this have they we if when be there's you'll don't".split())
FOREIGN = set("der das und ist nicht ich du wie ein eine den dem mit wenn auf für kann nach oder "
              "zu le les des est et une je que qui pour dans ce vous tu il ne pas sur ou puis mon ma "
              "el los las y es un una de la por para si con se qué cómo lo mi más antes "
              "che è per gli non come di della ho sono posso o os um uma e não da como faço "
              "preciso seu meu".split()) - {"come"}


def normal(text):
    return " ".join(re.findall(r"\w+", text.casefold()))


def words(text):
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.casefold().replace("’", "'"))


def grams(texts):
    """The word 5-grams of some texts, none across two of them."""
    found = set()
    for text in texts:
        row = normal(text).split()
        found.update(tuple(row[i : i + GRAM]) for i in range(len(row) - GRAM + 1))
    return found


def is_english(text):
    row = words(text)
    return sum(w in ENGLISH for w in row) >= sum(w in FOREIGN for w in row)


def unique_keys(items):
    if len(dict(items)) != len(items):
        raise ValueError("a key twice")
    return dict(items)


def read_rows(path, keys, complaints):
    """[(file:line, row)] of the rows that are objects with exactly these keys."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        complaints.append(f"{path.name}: {error}")
        return rows
    for number, line in enumerate(lines, 1):
        where = f"{path.name}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except ValueError as error:
            complaints.append(f"{where}: not valid JSON: {error}")
            continue
        if not isinstance(row, dict) or set(row) != keys:
            complaints.append(f"{where}: not an object with the keys {', '.join(sorted(keys))}")
        elif "topic" in keys and not (isinstance(row["topic"], str) and row["topic"].strip()):
            complaints.append(f"{where}: empty topic")
        else:
            rows.append((where, row))
    return rows


def message_complaint(messages, last):
    """Why these are not messages (system?, user, assistant, ...) ending with `last`, or None."""
    if not isinstance(messages, list) or not messages:
        return "not a list of messages"
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return "a message needs role and content, nothing else"
        if not isinstance(message["content"], str) or not message["content"].strip():
            return "an empty message"
    roles = [m["role"] for m in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if turns != (["user", "assistant"] * len(turns))[: len(turns)] or roles[-1] != last:
        return f"roles out of order: {', '.join(map(str, roles))}"
    return None


def side_complaint(side):
    if not isinstance(side, list) or len(side) != 1:
        return "not one assistant message"
    return message_complaint([{"role": "user", "content": "?"}, *side], "assistant")


def valid_pairs(path, complaints):
    """The pairs of a file whose three parts are well-formed."""
    good = []
    for where, row in read_rows(path, {"topic", "prompt", "chosen", "rejected"}, complaints):
        parts = {"prompt": message_complaint(row["prompt"], "user"),
                 "chosen": side_complaint(row["chosen"]),
                 "rejected": side_complaint(row["rejected"])}
        if any(parts.values()):
            complaints += [f"{where}: {part}: {why}" for part, why in parts.items() if why]
        elif normal(row["chosen"][0]["content"]) == normal(row["rejected"][0]["content"]):
            complaints.append(f"{where}: chosen and rejected are the same text")
        else:
            good.append((where, row))
    return good


def user_texts(messages):
    return [normal(m["content"]) for m in messages if m["role"] == "user"]


def check_shapes(name, conversations, minimum, complaints):
    """How many conversations are multi-turn, have a system message, are not in English."""
    counts = Counter()
    for messages in conversations:
        counts["multi-turn"] += len(user_texts(messages)) > 1
        counts["with a system message"] += messages[0]["role"] == "system"
        counts["not in English"] += not is_english(" ".join(m["content"] for m in messages[-2:]))
    for shape, least in minimum.items():
        if counts[shape] < least:
            complaints.append(f"{name}: {counts[shape]} rows {shape}, at least {least}")
    return counts


def check_split(train, held, complaints):
    """Every prompt once, and on the side that the hash of its last user message names."""
    first = {}
    for where, row in train + held:
        # The question alone: with another system message or other turns it is the same question.
        key = user_texts(row["prompt"])[-1]
        if key in first:
            complaints.append(f"{where}: the prompt of {first[key]} again")
        first.setdefault(key, where)
    for rows, is_held in ((train, False), (held, True)):
        for where, row in rows:
            text = row["prompt"][-1]["content"].encode()
            if (hashlib.sha256(text).hexdigest() < HELD_OUT_BELOW) != is_held:
                complaints.append(f"{where}: belongs to the other side of the split by its hash")


def check_shared(pairs, complaints):
    """No two rows share more than MAX_SHARED of the 5-grams of the shorter one."""
    holders, sizes = defaultdict(list), []
    for number, (_, row) in enumerate(pairs):
        parts = row["prompt"] + row["chosen"] + row["rejected"]
        found = grams(m["content"] for m in parts if m["role"] != "system")
        sizes.append(len(found))
        for gram in found:
            holders[gram].append(number)
    shared = Counter()
    for numbers in holders.values():
        shared.update((a, b) for i, a in enumerate(numbers) for b in numbers[i + 1 :])
    worst = 0.0
    for (a, b), count in shared.items():
        share = count / min(sizes[a], sizes[b])
        worst = max(worst, share)
        if share > MAX_SHARED:
            complaints.append(f"{pairs[b][0]}: shares {share:.0%} of its {GRAM}-grams with "
                              f"{pairs[a][0]}, at most {MAX_SHARED:.0%}")
    return worst


def check_longer(name, pairs, complaints):
    longer = sum(len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"])
                 for _, row in pairs)
    share = longer / max(len(pairs), 1)
    if share > MAX_LONGER:
        complaints.append(f"{name}: chosen is longer in {share:.0%} of the pairs, at most "
                          f"{MAX_LONGER:.0%}")
    return share


def check_pairs(folder, complaints):
    """The training and the held-out pairs; returns both."""
    train = valid_pairs(folder / "tone_train.jsonl", complaints)
    held = valid_pairs(folder / "tone_eval.jsonl", complaints)
    for name, rows, least in (("tone_train", train, MIN_TRAIN), ("tone_eval", held, MIN_EVAL)):
        if len(rows) < least:
            complaints.append(f"{name}: {len(rows)} good pairs, at least {least}")
    topics = {row["topic"] for _, row in train + held}
    if len(topics) < MIN_TOPICS:
        complaints.append(f"tone: {len(topics)} topics, at least {MIN_TOPICS}")
    check_split(train, held, complaints)
    worst = check_shared(train + held, complaints)
    longer = [check_longer(name, rows, complaints)
              for name, rows in (("tone_train", train), ("tone_eval", held))]
    counts = check_shapes("tone", [r["prompt"] + r["chosen"] for _, r in train + held], MIN_SHAPE,
                          complaints)
    print(f"tone: {len(train)} + {len(held)} pairs, {len(topics)} topics, {dict(counts)}; chosen "
          f"longer {longer[0]:.1%} and {longer[1]:.1%}, at most {worst:.0%} of 5-grams shared")
    return train, held


def check_sft(folder, train, held, complaints):
    taken = {text: where for where, row in train + held for text in user_texts(row["prompt"])}
    held_grams = [(where, grams(user_texts(row["prompt"])[-1:])) for where, row in held]
    topics = {row["topic"] for _, row in train + held}
    good = []
    for where, row in read_rows(folder / "sft_train.jsonl", {"topic", "messages"}, complaints):
        why = message_complaint(row["messages"], "assistant")
        if why:
            complaints.append(f"{where}: {why}")
            continue
        good.append(row)
        if row["topic"] not in topics:
            complaints.append(f"{where}: no pair has the topic {row['topic']}")
        for text in user_texts(row["messages"]):
            if text in taken:
                complaints.append(f"{where}: the prompt of {taken[text]} again")
            taken.setdefault(text, where)
            mine = grams([text])
            for other, theirs in held_grams:
                if len(mine & theirs) > MAX_SHARED * min(len(mine), len(theirs)):
                    complaints.append(f"{where}: nearly the held-out prompt of {other}")
        for message in row["messages"]:
            if message["role"] == "assistant" and len(message["content"].split()) not in SFT_WORDS:
                complaints.append(f"{where}: a reply of {len(message['content'].split())} words, "
                                  f"not {SFT_WORDS[0]} to {SFT_WORDS[-1]}")
    counts = check_shapes("sft_train", [row["messages"] for row in good], MIN_SFT_SHAPE, complaints)
    print(f"sft: {len(good)} rows, {len({r['topic'] for r in good})} topics, {dict(counts)}")


def rule_complaint(rule, prompt):
    """Why a rule is malformed, or passes an empty reply or one that repeats the prompt; or None."""
    if not isinstance(rule, dict) or len(rule) != 1:
        return "a rule has one key"
    (kind, value), = rule.items()
    if kind == "contains_any":
        if not isinstance(value, list) or not value:
            return "contains_any needs a list"
        if not all(isinstance(v, str) and v.strip() for v in value):
            return "contains_any needs non-empty strings"
        hit = any(v.casefold() in prompt.casefold() for v in value)
    elif kind == "regex":
        if not isinstance(value, str) or not value:
            return "regex needs a non-empty string"
        try:
            pattern = re.compile(value)
        except re.error as error:
            return f"regex does not compile: {error}"
        hit = pattern.search("") or pattern.search(prompt)
    else:
        return f"unknown rule {kind}"
    return "the rule passes an empty reply or the prompt itself" if hit else None


def check_regression(folder, complaints):
    rows = read_rows(folder / "regression.jsonl", {"prompt", "rule"}, complaints)
    if len(rows) != REGRESSION_ROWS:
        complaints.append(f"regression: {len(rows)} rows, not {REGRESSION_ROWS}")
    seen, kinds = {}, Counter()
    for where, row in rows:
        why = message_complaint(row["prompt"], "user")
        why = why or rule_complaint(row["rule"], row["prompt"][-1]["content"])
        if why:
            complaints.append(f"{where}: {why}")
            continue
        key = row["prompt"][-1]["content"].casefold()  # signs count: 2 + 2 is not 2 - 2
        if key in seen:
            complaints.append(f"{where}: the prompt of {seen[key]} again")
        seen.setdefault(key, where)
        kinds.update(row["rule"].keys())
    print(f"regression: {len(rows)} rows, {dict(kinds)}")


def main():
    folder = Path(sys.argv[1]) / "data" / "samples"
    complaints = []
    train, held = check_pairs(folder, complaints)
    check_sft(folder, train, held, complaints)
    check_regression(folder, complaints)
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
