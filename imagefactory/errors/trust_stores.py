"""What this machine remembers of a catalogue, and its clock."""

from imagefactory.errors.base import HostError


class TrustStoreUnusable(HostError):
    """What is remembered of a catalogue cannot be read or written, is open to others, or is damaged."""

    code = "trust-store-unusable"
    default_advice = "give its owner, and nobody else, a directory that can be written and has space"


class ClockBehind(HostError):
    """The clock of this machine is behind the time at which it last saw a catalogue, so nothing would ever expire."""

    code = "clock-behind"
    default_advice = "set the clock of this machine"
