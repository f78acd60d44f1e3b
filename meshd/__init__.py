"""meshd: a daemon beside an application, one per host, and the mesh that these daemons form.

They see each other (heartbeats with capacity, a TTL), know who leads, and keep shared project documents equal on all
hosts through partitions and crashes. Whatever an instance decides, it can explain.

# The floors

A module imports only from lower floors; a test walks the imports.

    floor 5  __main__  cli/            verbs: talk to a running daemon over its API, or start one
    floor 4  daemon                    composition root: builds everything, nests the nurseries, owns the drain
    floor 3  driver  connections  api/ engine: the only caller of Node.step; one nursery per link; Quart-Trio app;
             runner                    one task per agent
    floor 2  config wire websocket     edges: one outside thing each
             links sockets store
             workspace agents capacity
             systemd logs events
             client               for applications in Python, in their own processes; uses the API, not the daemon
    floor 1  core/                     the protocol, pure: no trio, time, random, logging, json or os
    floor 0  model configuration       words
             project errors

`simulation/` stands beside floor 3: whole meshes of nodes in simulated time. It imports nothing above floor 1.

# The way of a message

    link -> connections (reader) -> wire.decode -> driver's inbox -> Node.step -> one core module -> effects
         -> store (one commit for many steps) -> links' outboxes -> connections (writer) -> link

Read `core/inputs`, `core/node`, one module of the core, `core/effects`, `driver`, `connections`, in that order.
Inputs come through one door, whoever causes them: a link, a timer, an application, a signal. Effects are performed in
order, and what has to be durable is on disk before anybody hears of it: persist, then send.

# Nurseries and drain

    engine       driver                                                cancelled last
      edge       API                                                   stopped last but one, within a deadline
        mesh     links, listener, runner                               deadline: the drain's grace
          tick   heartbeat, TTL, intake, alarm, files, disk, watchdog  cancelled first

# Choices

- Project files are looked at once a second instead of watched by inotify: that works on bind mounts and network file
  systems as well and costs less than 0.1 % of a core. A file deleted by hand is written again: removing a checkout
  must not remove projects on every host; `meshd projects rm` does.
- A change names tombstoned paths in `removed`, because JSON's null is a value. An exchange's answer carries `seqs`, so
  that what came as whole documents is not taken for missed changes.
- The worker starts the exchange, after its queue: the primary's answer then holds both.
- The values of the configuration are a floor below its reader, so that the core can be given them.
- A primary counts a voter from the moment at which it sent what the voter says to have heard (`heard`, the `seq` of a
  presence), instead of an age stated by the voter: a slow network or a sleeping host cannot lengthen that.
- `peersHash` covers failover and `peerTtlMs`, too: a voter with a shorter TTL would elect another while its primary
  still counts on it. Whom a person promoted leads on although index 0 is back.
- `role: primary` that finds no other primary leads as a hub without authority until a majority elects it: documents
  need no majority, claims do. A primary elected in an older term than it knows stands again, and leads on meanwhile.
- After a restart a voter votes at once for whom it followed last, and for nobody else within the TTL; who remembers no
  term, in a mesh past its first, votes for nobody within it. So what a primary counts on survives a voter's restart.
- Terms taken without votes (`priority`, `manual`) are congruent to the index of who takes them: no two instances can
  decide in one term even when each of two sides leads.
- A candidate's links serve its followers: `promote` needs no second dial. Of two links between two instances, opened
  from both sides at once, the one that follows ends one.
- Every instance listens on its sync port, workers too; health shows a worker's `syncPort` as null, as the
  specification has it.
- The last 16 MiB of the disk are kept for what peers send: before they are touched, this host's own commands are
  refused (507 `disk-full`, health `degraded`). A commit that finds no room, or damage, ends the process (exit 74): what
  it holds in memory is then more than what is on its disk. A damaged database is set aside and never salvaged: a part
  of the documents that looks like all of them is worse than none, and the mesh has them.
- A worker's change of the shared settings is refused with a pointer to the primary, not forwarded: who asks learns
  where the decision is made, and success always means that it is on the disk of the host that was asked. What the
  primary's file says is shared as if somebody had set it, and so is what is edited in it; what came over the API is not
  undone by a restart. A primary whose database is older takes back the settings that a worker still holds.
- The categories are a document with a reserved slug (`@categories`), so that they have stamps, replay and exchange like
  projects. Events are what became so on this host, numbered here: two hosts number the same change differently.
- Between the daemon and each agent stands a small process of its own (`guard`), which ends the whole run when its lease
  does or the daemon is gone: a daemon that is stopped or killed could not. It costs 25 ms of CPU and 10 MiB a run.
- An agent's output and errors are one log, in the order in which they came; so its result is the last line that is a
  JSON object with `prUrl` or `error`, whichever stream it was written to.
- The holder of a claim writes what becomes of it into the claim's register itself, as a change like any other: durable,
  queued while there is no primary, replayed once. So there is no message to settle a claim, and none that can be lost.
  What comes too late loses the merge and is kept as a conflict.
- A new primary decides about claims when a majority of the voters has compared documents with it (`compared` ends an
  exchange, and carries what the voter has stored): what was granted stands in their documents or among that. A
  proposal is never abandoned; who waits in vain for 30 s turns elsewhere, and a grant that comes too late is an orphan.
- The holder's lease runs from the moment at which it sent the heartbeat that was answered (`beat` and `leases`), the
  primary's patience from when it heard it: no delay makes the two overlap. The lock delay comes before the claim is
  taken back, not after. The primary does not count a holder's agents: the holder does, and knows better.
- Between the daemon and a command stands a guard, a process of its own: it ends the command in time when the daemon is
  stopped or killed. A command that a daemon's end has ended is not begun again under the same claim.
- Without a command a host claims what applications ask for, by `PUT /api/capacity` or by waiting for work, and nothing
  when nobody does: what it holds would wait, and no other host could have it.
- A feature is handed to one application, by its name (`by`): who asks again under that name gets it again. What was
  taken for somebody who hung up meanwhile is given back. The daemon does not watch applications: one that is killed
  keeps its claim until it, or a person, says something of it.
- Intake is switched by the setting `autoMode`, shared for all hosts or local for one. A phase that is `pending` can be
  claimed; one that names a `claimedBy` and no status counts as claimed.
- With `hivemind.enabled: false` an instance is its own primary: nothing is queued, nobody is dialled.
"""

__version__ = "0.1.0"
