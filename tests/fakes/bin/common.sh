# What every fake begins with. A fake is reached by a link in HOST/bin and controlled by files in HOST/control:
# "pause-POINT" makes it stop at that point for longer than any test lasts, "hold-POINT" for as long as that is there,
# "fail-PROGRAM" holds what it says before it fails, "visited" gets a line for every point that is passed.
name=$(basename "$0")
control=$(dirname "$0")/../control

point() {
    echo "$name.$1" >> "$control/visited"
    if [ -e "$control/pause-$name.$1" ]; then
        touch "$control/reached"
        # exec: the program that is started is the one that stops, as the real one would be.
        exec sleep 600
    fi
    waits=600
    while [ -e "$control/hold-$name.$1" ] && [ "$waits" -gt 0 ]; do
        sleep 0.1
        waits=$((waits - 1))
    done
    if [ "$1" = begin ] && [ -e "$control/fail-$name" ]; then
        cat "$control/fail-$name" >&2
        exit 1
    fi
}

# The program that is hidden by a fake: the next of that name in the PATH, of which HOST/bin comes first.
real() {
    PATH=${PATH#*:} command -v "$name"
}
