# The other scripts of this folder source this file with the folder of the data sets as their argument.
# show BENCHMARK ARGUMENTS ... prints a section with a command and its tables.
data=$(cd "$1" && pwd)
cd "$(dirname "$0")/../benchmarks"
python=${PYTHON:-python}
show() {
    printf '\n## `python benchmarks/%s`\n\n' "$*"
    "$python" "$1" "${@:2}" --data_path "$data" 2>/dev/null | grep -v '^\[' | sed 's/^\([a-z_]*=.*\)$/\n**\1**/'
}
