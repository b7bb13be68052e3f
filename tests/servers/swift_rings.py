"""Rings of one device: run by Swift's own Python. Arguments: a directory, then NAME=PORT for each ring."""

import sys
from pathlib import Path

from swift.common.ring.builder import RingBuilder

for ring in sys.argv[2:]:
    name, _, port = ring.partition("=")
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(str(Path(sys.argv[1]) / f"{name}.ring.gz"))
