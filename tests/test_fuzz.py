# SPDX-License-Identifier: GPL-2.0-or-later
"""Some thousand random packets through the BPF programs, compared with oracle.py. `make fuzz` runs a million."""

import os
import time

import fuzz

PACKETS = int(os.environ.get('NAT64_TEST_PACKETS', 8000))


def test_fuzz():
    seed = os.environ.get('FUZZ_SEED', str(int(time.time())))
    said = []
    differences = fuzz.fuzz(PACKETS, seed, max_differences=5, say=said.append)
    print(said[-1])
    assert differences == 0, f'make fuzz N={PACKETS} SEED={seed} shows it again:\n' + '\n'.join(said)
