#!/usr/bin/env python3
"""Losses of one's own, "loss_type": "file:...": a file of losses/ trains as the built-in one does, byte for
byte; the examples train; what is wrong in a file is told with its line or its numbers before step 0.
own_loss_test.py SOURCE_DIR BUILD_DIR
"""
# labels: gpu
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import harness
from harness import BUILD, SOURCE

LOSSES = SOURCE / "losses"
PAIR = """#include "prelude.h"
PAIR_LOSS(mine)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    pair_out o;

    o.loss = -log_sigmoid(x);
    o.d_chosen = -p.beta * sigmoid(-x);
    o.d_rejected = -o.d_chosen;
    return o;
}
"""
KINK = """PAIR_LOSS(kink) /* exact where a step lies across it evenly */
{
    real x = s.score_chosen - s.score_rejected;

    return pair_out(x > 0.0 ? x : -x, x > 0.0 ? 1.0 : -1.0, x > 0.0 ? -1.0 : 1.0);
}
"""


class Failure(Exception):
    pass


def need(true, *what):
    if not true:
        raise Failure(" ".join(str(w) for w in what))


def run(folder, name, method="dpo", given=None, cwd=None, flags=()):
    config = {"model_name_or_path": str(SOURCE / "tests/golden/models/tiny_llama"),
              "train_dataset": str(SOURCE / "tests/golden/data/pairs.jsonl"),
              "preset": "trl", "use_peft": True, "lora_r": 4, "learning_rate": 0.02, "max_steps": 2,
              "per_device_train_batch_size": 4, "logging_steps": 1, "seed": 1, "output_dir": name,
              **(given or {})}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    done = harness.run(method, path, *flags, code=None, cwd=cwd)
    errors = [line for line in done.stderr.splitlines() if line.startswith("attune: error: ")]
    need(len(errors) == (done.returncode != 0), name, "one line of error wanted:", done.stderr)
    return done.returncode, errors[0] if errors else "", folder / name


def written(out):
    return [(out / name).read_bytes() for name in ("metrics.jsonl", "adapter_model.safetensors")]


def trains_as_built_in(folder):
    (folder / "sigmoid.h").write_bytes((LOSSES / "sigmoid.h").read_bytes())
    cases = [("dpo", "sigmoid", {}),
             ("dpo", ["sigmoid", "hinge"], {"loss_weights": [0.75, 2], "f_divergence_type": "forward_kl"})]
    for i, (method, loss, more) in enumerate(cases):
        own = ["file:sigmoid.h", "hinge"] if isinstance(loss, list) else f"file:{loss}.h"
        code, error, built_in = run(folder, f"built_in{i}", method, {"loss_type": loss, **more})
        need(code == 0, error)
        # the file lies beside the configuration, wherever the command is called
        code, error, mine = run(folder, f"own{i}", method, {"loss_type": own, **more}, cwd="/")
        need(code == 0, error)
        need(written(built_in) == written(mine), loss, "as a file gives other metrics or weights")


def comments_include_nothing(folder):
    (folder / "plain.h").write_text(PAIR)
    (folder / "noted.h").write_text('/* not\n#include "loss.h"\n#include "prelude.h"\n#include "args.h" */\n'
                                    '// #include "loss.h"\n' + PAIR)
    outs = []
    for name in ("plain", "noted"):
        code, error, out = run(folder, name, given={"loss_type": f"file:{name}.h"})
        need(code == 0, name, code, error)
        outs.append(written(out))
    need(outs[0] == outs[1], "comments change what a loss gives")


def is_recorded(folder):
    out = folder / "own0"
    text = (LOSSES / "sigmoid.h").read_bytes()
    record = json.loads((out / "run.json").read_text())
    need((out / "sigmoid.h").read_bytes() == text, "output_dir has no copy of the file")
    need(record["config"]["loss_type"]["value"] == ["file:sigmoid.h"], record["config"]["loss_type"])
    need(record["digests"]["sigmoid.h"] == hashlib.blake2b(text, digest_size=32).hexdigest(),
         "run.json has another digest")


def resumes_with_the_same_file_only(folder):
    (folder / "mine.h").write_text(PAIR)
    given = {"loss_type": "file:mine.h", "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    code, error, out = run(folder, "resumed", given=given)
    need(code == 0, error)
    whole = written(out)
    for name in ("result.json", "run.json"):
        (out / name).unlink()  # as if it had been killed behind its checkpoint
    (folder / "mine.h").write_text(PAIR + "/* changed */\n")
    resume = {**given, "resume_from_checkpoint": True}
    code, error, _ = run(folder, "resumed", given=resume)
    need(code == 77 and "another mine.h" in error, code, error)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/mine.h").write_text(PAIR)
    (folder / "mine.h").unlink()
    code, error, _ = run(folder, "resumed", given={**resume, "loss_type": "file:elsewhere/mine.h"})
    need(code == 0, error)
    need(written(out) == whole, "a run that went on differs")


def examples_train(folder):
    for i, (method, name, more) in enumerate([("dpo", "savage", {"use_weighting": False}),
                                              ("cpo", "mean_hinge", {"simpo_gamma": 1.0})]):
        code, error, out = run(folder, f"example{i}", method,
                               {"loss_type": f"file:{LOSSES}/examples/{name}.h", **more})
        need(code == 0, name, error)
        loss = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        need(loss[-1] != loss[0], name, "does not move:", loss)
    savage = json.loads((folder / "example0/metrics.jsonl").read_text().splitlines()[0])["loss"]
    need(abs(savage - 0.25) < 1e-6, "savage starts at", savage, "not at 1/4")


def refused(folder, name, text, code, *words, method="dpo", more=None):
    (folder / f"{name}.h").write_text(text)
    got, error, out = run(folder, name, method, {"loss_type": f"file:{name}.h", **(more or {})})
    need(got == code and all(word in error for word in words), name, "should end with", code, words, "not", got,
         error)
    need(not (out / "metrics.jsonl").exists(), name, "began")


def faults_are_told(folder):
    refused(folder, "sign", PAIR.replace("-p.beta", "p.beta"), 65, "sign.h", "d_chosen is not the derivative",
            "score_chosen ", "n_chosen ", "the file gives ", "differences of its loss -")
    refused(folder, "side", PAIR.replace("-o.d_chosen", "o.d_chosen"), 65, "d_rejected is not the derivative")
    refused(folder, "share", PAIR.replace("sigmoid(-x);", "sigmoid(-x) * 0.98;"), 65, "is not the derivative")
    refused(folder, "flat", PAIR.replace("-log_sigmoid(x)", "0.0").replace("-p.beta * sigmoid(-x)", "1e-9"), 65,
            "is not the derivative")
    refused(folder, "naive", PAIR.replace("-log_sigmoid(x)", "log(1.0 + exp(-x))"), 65, "is not finite", "softplus",
            more={"beta": 10.0})
    refused(folder, "syntax", PAIR.replace("real x", "reel x"), 65,
            "loss_type file:syntax.h: syntax.h:4: 'reel' : undeclared identifier")
    need(run(folder, "syntax", given={"loss_type": "file:syntax.h"})[1].endswith("identifier"), "more is said")
    bare = PAIR.split("\n", 1)[1]
    refused(folder, "name", bare.replace("sigmoid(-x)", "sigmund(-x)"), 65, "name.h:7: ", "sigmund")
    refused(folder, "other", '/* a\n#include "x.h" */\n#include "other.h"\n' + PAIR, 65, "other.h:3: ", "prelude.h")
    refused(folder, "words", "#define LOSS_READS logps lengths\n" + PAIR, 65, "words.h:1: ", "lengths")
    refused(folder, "margin", PAIR.replace("(s.", "(p.margin + s."), 65, "margin.h:4: p.margin", "reward models")
    refused(folder, "row", PAIR.replace("PAIR_LOSS", "ROW_LOSS"), 65, "PAIR_LOSS")
    refused(folder, "none", "int x;\n", 65, "no PAIR_LOSS")
    for method, losses in ("orpo", "orpo"), ("kto", "apo_zero_unpaired or kto"), ("sft", "dft or nll"), \
            ("reward", "bradley_terry"):
        refused(folder, "method", PAIR, 2, f"does not fit {method}, which takes {losses}; ", "fit cpo, dpo", method=method)
    refused(folder, "knob", PAIR, 2, "simpo_gamma is not read", "p.simpo_gamma", method="cpo",
            more={"simpo_gamma": 1.0})
    code, error, _ = run(folder, "missing", given={"loss_type": "file:nosuch.h"})
    need(code == 66 and "nosuch.h" in error, code, error)
    code, error, _ = run(folder, "suffix", given={"loss_type": "file:sigmoid.glsl"})
    need(code == 2 and ".h" in error, code, error)
    refused(folder, "twice", PAIR, 2, "names file:./twice.h twice", more={"loss_type": ["file:twice.h",
                                                                                  "file:./twice.h"]})


def kinks_pass(folder):
    (folder / "kink.h").write_text(KINK)
    code, error, _ = run(folder, "kink", "plan", {"loss_type": "file:kink.h", "method": "dpo"})
    need(code == 0, error)


def main():
    built = subprocess.run(["grep", "-q", "^glslang_DIR:PATH=/", BUILD / "CMakeCache.txt"], check=False)
    if built.returncode != 0:
        print("this build has no shader compiler (glslang-dev)")
        return 125
    with tempfile.TemporaryDirectory() as folder:
        try:
            for test in (trains_as_built_in, comments_include_nothing, is_recorded, resumes_with_the_same_file_only, examples_train,
                         faults_are_told, kinks_pass):
                test(pathlib.Path(folder))
        except Failure as failure:
            print(f"{test.__name__}: {failure}")
            return 1
    print("losses of one's own: ok")
    return 0


sys.exit(main())
