"""Whole meshes of real nodes in simulated time: one seed decides what happens, invariants are checked all along.

    run         many seeds over all cores -> report
    simulation  one seed: a storm of faults and edits, then everything is healed, then quiet, then one instance drains
    world       the event loop; hosts, their timers, clocks and disks
    network     links that keep the order of their frames, and all that can be wrong with them
    faults      what goes wrong, and how it is made good again
    invariants  what must be so whatever went wrong

Nothing here knows trio, a socket or a file: `Node.step` gets its inputs from `world`, and its effects go back there.
The same seed, number of nodes and hours give the same run, to the last frame.
"""
