#!/usr/bin/env python3
"""DPO steps of TRL and of Attune on the same model, rows and machine, in one run.

  side_by_side.py ATTUNE PEERS_FOLDER [--words 60] [--prompt_words 60] [--steps 4] [--batch 4]
                  [--dtype float32] [--shape smollm2|tiny|0.5b|1.5b] [--gpu]
Replies have --words words, prompts as many or --prompt_words.
Needs the environment of tests/peers/setup.sh, or with --python PROGRAM another one with torch,
transformers, trl, peft and datasets. TRL: LoRA r=16 on all linear layers, its defaults otherwise (with
sdpa), without gradient checkpointing; the first step is left out on both sides. Attune's first epoch
computes the reference too; later epochs take it from the cache, and both are printed.
smollm2 is the real model of PEERS_FOLDER; the other shapes are Qwen2's with random weights in bfloat16,
made here, with a small tokenizer. --gpu: TRL on torch's accelerator and memory of the device; Attune
takes the first device that `attune devices` lists.
"""
import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile

WORDS = ("the a we you it day time work home road light water paper table window question answer "
         "small large early late warm plain open clear simple often never always here there under "
         "over walk write read carry bring find keep leave begin end turn hold send call help").split()


SHAPES = {"tiny": (64, 176, 2, 4, 2), "0.5b": (896, 4864, 24, 14, 2), "1.5b": (1536, 8960, 28, 12, 2)}


def make_model(folder, shape, vocabulary, dtype):
    """Qwen2 of this shape (width, feed-forward width, layers, heads, kv heads) with random weights."""
    import shutil
    import torch
    import transformers
    width, inner, layers, heads, groups = shape
    config = transformers.Qwen2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, tie_word_embeddings=True)
    torch.manual_seed(0)
    transformers.Qwen2ForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer = pathlib.Path(__file__).parent.parent / "golden/models/tiny_qwen2"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)


def rows(path, n, words, prompt_words=None):
    rng = random.Random(3)
    text = lambda k: " ".join(rng.choices(WORDS, k=k)) + "."
    with open(path, "w") as out:
        for _ in range(n):
            out.write(json.dumps({"prompt": [{"role": "user", "content": text(prompt_words or words)}],
                                  "chosen": [{"role": "assistant", "content": text(words)}],
                                  "rejected": [{"role": "assistant", "content": text(words)}]}) + "\n")


def run_trl(model, data, arguments):
    """Child process: prints seconds a step and peak memory as JSON."""
    import time
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    import datasets
    import peft
    import torch
    import transformers
    import trl
    torch.set_num_threads(os.cpu_count())
    times = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.begin = time.perf_counter()

        def on_step_end(self, *_, **__):
            times.append(time.perf_counter() - self.begin)

    config = trl.DPOConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=arguments.batch,
                           max_steps=arguments.steps, report_to="none", use_cpu=not arguments.gpu, logging_steps=1,
                           gradient_checkpointing=False, save_strategy="no", max_length=2048,
                           bf16=arguments.dtype == "bfloat16", precompute_ref_log_probs=arguments.cached)
    trainer = trl.DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.bfloat16 if arguments.gpu else torch.float32, attn_implementation="sdpa"),
        args=config, train_dataset=datasets.load_dataset("json", data_files=str(data), split="train"),
        processing_class=transformers.AutoTokenizer.from_pretrained(model),
        peft_config=peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()])
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if arguments.gpu:
        peak = torch.cuda.max_memory_allocated()
    print("RESULT " + json.dumps({"steps": times, "peak": peak}))


def run_attune(binary, model, data, out, arguments):
    n = arguments.steps * arguments.batch
    run = subprocess.run([binary, "dpo", "--model_name_or_path", str(model), "--train_dataset", str(data),
                          "--output_dir", str(out), "--preset", "trl", "--use_peft", "true",
                          "--lora_target_modules", "all-linear", "--lora_dropout", "0",
                          "--per_device_train_batch_size", str(arguments.batch), "--max_length", "2048",
                          "--num_train_epochs", "2", "--learning_rate", "1e-5", "--quiet"],
                         capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    timing = [json.loads(line) for line in (out / "timing.jsonl").read_text().splitlines()]
    times = [line["step_time_s"] for line in timing]
    record = json.loads((out / "run.json").read_text())
    half = n // arguments.batch
    return {"first": times[1:half], "cached": times[half:], "device": record["device"]["name"],
            "peak": timing[-1]["device_bytes"] if arguments.gpu else record["host_peak_bytes"],
            "tokens": record["tokens_computed"] / len(times), "given": record["tokens_given"] / len(times)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attune")
    parser.add_argument("peers", type=pathlib.Path)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--prompt_words", type=int)
    parser.add_argument("--steps", type=int, default=4, help="at least 2: the first of a run is not counted")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--cached", action="store_true", help="TRL precomputes the reference too")
    parser.add_argument("--shape", default="smollm2", choices=["smollm2", *SHAPES])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--python", help="of TRL (default: PEERS_FOLDER's)")
    parser.add_argument("--make", help="only make the model of --shape in this folder")
    parser.add_argument("--rows", help="only write the rows to this file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        return make_model(arguments.make, SHAPES[arguments.shape], 151936, "bfloat16")
    if arguments.rows:
        return rows(arguments.rows, arguments.steps * arguments.batch, arguments.words, arguments.prompt_words)
    if arguments.child:
        return run_trl(*arguments.child, arguments)
    if arguments.steps < 2:
        parser.error("--steps is at least 2: the first step of a run is not counted")
    python = arguments.python or str(arguments.peers / "bin/python")
    hf = arguments.peers / "SmolLM2-135M-Instruct-hf"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = folder / "rows.jsonl"
        rows(data, arguments.steps * arguments.batch, arguments.words, arguments.prompt_words)
        base = arguments.peers / "SmolLM2-135M-Instruct.Q4_1.gguf"
        if arguments.shape != "smollm2":
            base = hf = folder / "model"
            subprocess.run([python, __file__, *sys.argv[1:], "--make", str(hf)], check=True, stdout=subprocess.DEVNULL)
        ours = run_attune(arguments.attune, base, data, folder / "out", arguments)
        trl = subprocess.run([python, __file__, *sys.argv[1:], "--child", str(hf), str(data)],
                             capture_output=True, text=True)
        line = [x for x in trl.stdout.splitlines() if x.startswith("RESULT ")]
        if not line:
            sys.exit(trl.stderr[-3000:])
        peer = json.loads(line[0][7:])
    theirs = statistics.median(peer["steps"][1:])
    print(f"{arguments.shape} on {ours['device']}; {arguments.prompt_words or arguments.words} and {arguments.words} words, batch {arguments.batch}, {ours['given']:.0f} tokens given a step, "
          f"{ours['tokens']:.0f} computed; TRL {arguments.dtype}")
    print(f"TRL            {theirs:7.2f} s a step  {arguments.batch / theirs:6.3f} pairs/s  "
          f"{ours['given'] / theirs:7.0f} tokens/s  {peer['peak'] / 2**30:5.2f} GiB")
    for name in ("first", "cached"):
        mine = statistics.median(ours[name])
        print(f"Attune {name:7} {mine:7.2f} s a step  {arguments.batch / mine:6.3f} pairs/s  "
              f"{ours['given'] / mine:7.0f} tokens/s  {ours['peak'] / 2**30:5.2f} GiB  "
              f"speed x{theirs / mine:.2f}  memory x{ours['peak'] / peer['peak']:.2f}")


if __name__ == "__main__":
    main()
