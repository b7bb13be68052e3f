"""What a running guest says about itself: one shell script, one round trip, lines of KEY=VALUE."""

from collections.abc import Mapping
from dataclasses import dataclass

from imagefactory.tools.console import printable

MAX_ANSWER = 1 << 16  # characters that are looked at
MAX_VALUE = 500  # characters of a value
MAX_LIST = 20  # values of one key, the last of which says that there were more
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

# Plain POSIX sh. $1: seconds to wait for cloud-init and for the units, each.
SCRIPT = f"""
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
say() {{ printf '%s=%s\\n' "$1" "$2"; }}
as_root() {{ if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi 2>/dev/null; }}

timeout "$1" cloud-init status --wait >/dev/null 2>&1
say cloud_init "$(cloud-init status 2>&1 | sed -n 's/^status: *//p')"
say cloud_init_result "$(cat /run/cloud-init/result.json 2>/dev/null | tr -d '\\n')"
say system "$(timeout "$1" systemctl is-system-running --wait 2>/dev/null)"
systemctl --failed --plain --no-legend --no-pager 2>/dev/null | while read -r unit rest; do
    say failed_unit "$unit"
    as_root journalctl -b -u "$unit" -n 3 -o cat --no-pager | sed 's/^/failed_line=/'
done
systemctl list-jobs --plain --no-legend --no-pager 2>/dev/null | sed 's/^ */job=/'

findmnt -nro SOURCE,OPTIONS --target / | {{
    read -r source options
    say root_source "$source"
    say root_options "$options"
}}
say root_size "$(( $(stat -f -c '%b * %S' /) ))"
device=$(basename "$(readlink -f "$(findmnt -nro SOURCE --target /)")")
if [ -f "/sys/class/block/$device/partition" ]; then
    disk=$(basename "$(dirname "$(readlink -f "/sys/class/block/$device")")")
    say disk_size "$(( $(cat "/sys/class/block/$disk/size") * 512 ))"
    say part_start "$(( $(cat "/sys/class/block/$device/start") * 512 ))"
    say part_end "$(( ($(cat "/sys/class/block/$device/start") + $(cat "/sys/class/block/$device/size")) * 512 ))"
fi

say hostname "$(uname -n)"
say sudo "$(as_root id -u)"
# The kernel's own tables (proc_net_tcp, Documentation/networking): 0A is LISTEN; a datagram socket just is there.
awk '$4 == "0A" {{print "tcp=" $2}}' /proc/net/tcp /proc/net/tcp6 2>/dev/null
awk 'FNR > 1 {{print "udp=" $2}}' /proc/net/udp /proc/net/udp6 2>/dev/null

if [ -d /sys/firmware/efi ]; then say firmware uefi; else say firmware bios; fi
say secure_boot "$(od -An -j4 -N1 -tu1 {SECURE_BOOT} 2>/dev/null | tr -d ' ')"
say kernel_secure_boot "$(as_root dmesg | grep -i -m1 'secureboot: secure boot')"
say kernel "$(uname -r)"
say tainted "$(cat /proc/sys/kernel/tainted)"
say os "$(. /etc/os-release && echo "$ID $VERSION_ID")"
say rng "$(cat /sys/class/misc/hw_random/rng_available 2>/dev/null)"
say memory "$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
"""


@dataclass(frozen=True)
class Answers:
    """What the script said: the last value of each key, and all the values of keys that repeat."""

    values: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]

    def get(self, key: str) -> str:
        """The value, or an empty string: a guest may leave out what it likes."""
        return self.values.get(key, "")

    def number(self, key: str) -> int:
        """The value as a whole number that is not negative; 0 when it is none."""
        text = self.get(key)
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0

    def all(self, key: str) -> tuple[str, ...]:
        """Every value of a key, in the order in which they were said."""
        return self.lists.get(key, ())


def parse(text: str) -> Answers:
    """Read the script's output. Lines of another shape are passed over; whoever wrote them is not trusted anyway.

    Every value is short, fit for a terminal, and one of few.
    """
    values: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for line in text[:MAX_ANSWER].splitlines():
        key, equals, value = line.partition("=")
        if equals and key.isidentifier():
            values[key] = printable(value.strip(), MAX_VALUE)
            before = lists.get(key, ())
            if len(before) < MAX_LIST:
                lists[key] = (*before, values[key] if len(before) < MAX_LIST - 1 else "and more")
    return Answers(values, lists)
