"""The golden runs of methods that train on samples: TRL's trainers fed with the samples and rewards of a file.

What   runs(dpo)       name -> run, as make_golden.RUNS has them
       make_sampled()  a trainer whose samples are recorded, with the rewards of the file under their names
       sample_records()  log-probs of every sample before step 1
"""

import json

import datasets
import torch
import transformers
import trl
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer


def runs(dpo):
    def samples(method, model, data, **keys):
        """Two prompts a step, four samples each; the data set has three steps."""
        run = {
            **dpo(model, data),
            "method": method,
            "rollouts": f"../data/{data}.jsonl",
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            **keys,
        }
        del run["train_dataset"]
        return run

    def pairs(model, data, **keys):
        """Four pairs a step, twice through the file."""
        run = {**dpo(model, data), "method": "online_dpo", "rollouts": f"../data/{data}.jsonl", "max_steps": 4, **keys}
        del run["train_dataset"]
        return run

    return {
        # All of one length: TRL's KL and entropy are summed over padding, too.
        "online_dpo": pairs("tiny_llama", "rollouts_even", missing_eos_penalty=0.15),
        "online_dpo_two": pairs("tiny_qwen2", "rollouts_two", beta=0.3, reward_weights=[1.0, 0.5]),
        # The KL term is weighed by the ratio, as it is by default; some samples have no reward.
        "grpo": samples("grpo", "tiny_llama", "rollouts", beta=0.1, epsilon_high=0.28),
        # Ratios of whole samples; the second step over a rollout is clipped.
        "grpo_sequence": samples(
            "grpo",
            "tiny_qwen2",
            "rollouts",
            loss_type="grpo",
            importance_sampling_level="sequence",
            beta=0.5,
            num_iterations=2,
            epsilon=0.01,
            scale_rewards="batch",
            reward_weights=[1.0, 2.0],
        ),
        # Log-probs of another policy, as recorded: ratios on both sides of all bounds from the start.
        "grpo_old": samples(
            "grpo",
            "tiny_llama",
            "rollouts_old",
            loss_type="dr_grpo",
            delta=1.3,
            beta=0.2,
            use_bias_correction_kl=False,
            max_completion_length=16,
            mask_truncated_completions=True,
            scale_rewards="none",
        ),
        "grpo_cispo": samples(
            "grpo", "tiny_qwen2", "rollouts_old", loss_type="cispo", epsilon_high=1.1, max_steps=3
        ),
        # Logits are divided by it in the training forward, of policy and reference.
        "grpo_temperature": samples(
            "grpo", "tiny_llama", "rollouts", temperature=0.7, beta=0.1, max_steps=3
        ),
        # A rollout of four prompts serves two steps, twice; a third of the prompts does not fill one.
        "grpo_parts": samples(
            "grpo",
            "tiny_llama",
            "rollouts",
            steps_per_generation=2,
            num_iterations=2,
            beta=0.1,
            epsilon=0.05,
        ),
        "rloo_parts": samples(
            "rloo",
            "tiny_qwen2",
            "rollouts",
            generation_batch_size=16,
            beta=0.2,
            max_steps=4,
        ),
        "rloo": samples("rloo", "tiny_llama", "rollouts", beta=0.2, num_iterations=2, epsilon=0.05),
        "rloo_clip": samples(
            "rloo",
            "tiny_qwen2",
            "rollouts",
            num_generations=4,
            beta=0.0,
            normalize_advantages=True,
            reward_clip_range=[0.2, 1.0],
            mask_truncated_completions=True,
            max_steps=3,
        ),
    }


class Recorded:
    """A trainer whose samples and rewards are those of the file; TRL does the rest."""

    def _generate_and_score_completions(self, inputs):
        self.lines = [row["row"] for row in inputs]
        out = super()._generate_and_score_completions(inputs)
        if "old_logps" in self.recorded[0]:
            old = [torch.tensor(self.sample("old_logps", i)) for i in range(len(inputs))]
            out["old_per_token_logps"] = trl.trainer.utils.pad(old, padding_value=0.0)
        return out

    def sample(self, key, i):
        return self.recorded[self.lines[i]][key][i % self.num_generations]

    def ids_of(self, line):
        """Ids of the samples of a line: behind a text stands the end of a turn, or of plain text."""
        end = self._tokenizer.eos_token_id
        completions = self.recorded[line]["completions"]
        encode = self._tokenizer.encode
        return [encode(c, add_special_tokens=False) + [end] if isinstance(c, str) else c for c in completions]

    def completions(self):
        return [self.ids_of(line)[i % self.num_generations] for i, line in enumerate(self.lines)]


class GRPO(Recorded, trl.GRPOTrainer):
    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations):
        return self.completions(), None


class RLOO(Recorded, trl.RLOOTrainer):
    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        return self.completions()


class OnlineDPO(Recorded, OnlineDPOTrainer):
    """Whose rows come as columns, and whose samples stand in two halves."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.lines = inputs["row"]
        return super().training_step(model, inputs, num_items_in_batch)

    def _generate(self, model, prompts, images=None):
        ids = [list(x) for x in self._tokenize(prompts)] * 2
        prompt_ids, prompt_mask = padded(ids, "left")
        completion_ids, completion_mask = padded([self.ids_of(line)[k] for k in (0, 1) for line in self.lines], "right")
        return prompt_ids, prompt_mask, completion_ids, completion_mask, None

    def _tokenize(self, prompts):
        template = self.processing_class.apply_chat_template
        return [template(p, add_generation_prompt=True, return_dict=False) for p in prompts]


def padded(rows, side):
    """Rows of ids as one tensor, and which are no padding."""
    parts = [torch.tensor(row) for row in rows]
    masks = [torch.ones_like(part) for part in parts]
    return [trl.trainer.utils.pad(x, padding_value=0, padding_side=side) for x in (parts, masks)]


def reward_functions(recorded, halves):
    """One a reward of the file, under its name. halves: rows are all first samples, then all second ones."""
    names = recorded[0]["rewards"] if isinstance(recorded[0]["rewards"], dict) else ["reward"]

    def make(name):
        def reward(prompts, completions, row, **columns):
            group = len(recorded[0]["completions"])
            rewards = [recorded[line]["rewards"] for line in row]
            lists = [r[name] if isinstance(r, dict) else r for r in rewards]
            if halves:
                return [values[i * 2 // len(lists)] for i, values in enumerate(lists)]
            return [values[i % group] for i, values in enumerate(lists)]

        reward.__name__ = name
        return reward

    return [make(name) for name in names]


def of_keys(cls):
    """TRL's arguments, whose key for the order of rows is another one here."""
    return lambda train_sampling_strategy, **keys: cls(
        shuffle_dataset=train_sampling_strategy == "random", **keys
    )


# TRL mixes the samples of a rollout before it takes them apart; here they stay in order.
for module in (trl.trainer.grpo_trainer, trl.trainer.rloo_trainer):
    module.shuffle_sequence_dict = lambda batch: batch

# Methods that train on samples: trainer, arguments.
SAMPLED = {
    "grpo": (GRPO, of_keys(trl.GRPOConfig)),
    "online_dpo": (OnlineDPO, OnlineDPOConfig),
    "rloo": (RLOO, of_keys(trl.RLOOConfig)),
}


def make_sampled(config, model, arguments, path_of, recorder):
    """A trainer on the samples of a file, which its rows name by their line; and how many lines there are."""
    lines = path_of(config, "rollouts").read_text().splitlines()
    recorded = [json.loads(line) for line in lines]
    rows = [{"row": i, "prompt": line["prompt"]} for i, line in enumerate(recorded)]
    trainer = SAMPLED[config["method"]][0](
        model=model,
        args=arguments,
        reward_funcs=reward_functions(recorded, config["method"] == "online_dpo"),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(
            path_of(config, "model_name_or_path")
        ),
        callbacks=[recorder],
    )
    trainer.recorded = recorded
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, len(rows)


def sample_records(trainer, model, score):
    """One object a sample, in the order of the file; none of pairs, which are decided while they train."""
    model.eval()
    out = []
    if isinstance(trainer, OnlineDPO):
        return out
    for line, row in enumerate(trainer.train_dataset):
        [prompt], *_ = trainer._tokenize_prompts([row["prompt"]])
        for k, ids in enumerate(trainer.ids_of(line)):
            mask = [False] * len(prompt) + [True] * len(ids)
            found = {"completion": score(model, list(prompt) + ids, mask, trainer.temperature)}
            out.append({"row": line, "sample": k, "dropped": False, **found})
    return out
