#!/usr/bin/env python3
"""Makes the golden runs: TRL itself, on tiny models, written down number by number.

Usage  make_golden.py                  models, data and every run, anew
       make_golden.py NAME ...         only these ("models" and "data" are names too)
       make_golden.py --check NAME ... remake in a temporary folder, compare with what is committed,
                                       exit 1 when a number differs
       make_golden.py --random N       the same for N runs taken by chance
       make_golden.py --noise NAME ... the same with the other attention code of transformers: what
                                       differs then is float32 rounding, the floor of any tolerance
       Needs the environment of tests/peers/setup.sh.
A run  tests/golden/<run>/
         config.json                   the run in Attune's keys (TRL's and PEFT's names); this
                                       program drives TRL by the very same keys
         init_adapter/                 the PEFT adapter at step 0, for both sides (A is random)
         expect.json                   rows: token ids and log-probs of every row before step 1;
                                       steps: all that TRL logged, unrounded; norms of the update
         final_adapter.safetensors     the adapter after the last step
         final_model/                  instead, after full fine-tuning
Why    float32 on the CPU, rows in file order, no dropout, no checkpointing: nothing is left to
       chance but rounding. Rows that TRL drops stand in expect.json with "dropped": true. The
       learning rate is high so that rewards stand well above the rounding of the log-probs.
"""

import argparse
import json
import logging
import math
import os
import random
import shutil
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
os.environ.update(TRL_EXPERIMENTAL_SILENCE="1")
os.environ.update(TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1", CUDA_VISIBLE_DEVICES="")

import datasets  # noqa: E402
import peft  # noqa: E402
import peft.optimizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from trl.experimental.cpo import CPOConfig, CPOTrainer  # noqa: E402
from trl.experimental.orpo import ORPOConfig, ORPOTrainer  # noqa: E402
from trl.experimental.tpo import TPOConfig, TPOTrainer  # noqa: E402

import golden_test  # noqa: E402
from golden_data import build_data  # noqa: E402
from golden_models import MODELS, SHARD_BYTES, build_model, write_json  # noqa: E402
from golden_runs import RUNS, dpo  # noqa: E402
from golden_samples import SAMPLED, make_sampled, runs, sample_records  # noqa: E402

RUNS = {**RUNS, **runs(dpo)}
HERE = Path(__file__).resolve().parent
warnings.filterwarnings("ignore", category=FutureWarning)
transformers.utils.logging.disable_progress_bar()
logging.getLogger("trl").setLevel(logging.ERROR)
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# How far a run that is made again may lie from the committed one: a fifth of what golden_test.py holds the
# engine to, and what it adds near zero. Rounding alone makes up to 0.27 of that: most of all 63 runs,
# made again with the same code, with the other attention (--noise), and on one thread without vector
# instructions (ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41):
# rows 5.4e-6 of 2e-5, steps 5.2e-5 of 2e-4 (gradient norms, rewards), final state 3.8e-4 of 2e-3.
SHARE = 0.2
PARTS = {  # of config.json and expect.json: relative, absolute
    "config": (0.0, 0.0),
    "rows": (SHARE * golden_test.ROWS, golden_test.ROWS_NEAR_ZERO),
    "steps": (SHARE * golden_test.STEPS, golden_test.STEPS_NEAR_ZERO),
    "update_norm": (SHARE * golden_test.UPDATE, 0.0),
}
UPDATE = SHARE * golden_test.UPDATE  # distance of two final states, of the update's norm
SEEDED_BY_PLACE = 29  # runs
# Keys that say how to run, not what is computed: passed to neither or set for TRL below.
NOT_FOR_TRL = {
    "preset", "method", "model_name_or_path", "train_dataset", "adapter_name_or_path",
    "adapter_start", "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules",
    "ref_model_name_or_path", "reward_token",
    "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps",
    "rollouts", "lora_modules_to_save", "loraplus_lr_ratio", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform",
}  # fmt: skip
class RowsOfDPO:
    """A trainer on the ids of the stable one, whose columns the data set has. The experimental trainers'
    tokenizing puts a first token before and an end token behind whatever tokenizer and template say."""

    def tokenize_row(self, feature, model=None):
        prompt = feature["prompt_ids"]
        batch = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            ids = prompt + feature[side + "_ids"]
            labels = [-100] * len(prompt) + feature[side + "_ids"]
            batch[side + "_input_ids"], batch[side + "_labels"] = ids, labels
            batch[side + "_attention_mask"] = [1] * len(ids)
        return batch


class CPO(RowsOfDPO, CPOTrainer):
    pass


class ORPO(RowsOfDPO, ORPOTrainer):
    pass


EXPERIMENTAL = ("cpo", "orpo")  # methods of the experimental trainers
TRAINERS = {
    **SAMPLED,
    "cpo": (CPO, CPOConfig),
    "dpo": (trl.DPOTrainer, trl.DPOConfig),
    "kto": (trl.KTOTrainer, trl.KTOConfig),
    "orpo": (ORPO, ORPOConfig),
    "reward": (trl.RewardTrainer, trl.RewardConfig),
    "sft": (trl.SFTTrainer, trl.SFTConfig),
    "tpo": (TPOTrainer, TPOConfig),
}


class Recorder(transformers.TrainerCallback):
    """Keeps every logged object of a training step; on_log sees the numbers unrounded."""

    def __init__(self):
        self.steps = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            logs.pop("step_time", None)  # of GRPO and RLOO
            self.steps.append({"step": state.global_step, **logs})


class SyncAdapter(transformers.TrainerCallback):
    """TRL's SyncRefModelCallback on the adapter and its copy "ref": TRL refuses adapters there."""

    def __init__(self, config):
        self.steps, self.alpha = config["ref_model_sync_steps"], config["ref_model_mixup_alpha"]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.steps != 0:
            return
        values = dict(model.named_parameters())
        for name, value in values.items():
            if ".ref." in name:
                policy = values[name.replace(".ref.", ".default.")]
                value.data.mul_(1.0 - self.alpha).add_(policy.data, alpha=self.alpha)


def path_of(config, key):
    """Paths in a config are relative to its folder, and every run's folder lies in this one."""
    return Path(os.path.normpath(HERE / "run" / config[key]))


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def seed_of(name):
    """By name, so that runs can be added anywhere; the first ones by their place."""
    place = list(RUNS).index(name)
    return 100 + place if place < SEEDED_BY_PLACE else zlib.crc32(name.encode())


def make_init_adapter(name, config, base, folder):
    """Writes the step-0 adapter: A as PEFT makes it, B zero, or random in dpo_continued; a reward
    model's head is drawn ten times as large as transformers does, so that rewards differ; other
    modules that are saved whole are not what the base has, nor are DoRA's magnitudes the norms."""
    torch.manual_seed(seed_of(name))
    lora = peft.LoraConfig(
        r=config["lora_r"],
        lora_alpha=config["lora_alpha"],
        lora_dropout=config["lora_dropout"],
        target_modules=ALL_LINEAR,
        task_type="SEQ_CLS" if config["method"] == "reward" else "CAUSAL_LM",
        use_dora=config.get("use_dora", False),
        use_rslora=config.get("use_rslora", False),
        rank_pattern=config.get("rank_pattern", {}),
        alpha_pattern=config.get("alpha_pattern", {}),
        layers_to_transform=config.get("layers_to_transform"),
        modules_to_save=config.get("lora_modules_to_save"),
    )
    model = peft.get_peft_model(base, lora)
    for key, p in model.named_parameters():
        if name == "dpo_continued" and "lora_B" in key:
            p.data = 0.1 * torch.randn(p.shape)
        if "score.modules_to_save" in key:
            p.data = 0.2 * torch.randn(p.shape)
        elif "modules_to_save" in key:
            p.data += 0.05 * torch.randn(p.shape)
        if "lora_magnitude_vector" in key:
            p.data *= 1 + 0.1 * torch.randn(p.shape)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    settle_adapter_config(
        folder / "adapter_config.json", path_of(config, "model_name_or_path").name
    )
    return model.unload()


def settle_adapter_config(path, base):
    """No path of this machine, and the target modules in one order (PEFT writes a set)."""
    settings = json.loads(path.read_text())
    settings["base_model_name_or_path"] = base
    settings["target_modules"] = ALL_LINEAR
    write_json(path, settings)


def load_base(config, attention):
    path = path_of(config, "model_name_or_path")
    keys = {"dtype": torch.float32, "attn_implementation": attention}
    if config["method"] == "reward":
        cls = transformers.AutoModelForSequenceClassification
        return cls.from_pretrained(path, num_labels=1, **keys)
    return transformers.AutoModelForCausalLM.from_pretrained(path, **keys)


def load_policy(name, config, run, attention):
    """The model that TRL trains: base plus the committed step-0 adapter, made here when missing."""
    model = load_base(config, attention)
    if not config["use_peft"]:
        return model
    adapter = run / "init_adapter"
    if not adapter.exists():
        model = make_init_adapter(name, config, model, adapter)
    return peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)


def trainer_arguments(config, scratch):
    keys = {k: v for k, v in config.items() if k not in NOT_FOR_TRL}
    keys.update(output_dir=scratch, use_cpu=True, bf16=False, report_to="none", disable_tqdm=True)
    return TRAINERS[config["method"]][1](**keys)


def with_ids_of_dpo(data, config, tokenizer, scratch):
    """The rows with the columns that the stable DPO trainer adds: prompt_ids, chosen_ids, rejected_ids."""
    arguments = trl.DPOConfig(output_dir=scratch, use_cpu=True, bf16=False, report_to="none")
    model = load_base(config, "sdpa")
    trainer = trl.DPOTrainer(
        model=model, args=arguments, train_dataset=data, processing_class=tokenizer
    )
    ids = {row["row"]: row for row in trainer.train_dataset}
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return data.map(lambda row: {name: ids[row["row"]][name] for name in names})


def optimizer_of(config, model, arguments):
    """PEFT's LoRA+ where the run asks for it; else None, and the trainer makes its own."""
    if "loraplus_lr_ratio" not in config:
        return None
    return peft.optimizers.create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=arguments.learning_rate,
        loraplus_lr_ratio=config["loraplus_lr_ratio"],
        loraplus_weight_decay=arguments.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
    )


def reference_of(config):
    """The other model that the run has as its reference, as arguments of a trainer."""
    if "ref_model_name_or_path" not in config:
        return {}
    path = path_of(config, "ref_model_name_or_path")
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return {"ref_model": model}


def make_trainer(config, model, scratch, recorder):
    if config["method"] in SAMPLED:
        return make_sampled(config, model, trainer_arguments(config, scratch), path_of, recorder)
    rows = read_rows(path_of(config, "train_dataset"))
    data = datasets.Dataset.from_list([{"row": i, **row} for i, row in enumerate(rows)])
    cls = TRAINERS[config["method"]][0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(path_of(config, "model_name_or_path"))
    if config["method"] in EXPERIMENTAL:
        data = with_ids_of_dpo(data, config, tokenizer, scratch)
    arguments = trainer_arguments(config, scratch)
    trainer = cls(
        model=model,
        args=arguments,
        optimizers=(optimizer_of(config, model, arguments), None),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[recorder],
        **reference_of(config),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if config.get("sync_ref_model"):
        trainer.add_callback(SyncAdapter(config))
    return trainer, len(rows)


def score(model, ids, mask, temperature=1.0):
    """Log-probs of the masked tokens of one unpadded row (the first token has none)."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double() / temperature
    picked = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    kept = [float(f"{x:.9g}") for x, m in zip(picked.tolist(), mask[1:], strict=True) if m]
    return {"ids": ids, "n_tokens": len(kept), "logp": sum(kept), "token_logps": kept}


def pair_record(model, row, max_length):
    out = {"prompt_tokens": len(row["prompt_ids"])}
    for side in ("chosen", "rejected", *(["reference"] if "reference_ids" in row else [])):
        ids = (row["prompt_ids"] + row[side + "_ids"])[:max_length]
        mask = [i >= len(row["prompt_ids"]) for i in range(len(ids))]
        out[side] = score(model, ids, mask)
    return out


def labelled_record(model, row):
    """A pair of the experimental trainers, which mark a completion by labels."""
    out = {"prompt_tokens": sum(label == -100 for label in row["chosen_labels"])}
    for side in ("chosen", "rejected"):
        mask = [label != -100 for label in row[side + "_labels"]]
        out[side] = score(model, row[side + "_input_ids"], mask)
    return out


def kto_record(model, row, max_length):
    ids = (row["prompt_ids"] + row["completion_ids"])[:max_length]
    mask = [i >= len(row["prompt_ids"]) for i in range(len(ids))]
    return {"label": bool(row["label"]), "completion": score(model, ids, mask)}


def reward_record(model, row):
    """Rewards of both sides, each an unpadded row; read where transformers reads it."""
    out = {}
    for side in ("chosen", "rejected"):
        with torch.no_grad():
            reward = model(input_ids=torch.tensor([row[side + "_ids"]])).logits.item()
        out[side] = {"ids": row[side + "_ids"], "reward": reward}
    return out


def unpacked_trainer(trainer, config, scratch):
    """A trainer with the rows of the data set, where `trainer` has packed ones; it trains nothing."""
    if not config.get("packing"):
        return trainer
    keys = {k: v for k, v in config.items() if not k.startswith("packing")}
    return make_trainer(keys, load_base(config, "sdpa"), scratch, Recorder())[0]


def row_records(trainer, model, config, n_rows):
    """One object a row that is trained on: its line of the data file, the ids, log-probs before step 1;
    and one a line that TRL drops."""
    if config["method"] in SAMPLED:
        return sample_records(trainer, model, score)
    max_length = trainer.args.max_length
    model.eval()
    records = {(i, 0): {"row": i, "dropped": True} for i in range(n_rows)}
    for row in trainer.train_dataset:
        if config["method"] in ("dpo", "tpo"):
            found = pair_record(model, row, max_length)
        elif config["method"] == "reward":
            found = reward_record(model, row)
        elif config["method"] in EXPERIMENTAL:
            found = labelled_record(model, row)
        elif config["method"] == "kto":
            found = kto_record(model, row, max_length)
        else:
            mask = [label != -100 for label in row["labels"]]
            found = {"completion": score(model, row["input_ids"], mask)}
        line = row["row"]
        place = (line, 0 if records[line, 0]["dropped"] else 1)
        records[place] = {"row": line, "dropped": False, **found}
    return list(records.values())


def file_name_of(name):
    """A parameter's name in the file PEFT writes (one adapter, so its name is left out)."""
    return name.replace(".modules_to_save", "").replace(".default.", ".")


def trained_state(model):
    """name -> tensor of everything trainable, as the saved file names it."""
    named = model.named_parameters()
    return {file_name_of(n): p.detach().clone() for n, p in named if p.requires_grad}


def save_final(model, config, run, scratch):
    if not config["use_peft"]:
        shutil.rmtree(run / "final_model", ignore_errors=True)
        model.save_pretrained(run / "final_model", max_shard_size=SHARD_BYTES)
        (run / "final_model" / "generation_config.json").unlink(missing_ok=True)
        return
    model.save_pretrained(scratch, selected_adapters=["default"], save_embedding_layers=False)
    shutil.copyfile(Path(scratch) / "adapter_model.safetensors", run / "final_adapter.safetensors")


def make_run(name, run, attention="sdpa"):
    """Trains one run into the folder `run`; an init_adapter that is there is taken as it is."""
    config = {**RUNS[name], "output_dir": f"../../../.build/golden/{name}"}
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", config)
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as scratch:
        model = load_policy(name, config, run, attention)
        trainer, n_rows = make_trainer(config, model, scratch, recorder)
        before = trained_state(model)
        rows = row_records(unpacked_trainer(trainer, config, scratch), model, config, n_rows)
        trainer.train()
        norms = {k: (v - before[k]).double().norm().item() for k, v in trained_state(model).items()}
        save_final(model, config, run, scratch)
    total = sum(x * x for x in norms.values()) ** 0.5
    expect = {"rows": rows, "steps": recorder.steps, "update_norm": total, "update_norms": norms}
    write_expect(run / "expect.json", expect)


def write_expect(path, expect):
    """JSON with one row or step a line: small, and a changed number is one changed line."""
    parts = []
    for key in ("rows", "steps"):
        lines = ",\n  ".join(json.dumps(x, sort_keys=True) for x in expect[key])
        parts.append(f' "{key}": [\n  {lines}\n ]')
    for key in ("update_norm", "update_norms"):
        parts.append(f' "{key}": {json.dumps(expect[key], sort_keys=True)}')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def differences(path, a, b, absolute):
    """Leaves that differ: (how far beyond `absolute`, relative; path, a, b); other than numbers: inf."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(f"{path}/{key}", a[key], b[key], absolute)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(f"{path}/{i}", x, y, absolute)
    elif isinstance(a, float) and isinstance(b, (int, float)):
        far = abs(a - b) - absolute
        if not far <= 0:
            yield (far / max(abs(a), abs(b)) if math.isfinite(far) else math.inf), path, a, b
    elif a != b:
        yield math.inf, path, a, b


def load_final(run):
    files = sorted((run / "final_model").glob("*.safetensors")) or [
        run / "final_adapter.safetensors"
    ]
    return {k: v.double() for f in files for k, v in load_file(f).items()}


def state_distance(name, other, update):
    """Norm of (remade - committed) final state over that of the update, without one element in FLIPS."""
    a, b = load_final(HERE / name), load_final(other)
    if a.keys() != b.keys():
        return float("inf")
    squares = torch.cat([(a[k] - b[k]).flatten() ** 2 for k in a]).sort().values
    kept = len(squares) - math.ceil(len(squares) / golden_test.FLIPS)
    return squares[:kept].sum().sqrt().item() / update


def remake(name, folder, attention):
    run = folder / name
    if (HERE / name / "init_adapter").exists():
        shutil.copytree(HERE / name / "init_adapter", run / "init_adapter")
    make_run(name, run, attention)
    return run


def read_run(run):
    config, expect = (json.loads((run / f"{what}.json").read_text()) for what in ("config", "expect"))
    return {"config": config, **expect}


def compare_run(name, folder, attention):
    """True when the run, made again, says what is committed; prints how far it is off, and where too far."""
    run = remake(name, folder, attention)
    old, new = read_run(HERE / name), read_run(run)
    state, good, line = state_distance(name, run, old["update_norm"]), True, f"{name}: off by"
    for part, (relative, absolute) in PARTS.items():
        found = sorted(differences(part, old[part], new[part], absolute), reverse=True)
        line += f" {found[0][0] if found else 0:.1e} ({part}),"
        for _, path, a, b in [f for f in found if f[0] > relative][:10]:
            good = False
            print(f"{name}: {path}: committed {a}, remade {b}")
    print(f"{line} {state:.1e} of the update (final state)")
    return good and state <= UPDATE


def is_same(committed, made):
    """The same bytes; of weights the same numbers to 1e-6, as the last bits of torch's random ones depend
    on the processor's vector instructions."""
    if committed.read_bytes() == made.read_bytes():
        return True
    if made.suffix != ".safetensors":
        return False
    a, b = load_file(committed), load_file(made)
    shapes = [{key: value.shape for key, value in file.items()} for file in (a, b)]
    return shapes[0] == shapes[1] and all(torch.allclose(a[k], b[k], rtol=1e-6, atol=1e-6) for k in a)


def compare_files(part, folder):
    """compare_run() for "models" and "data": every file is_same()."""
    build_part(part, folder / part)
    files = [f for f in sorted((folder / part).rglob("*")) if f.is_file()]
    bad = [f for f in files if not is_same(HERE / f.relative_to(folder), f)]
    for f in bad:
        print(f"{part}: {f.relative_to(folder)} differs")
    print(f"{part}: {len(files)} files, {len(bad)} differ")
    return not bad


def build_part(part, folder):
    if part == "data":
        build_data(folder)
    else:
        for name in MODELS:
            shutil.rmtree(folder / name, ignore_errors=True)
            build_model(name, folder / name)


def write_versions():
    modules = (torch, transformers, trl, peft, datasets)
    versions = {m.__name__: m.__version__.split("+")[0] for m in modules}
    versions["python"] = ".".join(map(str, sys.version_info[:2]))
    write_json(HERE / "versions.json", versions)


def make(names):
    for name in names:
        if name in RUNS:
            shutil.rmtree(HERE / name, ignore_errors=True)
            make_run(name, HERE / name)
        else:
            build_part(name, HERE / name)
        print(f"made {name}", flush=True)
    for file in HERE.rglob("*.safetensors"):
        file.chmod(0o644)
    write_versions()


def check(names, attention):
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            same = (
                compare_run(name, Path(folder), attention)
                if name in RUNS
                else compare_files(name, Path(folder))
            )
            good = same and good
    return 0 if good else 1


def main():
    known = ["models", "data", *RUNS]
    parser = argparse.ArgumentParser(description="Golden TRL runs; see the head of this file.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(known))
    parser.add_argument("--check", action="store_true", help="remake and compare; write nothing")
    parser.add_argument("--random", type=int, metavar="N", help="check N runs taken by chance")
    parser.add_argument(
        "--noise", action="store_true", help="compare with the other attention code"
    )
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in known]
    if unknown:
        parser.error(f"unknown run {unknown[0]!r}; known: {' '.join(known)}")
    torch.set_num_threads(2)
    names = random.sample(list(RUNS), args.random) if args.random else args.names or known
    if args.check or args.random or args.noise:
        return check(names, "eager" if args.noise else "sdpa")
    return make(names)


if __name__ == "__main__":
    sys.exit(main())
