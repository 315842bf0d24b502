#!/bin/sh
# test_help.sh -- the option lists in docs/ are those that --help prints.  Arguments: source folder,
# build folder; a third argument `update` writes them into the docs instead.
set -eu
source=$1 bin=$2/bin
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# with_help PAGE: the page with every block behind a `help:` line replaced by what the tool prints
with_help() {
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in
		'<!-- help: '*)
			tool=${line#'<!-- help: '}
			tool=${tool%' -->'}
			printf '```\n'
			# shellcheck disable=SC2086
			"$bin"/$tool --help
			printf '```\n'
			read -r line # the old block
			while IFS= read -r line && [ "$line" != '```' ]; do :; done
			;;
		esac
	done <"$1"
}

for page in mloptc mlopt mlopt-opt; do
	with_help "$source/docs/$page.md" >"$dir/page"
	if [ "${3-}" = update ]; then
		cp "$dir/page" "$source/docs/$page.md"
	elif ! cmp -s "$dir/page" "$source/docs/$page.md"; then
		diff "$source/docs/$page.md" "$dir/page" >&2 || true
		echo "test_help: docs/$page.md is out of date: sh $0 $1 $2 update" >&2
		exit 1
	fi
done
