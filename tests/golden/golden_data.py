"""The rows of the golden runs: a toy shop dialogue, polite (chosen) against curt (rejected).

What   build_data(folder) writes JSONL files, ASCII only, one row a line:
         pairs.jsonl                 24 preference rows, explicit prompt, conversational
         pairs_implicit.jsonl        the same dialogues, the prompt inside both sides
         pairs_plain.jsonl           24 preference rows of plain strings, explicit prompt
         pairs_margin.jsonl          the same with a column "margin" of numbers, some below 0
         triples.jsonl               24 rows with a third side "reference", conversational
         triples_implicit.jsonl      the same, the prompt inside all three sides
         triples_plain.jsonl         the same of plain strings
         labelled.jsonl              20 rows of {"prompt", "completion", "label"}, conversational; those
                                     of the third micro-batch of 4 are all desirable
         sft_messages.jsonl          16 rows of {"messages"}
         sft_prompt_completion.jsonl 16 rows of {"prompt", "completion"}, conversational
Why    Lengths differ from row to row (1 to 12 words a side, up to 4 messages), some prompts start
       with a system message, some hold an earlier exchange, and the plain prompts end in awkward
       ways: in a space or inside a word (the last prompt token then merges with the completion's
       first, and the boundary moves), with a colon, or with a newline.
         rollouts.jsonl              6 lines of {"prompt", "completions", "rewards"}, conversational, 4
                                     samples each; two rewards, some null, all of line 3 equal; samples
                                     that are lists of ids have no end token
         rollouts_old.jsonl          the same with ids alone and made-up old_logps
         rollouts_two.jsonl          8 lines with two samples each, ids and texts of many lengths; two rewards,
                                     whose sums decide
         rollouts_even.jsonl         the same with six ids each: TRL's sums over padding have none to go wrong on
"""

import json

SYSTEM = "be kind"

# question, polite answer, curt answer
TURNS = [
    ("where is the tea", "it is on the top shelf, dear friend", "look there"),
    ("is the shop open", "yes, please come in", "no idea, read the sign on the door"),
    ("can I pay by card", "of course you can", "cash"),
    ("the milk is bad", "I am so sorry, here is a new one for you", "so what"),
    ("who are you", "I am here to help", "none of your business, go away now"),
    ("how much is it", "it costs 12 coins, thank you", "12"),
    ("do you sell bread", "yes we do, fresh today", "do I look like a baker"),
    ("help", "gladly, please tell me more", "what now"),
    ("I lost my bag", "let us look for it, I am with you", "not my bag, not my problem at all"),
    ("when do you close", "we close at 6, take your time", "at 6, be fast"),
    ("this is too big", "we can find a better one for you", "then do not buy it"),
    ("my tea is cold", "please let me warm it", "drink it"),
    ("is it far", "not at all, 5 minutes on foot", "far"),
    ("can you wait", "gladly", "I do not wait for people like you, come on"),
    ("I want 3 red ones", "3 red ones, here you are, thank you", "take them"),
    ("do you have a pen", "please take this one", "no"),
    ("it does not work", "I am sorry, let us try it again", "you broke it, you pay"),
    ("may I sit here", "yes, please do", "if you must"),
    ("what is new", "there is fresh bread and red tea today", "nothing"),
    ("thank you", "it was a joy to help you", "fine"),
    ("is this yours", "yes, thank you so much", "give it here at once, it is mine"),
    ("I am late", "no problem, we are glad you came", "again"),
    ("one more please", "of course, here you are", "that is one too many"),
    ("good day", "good day to you, dear friend", "what do you want"),
]

# How a plain prompt ends, by row: each changes how the boundary to the completion tokenises.
PLAIN_ENDS = [
    ("Q: {q}\nA:", " {a}"),
    ("Q: {q}\nA: ", "{a}"),
    ("Q: {q}?\nA:\n", "{a}."),
    ("{q}. I sa", "y: {a}"),
]


def message(role, content):
    return {"role": role, "content": content}


def prompt_messages(i):
    """The prompt of row i: every fourth has a system message, every sixth an earlier exchange."""
    out = [message("system", SYSTEM)] if i % 4 == 1 else []
    if i % 6 == 2:
        question, polite, _ = TURNS[(i + 5) % len(TURNS)]
        out += [message("user", question), message("assistant", polite)]
    return out + [message("user", TURNS[i][0])]


def conversational_pair(i):
    _, polite, curt = TURNS[i]
    return {
        "prompt": prompt_messages(i),
        "chosen": [message("assistant", polite)],
        "rejected": [message("assistant", curt)],
    }


def implicit_pair(i):
    row = conversational_pair(i)
    return {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}


def plain_pair(i):
    question, polite, curt = TURNS[i]
    prompt, completion = PLAIN_ENDS[i % len(PLAIN_ENDS)]
    return {
        "prompt": prompt.format(q=question),
        "chosen": completion.format(a=polite),
        "rejected": completion.format(a=curt),
    }


def gold(i):
    """The third side of row i: what another row says politely, twice in every third row."""
    polite = TURNS[(i + 7) % len(TURNS)][1]
    return f"{polite}. {polite}" if i % 3 == 0 else polite


def triple(i):
    return {**conversational_pair(i), "reference": [message("assistant", gold(i))]}


def implicit_triple(i):
    row = triple(i)
    return {side: row["prompt"] + row[side] for side in ("chosen", "rejected", "reference")}


def plain_triple(i):
    return {**plain_pair(i), "reference": PLAIN_ENDS[i % len(PLAIN_ENDS)][1].format(a=gold(i))}


def labelled(i):
    _, polite, curt = TURNS[i]
    label = i % 3 != 1 or 8 <= i < 12
    return {
        "prompt": prompt_messages(i),
        "completion": [message("assistant", polite if label else curt)],
        "label": label,
    }


def margin_pair(i):
    return {**plain_pair(i), "margin": 0.25 * (i % 5) - 0.25}


def sft_messages(i):
    return {"messages": prompt_messages(i) + [message("assistant", TURNS[i][1])]}


def sft_prompt_completion(i):
    return {"prompt": prompt_messages(i), "completion": [message("assistant", TURNS[i][1])]}


def rollout(i):
    """Samples 1 and 3 are ids, without an end token in every other row; of row 4 sample 2 has no reward."""
    question, polite, curt = TURNS[i]
    cut = [5 + (7 * i + 3 * k) % 90 for k in range(4 + i)] + ([2] if i % 2 else [])
    completions = [polite, cut, curt, cut[: 3 + i % 3]]
    good = [1.0, 0.25 * i, 0.0, 0.5]
    short = [round(1 / (1 + len(c)), 3) for c in completions]
    if i == 2:
        good, short = [0.5] * 4, [0.25] * 4
    if i == 4:
        good[2] = short[2] = short[1] = None
    return {
        "prompt": prompt_messages(i),
        "completions": completions,
        "rewards": {"good": good, "short": short},
    }


def rollout_old(i):
    completions = [[3 + (11 * i + 5 * k + s * s) % 180 for k in range(3 + s + i % 3)] for s in range(4)]
    for s in range(1, 4):
        completions[s][-1] = 2
    old = [[-round(5.1 + 0.09 * ((k + s + i) % 5), 2) for k in range(len(c))] for s, c in enumerate(completions)]
    return {
        "prompt": PLAIN_ENDS[i % 3][0].format(q=TURNS[i][0]),
        "completions": completions,
        "rewards": [round(0.3 * ((i + 2 * s) % 5), 1) for s in range(4)],
        "old_logps": old,
    }


def rollout_two(i):
    """Of every other line the first sample is ids; some of them without an end token."""
    question, polite, curt = TURNS[i]
    ids = [5 + (7 * i + 3 * k) % 90 for k in range(3 + i)] + ([2] if i % 4 else [])
    return {
        "prompt": prompt_messages(i),
        "completions": [curt if i % 2 else ids, polite],
        "rewards": {"good": [0.3 * (i % 3), 0.5], "short": [0.125 * (i % 5), 0.25]},
    }


def rollout_even(i):
    completions = [[3 + (11 * i + 5 * k + 37 * s) % 180 for k in range(6)] for s in range(2)]
    completions[i % 2][-1] = 2
    return {
        "prompt": prompt_messages(i),
        "completions": completions,
        "rewards": [round(0.2 * (i % 4), 1), 0.35],
    }


FILES = {
    "labelled.jsonl": (labelled, 20),
    "pairs.jsonl": (conversational_pair, 24),
    "pairs_implicit.jsonl": (implicit_pair, 24),
    "pairs_plain.jsonl": (plain_pair, 24),
    "pairs_margin.jsonl": (margin_pair, 24),
    "rollouts.jsonl": (rollout, 6),
    "rollouts_even.jsonl": (rollout_even, 8),
    "rollouts_old.jsonl": (rollout_old, 6),
    "rollouts_two.jsonl": (rollout_two, 8),
    "triples.jsonl": (triple, 24),
    "triples_implicit.jsonl": (implicit_triple, 24),
    "triples_plain.jsonl": (plain_triple, 24),
    "sft_messages.jsonl": (sft_messages, 16),
    "sft_prompt_completion.jsonl": (sft_prompt_completion, 16),
}


def build_data(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, n_rows) in FILES.items():
        lines = [json.dumps(make(i)) + "\n" for i in range(n_rows)]
        (folder / name).write_text("".join(lines))
