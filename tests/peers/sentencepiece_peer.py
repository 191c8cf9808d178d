#!/usr/bin/env python3
"""Ids and texts of `attune tokenize` beside the `tokenizers` library's, on real SentencePiece models.

Usage  sentencepiece_peer.py ATTUNE [--models FOLDER] [--gguf FILE --like TOKENIZER_JSON] [--seed N]
       FOLDER  of SentencePiece files (*.model*); without it those in the package mistral-common,
               when Python has it (`pip install --no-deps mistral-common`); exits 125 without any
       --gguf  a real file whose tokenizer must agree with a tokenizer.json (Gemma's, for one)
How    Each file becomes what transformers makes of it, a tokenizer.json, and what llama.cpp's
       converter makes of it, a GGUF file's metadata (BPE only). Both must give the library's ids.
Needs  the environment of tests/peers/setup.sh.
"""

import argparse
import base64
import importlib.util
import json
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors
from tokenizers_peer import EXIT_SKIP, ask, check, compare, make_strings

MARK = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
UNIGRAM = 1


def fields(data):
    """(number, value) of a protobuf message: whole numbers, bytes, or four bytes of a float."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            n = {1: 8, 5: 4}.get(key & 7) or number()
            yield key >> 3, data[at : at + n]
            at += n


class Model:
    def __init__(self, path):
        self.pieces, self.unigram, self.charsmap, self.prefix = [], True, b"", True
        for key, value in fields(path.read_bytes()):
            if key == 1:
                piece = dict(fields(value))
                score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
                self.pieces.append((piece[1].decode(), score, piece.get(3, NORMAL)))
            elif key == 2:
                self.unigram = dict(fields(value)).get(3, UNIGRAM) == UNIGRAM
            elif key == 3:
                spec = dict(fields(value))
                self.charsmap, self.prefix = spec.get(2, b""), spec.get(3, 1) != 0

    def ids(self, *types):
        return [i for i, piece in enumerate(self.pieces) if piece[2] in types]


def merges_of(pieces, vocab):
    """As transformers' generate_merges() does it."""
    merges = []
    for piece, score, _ in pieces:
        local = [
            (piece[:i], piece[i:], score)
            for i in range(1, len(piece))
            if piece[:i] in vocab and piece[i:] in vocab
        ]
        merges += sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    return [m[:2] for m in merges]


def library_of(model):
    vocab = {piece: i for i, (piece, _, _) in enumerate(model.pieces)}
    if model.unigram:
        bytes_too = any(t == 6 for _, _, t in model.pieces)
        unknown = model.ids(UNKNOWN)[0]
        library = Tokenizer(models.Unigram([p[:2] for p in model.pieces], unknown, bytes_too))
        parts = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
        library.normalizer = normalizers.Sequence([*parts, normalizers.Replace(Regex(" {2,}"), " ")])
        library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if model.prefix else "never")
        library.decoder = decoders.Metaspace(prepend_scheme="always" if model.prefix else "never")
    else:
        library = Tokenizer(
            models.BPE(vocab, merges_of(model.pieces, vocab), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        )
        prefix = [normalizers.Prepend(MARK)] if model.prefix else []
        library.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", MARK)])
        strip = [decoders.Strip(" ", 1, 0)] if model.prefix else []
        library.decoder = decoders.Sequence(
            [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
    special = [model.pieces[i][0] for i in model.ids(UNKNOWN, CONTROL)]
    library.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    library.add_tokens([AddedToken(model.pieces[i][0], normalized=False) for i in model.ids(USER_DEFINED)])
    if "<s>" in vocab:
        library.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return library


def vocabulary_file(path, add_tokenizer):
    """A GGUF file of a llama model of no use but for its tokenizer."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(16)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    add_tokenizer(writer)
    writer.add_tensor("token_embd.weight", numpy.zeros((1, 32), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gguf(path, model):
    def add(writer):
        writer.add_tokenizer_model("llama")
        writer.add_token_list([p.encode() for p, _, _ in model.pieces])
        writer.add_token_scores([s for _, s, _ in model.pieces])
        writer.add_token_types([t for _, _, t in model.pieces])
        writer.add_bos_token_id(1)
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(model.prefix)

    vocabulary_file(path, add)


def copy_tokenizer(path, source):
    """The tokenizer of a real GGUF file, without its weights."""

    def add(writer):
        for key, field in gguf.GGUFReader(str(source)).fields.items():
            if key.startswith("tokenizer.ggml.") and field.types[0] == gguf.GGUFValueType.ARRAY:
                writer.add_key_value(key, field.contents(), field.types[0], sub_type=field.types[-1])
            elif key.startswith("tokenizer.ggml."):
                writer.add_key_value(key, field.contents(), field.types[0])

    vocabulary_file(path, add)


def check_gguf(attune, name, path, library, strings):
    wrong = 0
    for special, flags in ((True, ()), (False, ("--no_special_tokens",))):
        want = [library.encode(s, add_special_tokens=special).ids for s in strings]
        wrong += compare(f"{name}, special tokens {special}", strings,
                         ask(attune, path, *flags, lines=strings), want)  # fmt: skip
    texts = library.decode_batch(want, skip_special_tokens=False)  # a converter calls others special, too
    wrong += compare(f"{name}, decoded", want, ask(attune, path, "--decode", lines=want), texts)
    print(f"{name}: {len(strings)} strings, {wrong} differ")
    return wrong == 0


def check_model(attune, path, folder, strings):
    model = Model(path)
    library = library_of(model)
    data = json.loads(library.to_str())
    if model.unigram and model.charsmap:
        blob = base64.b64encode(model.charsmap).decode()
        data["normalizer"]["normalizers"][0]["precompiled_charsmap"] = blob
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(data))
    good = check(attune, path.name, folder, library, strings)
    if not model.unigram:
        write_gguf(folder / "vocabulary.gguf", model)
        good &= check_gguf(attune, path.name + " (GGUF)", folder / "vocabulary.gguf", library, strings)
    return good


def find_models(folder):
    if folder:
        return sorted(folder.glob("*.model*"))
    package = importlib.util.find_spec("mistral_common")
    return sorted(Path(package.origin).parent.glob("data/*.model*")) if package else []


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("attune")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--like", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    strings = make_strings(args.seed)
    files = [] if args.gguf else find_models(args.models)
    if not args.gguf and not files:
        print("skipped: no SentencePiece file (pip install --no-deps mistral-common, or --models FOLDER)")
        sys.exit(EXIT_SKIP)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            good &= check_model(args.attune, path, Path(folder) / path.name, strings)
        if args.gguf:
            copy = Path(folder) / "vocabulary.gguf"
            copy_tokenizer(copy, args.gguf)
            good &= check_gguf(args.attune, args.gguf.name, copy, Tokenizer.from_file(str(args.like)), strings)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
