#!/bin/sh
# A Debian testing in a folder, of which only programs and libraries are used (no chroot): Mesa's llvmpipe
# with matrix units, a glslang that compiles for them, a validation layer that knows them.
#   sh tests/forky.sh          fetches it if it is missing and prints the folder
# The folder is ~/.cache/attune/forky (ATTUNE_FORKY: another). In its folder attune:
#   run PROGRAM ARGUMENT ...   runs a program of this system with its loader, libraries and driver
#   glslangValidator, spirv-val
# Needs root and the package debootstrap; takes a minute and 1 GB. Exit status 1 with the reason on stderr.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh
forky=${ATTUNE_FORKY:-$HOME/.cache/attune/forky}
if [ -d "$forky/attune" ]; then
    echo "$forky"
    exit 0
fi
[ "$(id -u)" = 0 ] || { echo "Debian testing cannot be unpacked without root" >&2; exit 1; }
need_packages debootstrap
part=$forky.part
rm -rf "$part"
mkdir -p "$part"
# debootstrap of Debian 12 knows the suite by another's script.
debootstrap --variant=minbase \
    --include=glslang-tools,libvulkan1,mesa-vulkan-drivers,spirv-tools,vulkan-validationlayers \
    forky "$part" http://deb.debian.org/debian /usr/share/debootstrap/scripts/sid >"$part.log" 2>&1 || {
    tail -n 3 "$part.log" >&2
    echo "Debian testing could not be fetched" >&2
    exit 1
}
lib=usr/lib/x86_64-linux-gnu
mkdir "$part/attune"
sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$forky/$lib/libvulkan_lvp.so\"#" \
    "$part"/usr/share/vulkan/icd.d/lvp_icd*.json >"$part/attune/lvp.json"
# wrap NAME ARGUMENTS: a script that starts a program with the loader of the folder
wrap() {
    printf '#!/bin/sh\nexec env VK_DRIVER_FILES=%s VK_ICD_FILENAMES=%s VK_LAYER_PATH=%s %s --library-path %s %s\n' \
        "$forky/attune/lvp.json" "$forky/attune/lvp.json" "$forky/usr/share/vulkan/explicit_layer.d" \
        "$forky/lib64/ld-linux-x86-64.so.2" \
        "$forky/$lib:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" "$2" >"$part/attune/$1"
    chmod +x "$part/attune/$1"
}
# shellcheck disable=SC2016 # "$@" is for the script
wrap glslangValidator "$forky/usr/bin/glslangValidator"' "$@"'
# shellcheck disable=SC2016
wrap spirv-val "$forky/usr/bin/spirv-val"' "$@"'
# shellcheck disable=SC2016
wrap run '"$@"'
mv "$part" "$forky"
echo "$forky"
