"""A lower bound on the time of a selective scan on a GPU: its instructions, compared with its least memory traffic.

    bound(CARDS["h100"])          clocks of a multiprocessor for a step and channel, by resource, and their largest over the traffic's
    bound(CARDS["t4"], FULL)      the same for float32 activations

One step of one channel, forward and backward, with N states, on units that do one multiply-add a lane:

    a state, forward     Δ A, its exponential, (Δ u) B, h = … + …, y += C h
    a state, backward    the first four again, since states are never stored ([1] section 3.3.2); y before the gate again, or it is
                         stored, which is cheaper where instructions are short; g += dy C, the products of dC and of dB, Σ g B, g times
                         the decay, times h, Σ of that times A, and times Δ into dA
    a row                between half precision and float32, softplus and its slope, the gate and its gradient, D (ROW)
    B and C              are the same for all channels of a warp, four numbers a load
    dB and dC            are summed over channels: within a lane for nothing, and over the lanes of a warp with one addition for each
                         of 2 N numbers, which are exchanged four at a time through shared memory

A lane that holds R channels shares the last two among them, but keeps A, h, dL/dh and dL/dA, which are 4 N R of its 255
registers: with N = 16 that is R = 3 at most. An exponential by a polynomial instead of the special function unit is ten more
instructions ([2] section 3.1 mixes both where matrix units do the rest), which is no gain where instructions are what is short.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752.
[2] FlashAttention-4, Dao et al. 2026: exponentials by polynomials on the multiply-add units.

Left out, so that the bound is one from below: addresses, loops, waiting, programs that do not fill the card. Tensor cores could
take the sums with factors rounded to 10 bits; the kernels here compute in float32.
"""

from __future__ import annotations

from .floors import HALF, Card

LANES = 32  # of a warp
REGISTERS = 255  # of a lane, at most
ROW = {  # instructions a step and channel: (arithmetic, special functions)
    "forward: u, Δ, z to float32, y back": (3.5, 0),
    "forward: softplus": (4, 2),
    "forward: Δ u and D u": (2, 0),
    "forward: the gate": (4, 2),
    "backward: u, Δ, z, dy to float32, du, dΔ, dz back": (5.5, 0),
    "backward: softplus and its slope": (7, 3),
    "backward: the gate and its gradient": (9, 2),
    "backward: y before the gate, dΔ, du, dD": (7, 0),
}
STATE = {"forward": (4, 1), "backward": (11, 1)}  # of each state
AGAIN = 1  # more of each state where y before the gate is computed again; else it is written and read


def channels_of_a_lane(N: int) -> int:
    """How many channels' A, h, dL/dh and dL/dA fit in the registers of a lane."""
    return max(1, REGISTERS // (4 * N))


def instructions(N: int, again: bool) -> tuple[float, float]:
    """(all, special functions) that a lane issues for a step and channel, forward and backward."""
    arithmetic = sum(a for a, _ in [*ROW.values()]) + N * (sum(a for a, _ in STATE.values()) + AGAIN * again)
    special = sum(s for _, s in ROW.values()) + N * sum(s for _, s in STATE.values())
    loads = 2 * 2 * N / 4  # B and C, in both kernels
    sums = 2 * N * (LANES - 1) / LANES + 2 * 2 * N / 4  # of dB and dC
    return arithmetic + special + (loads + sums) / channels_of_a_lane(N), special


def bound(card: Card, size: int = HALF, N: int = 16) -> dict:
    """{"memory", "instructions", "arithmetic", "special"} in clocks of a multiprocessor, and "times" their largest is the memory's.

    `size` is that of a number of the activations in bytes. Of the two ways to have y before the gate, the faster one.
    """
    least = 11 * size / card.bytes_a_clock  # u, Δ, z in, y out; u, Δ, z, dy in, du, dΔ, dz out
    ways = []
    for again in (True, False):
        issued, special = instructions(N, again)
        clocks = {
            "memory": least + (0 if again else 2 * size / card.bytes_a_clock),
            "instructions": issued / (4 * LANES),
            "arithmetic": N * (sum(a for a, _ in STATE.values()) + AGAIN * again) / card.lanes,
            "special": special / card.special,
        }
        ways.append({**clocks, "times": max(clocks.values()) / least})
    return min(ways, key=lambda way: way["times"])
