"""The golden runs, in Attune's keys: what make_golden.py makes and golden_test.py runs."""

COMMON = {
    "preset": "trl",
    "train_sampling_strategy": "sequential",
    "logging_steps": 1,
    "save_strategy": "no",
    "seed": 42,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "linear",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
}
LORA = {
    "use_peft": True,
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "lora_target_modules": "all-linear",
    "adapter_name_or_path": "init_adapter",
    "adapter_start": "continue",
}


def dpo(model, data, **keys):
    what = {"method": "dpo", "model_name_or_path": f"../models/{model}"}
    return {
        **COMMON,
        **LORA,
        **what,
        "train_dataset": f"../data/{data}.jsonl",
        "max_steps": 6,
        **keys,
    }


def short_dpo(model, data, **keys):
    return dpo(model, data, max_steps=4, **keys)


def cpo(model, **keys):
    return {**short_dpo(model, "pairs"), "method": "cpo", **keys}


def orpo(model, **keys):
    return {**short_dpo(model, "pairs"), "method": "orpo", **keys}


def kto(model, data, **keys):
    return {**short_dpo(model, data), "method": "kto", **keys}


def tpo(model, data, **keys):
    return {**short_dpo(model, data), "method": "tpo", **keys}


def sft(model, data, **keys):
    return {**dpo(model, data), "method": "sft", "max_steps": 4, **keys}


def reward(model, data, **keys):
    return {**short_dpo(model, data), "method": "reward", **keys}


def without(config, prefix):
    return {k: v for k, v in config.items() if not k.startswith(prefix)}


RUNS = {
    # Never clipped; most others are, at the default of 1.
    "dpo_sigmoid": dpo("tiny_llama", "pairs", loss_type="sigmoid", beta=0.1, max_grad_norm=1000.0),
    "dpo_ipo": dpo("tiny_llama", "pairs_implicit", loss_type="ipo", beta=0.1),
    # In steps 7 and 8 some margins pass 1, and those rows have no gradient.
    "dpo_hinge": dpo(
        "tiny_qwen2",
        "pairs_plain",
        loss_type="hinge",
        beta=0.25,
        learning_rate=2e-3,
        max_steps=8,
    ),
    "dpo_accum": dpo(
        "tiny_qwen2", "pairs", per_device_train_batch_size=2, gradient_accumulation_steps=2
    ),
    # Rows 2, 14 and 20 are dropped (the prompt fills max_length), many others lose their end.
    "dpo_truncate": dpo(
        "tiny_llama", "pairs", max_length=34, truncation_mode="keep_start", max_steps=5
    ),
    "dpo_clip": dpo("tiny_llama", "pairs", max_grad_norm=0.5),
    "dpo_continued": dpo("tiny_llama", "pairs_plain"),
    "dpo_warmup_cosine": dpo(
        "tiny_llama",
        "pairs",
        warmup_steps=2,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        max_steps=8,
    ),
    "sft_messages": sft("tiny_llama", "sft_messages", max_grad_norm=1000.0),
    "sft_prompt_completion": sft(
        "tiny_qwen2",
        "sft_prompt_completion",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    ),
    # Four rows are cut, of one nothing is left to train on: it takes its room all the same.
    "sft_pack_bfd": sft("tiny_qwen2", "sft_prompt_completion", packing=True, max_length=40),
    # Most rows are cut into pieces of 20 tokens and a rest; rests share a packed row, and see themselves alone.
    # Some steps have prompts alone, and no gradient.
    "sft_pack_split": sft(
        "tiny_llama",
        "sft_prompt_completion",
        packing=True,
        packing_strategy="bfd_split",
        max_length=20,
        per_device_train_batch_size=2,
        max_steps=15,
    ),
    # Documents see those before them, and the first token of each but the first is predicted.
    "sft_pack_wrapped": sft(
        "tiny_llama",
        "sft_messages",
        packing=True,
        packing_strategy="wrapped",
        max_length=48,
        per_device_train_batch_size=2,
    ),
    "sft_full": {
        **without(without(sft("tiny_qwen2", "sft_messages"), "lora_"), "adapter_"),
        "use_peft": False,
        "weight_decay": 0.1,
    },
    "loss_apo_down": short_dpo("tiny_llama", "pairs", loss_type="apo_down"),
    "loss_apo_zero": short_dpo("tiny_qwen2", "pairs", loss_type="apo_zero"),
    "loss_bco_pair": short_dpo("tiny_llama", "pairs_plain", loss_type="bco_pair"),
    "loss_discopop": short_dpo("tiny_qwen2", "pairs_implicit", loss_type="discopop"),
    "loss_exo_pair": short_dpo("tiny_llama", "pairs", loss_type="exo_pair", label_smoothing=1e-3),
    "loss_nca_pair": short_dpo("tiny_qwen2", "pairs", loss_type="nca_pair"),
    "loss_robust": short_dpo("tiny_llama", "pairs_plain", loss_type="robust", label_smoothing=0.1),
    "loss_sigmoid_norm": short_dpo("tiny_qwen2", "pairs", loss_type="sigmoid_norm", beta=2.0),
    "loss_sppo_hard": short_dpo("tiny_llama", "pairs_implicit", loss_type="sppo_hard"),
    "loss_list": short_dpo(
        "tiny_qwen2", "pairs", loss_type=["sigmoid", "sft", "hinge"], loss_weights=[0.8, 0.3, 0.2]
    ),
    "loss_forward_kl": short_dpo(
        "tiny_llama", "pairs", loss_type="sigmoid", f_divergence_type="forward_kl"
    ),
    "loss_js": short_dpo(
        "tiny_qwen2", "pairs_plain", loss_type="ipo", f_divergence_type="js_divergence"
    ),
    # The divergence maps the scores of hinge; those of sft it leaves alone.
    "loss_alpha": short_dpo(
        "tiny_llama",
        "pairs",
        loss_type=["hinge", "sft"],
        f_divergence_type="alpha_divergence",
        f_alpha_divergence_coef=0.7,
    ),
    "cpo_sigmoid": cpo("tiny_llama", loss_type="sigmoid", cpo_alpha=0.5),
    "cpo_ipo": cpo("tiny_qwen2", loss_type="ipo"),
    "cpo_simpo": cpo("tiny_llama", loss_type="simpo", beta=2.0, simpo_gamma=1.0, cpo_alpha=0.0),
    "cpo_alphapo": cpo("tiny_qwen2", loss_type="alphapo", beta=2.0, alpha=0.25),
    "orpo": orpo("tiny_llama", beta=0.5),
    # A third side, whose cross-entropy is added; its tokens are not as many as the chosen one's.
    "tpo": tpo("tiny_llama", "triples", beta=0.1, tpo_alpha=0.7, lora_r=2),
    "tpo_ipo": tpo("tiny_qwen2", "triples_implicit", loss_type="ipo", beta=0.5, lora_r=2),
    "tpo_l": tpo(
        "tiny_llama",
        "triples_plain",
        loss_type="tpo-l",
        beta=2.0,
        tpo_l_gamma=1.0,
        label_smoothing=0.1,
        lora_r=2,
    ),
    "kto": kto("tiny_llama", "labelled", desirable_weight=0.75),
    # Pairs taken apart: 24 desirable rows, then their 24 counterparts; a step has one label.
    "kto_pairs": kto("tiny_qwen2", "pairs_plain", max_steps=8, undesirable_weight=1.5),
    "kto_apo": kto("tiny_qwen2", "labelled", loss_type="apo_zero_unpaired", beta=0.3),
    # Mismatched rows are cut as well.
    "kto_truncate": kto("tiny_llama", "labelled", max_length=34, per_device_train_batch_size=3),
    # Some rows are dropped: a reward model's are never cut.
    "reward": reward("tiny_llama", "pairs", max_length=48, max_grad_norm=1000.0),
    "reward_margin": reward("tiny_qwen2", "pairs_margin", center_rewards_coefficient=0.05),
    # The padding token is the end token, and plain rows end with it: TRL reads the token before.
    "reward_pad": reward("tiny_llama", "pairs_plain", reward_token="last_not_pad"),
    "reward_full": {
        **without(without(reward("tiny_reward", "pairs_implicit"), "lora_"), "adapter_"),
        "use_peft": False,
        "weight_decay": 0.1,
    },
    "loss_dft": sft(
        "tiny_qwen2",
        "sft_prompt_completion",
        loss_type="dft",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    ),
    # A's rate is logged; B's is 4 times that; both decay at their own.
    "dpo_loraplus": short_dpo(
        "tiny_llama", "pairs", loraplus_lr_ratio=4.0, weight_decay=0.1, learning_rate=2e-3
    ),
    # The reference has the magnitudes of the step-0 adapter, which are not the norms; so has the model biases.
    "dpo_dora": short_dpo("tiny_qwen2", "pairs", use_dora=True, lora_r=2, weight_decay=0.1),
    # The reference has the head of the step-0 adapter, which is not the base's.
    "dpo_modules": short_dpo(
        "tiny_llama", "pairs", lora_r=2, lora_modules_to_save=["lm_head"], weight_decay=0.1
    ),
    # A tied model: its embedding is trained, its head stays.
    "sft_modules": sft(
        "tiny_qwen2",
        "sft_prompt_completion",
        lora_r=2,
        lora_modules_to_save=["embed_tokens"],
        max_grad_norm=1000.0,
    ),
    # No module matches two patterns: PEFT takes the first one and sorts them when it saves.
    "dpo_patterns": short_dpo(
        "tiny_llama",
        "pairs",
        use_rslora=True,
        layers_to_transform=[1],
        rank_pattern={"layers.1.mlp.down_proj": 6, "(q|o)_proj": 2},
        alpha_pattern={"self_attn.*": 3, "up_proj": 16},
    ),
    # Weighted sums in the losses and the logged log-probs; sft and the lengths of sigmoid_norm are without.
    "ld_sigmoid": short_dpo("tiny_llama", "pairs", ld_alpha=0.25),
    "ld_list": short_dpo(
        "tiny_qwen2",
        "pairs_plain",
        loss_type=["sigmoid_norm", "sft"],
        loss_weights=[1.0, 0.3],
        beta=2.0,
        ld_alpha=0.5,
    ),
    # Twelve pairs and this rate: the policy's order of pairs leaves the reference's from step 2 on.
    "loss_aot": short_dpo(
        "tiny_llama",
        "pairs",
        loss_type="aot",
        label_smoothing=0.1,
        per_device_train_batch_size=12,
        learning_rate=0.05,
    ),
    # Four pairs are sorted, not the eight of a step.
    "loss_aot_unpaired": short_dpo(
        "tiny_qwen2", "pairs", loss_type="aot_unpaired", gradient_accumulation_steps=2
    ),
    # The weights of random models are near 1e-5; loss_weights bring the losses near 1.
    "wpo_sigmoid": short_dpo(
        "tiny_qwen2", "pairs", loss_type=["sigmoid"], loss_weights=[1e5], use_weighting=True
    ),
    "wpo_list": short_dpo(
        "tiny_llama",
        "pairs_plain",
        loss_type=["sigmoid_norm", "bco_pair"],
        loss_weights=[1e5, 5e4],
        use_weighting=True,
        ld_alpha=0.5,
    ),
    # The reference is a model of another shape; log-ratios are far from 0 from the start.
    "dpo_other": short_dpo(
        "tiny_llama", "pairs_plain", ref_model_name_or_path="../models/tiny_reference"
    ),
    # The reference moves after steps 2 and 4; the data set is passed twice, so that cached values are stale.
    "dpo_sync": dpo(
        "tiny_llama",
        "pairs",
        per_device_train_batch_size=12,
        max_steps=6,
        sync_ref_model=True,
        ref_model_mixup_alpha=0.7,
        ref_model_sync_steps=2,
    ),
}
