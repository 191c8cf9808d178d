"""The models of the golden runs: three tiny random decoders and a reward model as Hugging Face folders.

What   build_model(name, folder) writes config.json, tokenizer.json, tokenizer_config.json and
       model-*.safetensors with its index (float32, each shard below 64 KiB).
Shape  tiny_llama: hidden 36, 6 query heads on 2 kv heads of width 12 (so q is wider than hidden),
       2 layers, feed-forward 52, vocabulary 197, own output head, rope base 10000.
       tiny_qwen2: hidden 40, 6 query heads on 2 kv heads of width 8, 2 layers, feed-forward 56,
       vocabulary 211, tied head, q/k/v biases, rope base 1000000; config.json in the older
       spelling (rope_theta, torch_dtype).
       tiny_reward: LlamaForSequenceClassification with one output, hidden 24, 2 query heads on 1 kv
       head, 1 layer; tiny_qwen2's padding token.
       tiny_reference: a decoder of tiny_reward's shape with tiny_llama's tokenizer, its head tied.
Why    Hidden, feed-forward and vocabulary are no multiples of 32, three query heads share a kv
       head, and the weights are large enough that log-probs, entropies and gradients are far from
       those of a uniform model.
Vocabulary: special tokens, the 96 byte-level symbols of printable ASCII and newline, then trained
merges. Other bytes have no token: text of the golden runs is ASCII.
"""

import json

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from transformers import Qwen2Config, Qwen2ForCausalLM

from golden_data import TURNS, conversational_pair, plain_pair

CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SHARD_BYTES = 60000

MODELS = {
    "tiny_llama": {
        "vocab": 197,
        "seed": 11,
        "output_scale": 0.4,
        "pad": "<|im_end|>",
        "bos": "<|im_start|>",
    },
    "tiny_qwen2": {
        "vocab": 211,
        "seed": 12,
        "output_scale": 1.2,
        "pad": "<|endoftext|>",
        "bos": None,
    },
    "tiny_reward": {
        "vocab": 197,
        "seed": 13,
        "output_scale": 0.8,
        "pad": "<|endoftext|>",
        "bos": "<|im_start|>",
    },
    "tiny_reference": {
        "vocab": 197,
        "seed": 14,
        "output_scale": 0.8,
        "pad": "<|im_end|>",
        "bos": "<|im_start|>",
    },
}


def corpus():
    """Text whose words become the merges: the rows, and the roles so often that they are tokens."""
    texts = ["\n".join(row.values()) for row in map(plain_pair, range(len(TURNS)))]
    for row in map(conversational_pair, range(len(TURNS))):
        texts += [m["role"] + "\n" + m["content"] for side in row.values() for m in side]
    return texts + ["system\n", "assistant\n", "user\n"] * 20


def set_pipeline(tokenizer, name):
    """Pre-tokenizer, decoder and normaliser as the families' own tokenizer.json files have them."""
    if name == "tiny_qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)


def build_tokenizer(name, folder):
    spec = MODELS[name]
    tokenizer = Tokenizer(models.BPE())
    set_pipeline(tokenizer, name)
    ascii_symbols = [chr(c) for c in range(33, 127)] + ["\u0120", "\u010a"]  # space and newline
    trainer = trainers.BpeTrainer(
        vocab_size=spec["vocab"],
        special_tokens=SPECIAL,
        initial_alphabet=ascii_symbols,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    assert tokenizer.get_vocab_size() == spec["vocab"]
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_prefix_space": False,
        "bos_token": spec["bos"],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 256,
        "pad_token": spec["pad"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(folder / "tokenizer_config.json", config)


def new_model(name):
    shared = {
        "vocab_size": MODELS[name]["vocab"],
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }
    if name == "tiny_llama":
        rope = {"rope_type": "default", "rope_theta": 10000.0}
        sizes = {"hidden_size": 36, "intermediate_size": 52, "head_dim": 12, "rms_norm_eps": 1e-5}
        config = LlamaConfig(**shared, **sizes, rope_parameters=rope, tie_word_embeddings=False)
        return LlamaForCausalLM(config)
    if name in ("tiny_reward", "tiny_reference"):
        sizes = {"hidden_size": 24, "intermediate_size": 40, "rms_norm_eps": 1e-5}
        shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
        keys = {**shared, **shape, **sizes}
        if name == "tiny_reward":
            return LlamaForSequenceClassification(LlamaConfig(**keys, num_labels=1))
        return LlamaForCausalLM(LlamaConfig(**keys, tie_word_embeddings=True))
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    sizes = {"hidden_size": 40, "intermediate_size": 56, "head_dim": 8, "rms_norm_eps": 1e-6}
    config = Qwen2Config(**shared, **sizes, rope_parameters=rope, tie_word_embeddings=True)
    return Qwen2ForCausalLM(config)


def fill_weights(model, seed, output_scale):
    """Normal weights: 1.2 / sqrt(inputs), or output_scale / sqrt(inputs) where a layer writes its
    output, 0.4 for embeddings, head and biases; norm weights around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            p.data = 1 + 0.2 * noise
        elif name.endswith("bias"):
            p.data = 0.4 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            p.data = 0.4 * noise
        else:
            scale = output_scale if "o_proj" in name or "down_proj" in name else 1.2
            p.data = scale / p.shape[1] ** 0.5 * noise


def lean_to_bigrams(model, folder):
    """Adds to the head what makes tokens that follow each other in the corpus likelier.

    Without it the arg-max of a random model is never the next token and accuracy metrics are all 0.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    counts = torch.zeros(tokenizer.get_vocab_size(), tokenizer.get_vocab_size())
    for text in corpus():
        ids = tokenizer.encode(text).ids
        for a, b in zip(ids, ids[1:], strict=False):
            counts[a, b] += 1
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    model.lm_head.weight.data += shares.T @ model.model.embed_tokens.weight.data


def use_older_spelling(path):
    """rope_theta and torch_dtype at the top level, as most published config.json files have."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    write_json(path, config)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def build_model(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model(name)
    fill_weights(model, MODELS[name]["seed"], MODELS[name]["output_scale"])
    build_tokenizer(name, folder)
    if name == "tiny_llama":
        lean_to_bigrams(model, folder)
    model.save_pretrained(folder, max_shard_size=SHARD_BYTES)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name == "tiny_qwen2":
        use_older_spelling(folder / "config.json")
