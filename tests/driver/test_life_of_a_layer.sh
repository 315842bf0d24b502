# docs/life-of-a-layer.md is what the tools print today.
set -eu
source=$1 build=$2
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
"$source/tools/life-of-a-layer" "$build/bin" >"$printed"
diff -u "$source/docs/life-of-a-layer.md" "$printed"
