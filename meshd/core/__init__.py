"""The protocol: what instances say to each other, and the rules they decide by. Pure: no I/O, no clock, no threads.

# The wire

One WebSocket per pair of instances, opened by the one that is not primary, on `protolab.syncPort` (4444). Every
message is one text frame holding one JSON object with a string `type`: UTF-8, camelCase keys, times as ISO-8601 UTC
with milliseconds (`2026-03-14T09:26:53.589Z`), stamps as `[utc ms, counter, instanceId]`. Unknown keys are ignored.
An unknown `type` is counted and ignored. A frame that is no such object is counted and logged with the peer's name;
after three of them the link is closed with 1002. A frame is at most 4 MiB (1009).

Two dialects share the port. An instance speaks the **original** dialect until the other side's `identity` carries
`protocol`; then both speak **native**, which has the same messages with more keys, and more types.

| type | sent by | meaning |
|---|---|---|
| `identity` | both, first | who is here: `instanceId`, `name`, `role` (focus), `tags`, `url`, `priority`; native also `protocol`, `minProtocol`, `boot`, `store`, `term`, `syncRole`, `primaryUrl`, `hive`, `peersHash`, `version`, `clock`, `capacity`, `leads` (the term it was elected for, 0 before any election, absent from a worker), `authoritative` (whether it may decide), `leaderEligible` (false: a witness, which votes and never leads) |
| `heartbeat` | both, every `heartbeatIntervalMs` | as identity, with `capacity`; native also `boot`, `term`, `status`, `root` (digest of all documents), `leads`, `authoritative`, `heard` (`seq` of the last presence it had from the primary that it follows), `beat` (the number of this heartbeat), `holding` (the claims that it holds or has asked for, to be renewed, at most 4096), `intake` (whether it claims new work) |
| `goodbye` | who leaves; relayed by the primary | offline at once, without the TTL; native also `boot`, `reason`, `successor` |
| `presence` | primary to workers, on link up, at each heartbeat, at once when a status changes | every member it knows but itself: whole rows, with `leaderEligible`, `intake` and `holding` (how many claims), for those that changed (all when `full`), `instanceId`, `age` (ms since heard) and `root` for the rest |
| `changes` | who made them, then relayed by the primary | accepted edits: `{origin, seq, stamp, slug, life, kind, fields, removed, bases}`, at most 512 or 256 KiB a frame |
| `ack` | primary to origin | everything of `origin` up to `seq` is on the primary's disk |
| `digest` | worker on link up and when roots stay different, either when changes were missed | `documents: {slug: digest}` and `seqs: {origin: seq}`, the last change known of each origin; `answer` says that it is one |
| `documents` | both, in an exchange | `{slug, life, ended, registers: {path: [stamp, value]}}`, `[stamp]` for a tombstone; a large document comes in parts; merged, never overwritten |
| `conflicts` | hub to all; who settled one to the hub | writes that lost, `found`; ids that were looked at, `settled` |
| `feature_event` | original peers (`project_event` is an alias) | a whole document: `project:created`, `project:updated`, `project:deleted`; or the list of categories: `categories:updated` |
| `settings_event` | primary to all, on each change and on link up | all shared settings: `settings`, native also `revision`; a worker that holds a greater revision than its primary returns it with the same message |
| `promote` | a new primary, to all | it leads from here on: `instanceId`, `url`, `priority`; native also `term`; followed when that is with more right than whoever is followed: a later term, or the same one and a better place |
| `vote_request` | candidate to voters | would you (`pre`), or do you, vote for `candidate` in `term`: `priority`, `peersHash`, `transfer` (the primary that handed over) |
| `vote` | voter to candidate | `term` (its own), `pre`, `granted`, `reason`, `proposals` (what it has stored, with a vote that is granted) |
| `you_go` | candidate to a better-placed voter | lead instead of me, in a later term than `term` |
| `hand_over` | primary to its successor | the primary of `term` no longer decides: be the next; `chosen` when a person asked for it |
| `nominate` | who was asked by a person, to the primary | hand over to `instanceId` |
| `claim` | claimant to primary | may I have this phase: `claim` (the name of the request, however often it is sent), `slug`, `milestone`, `phase`, `generation` (as seen), `overflow` (no work of its own focus was found for a while) |
| `decision` | primary to claimant | `claim`, `granted`, `reason` (`granted`, or why not), `generation`, `claimedBy` |
| `propose` | primary to voters | keep the `proposal` of a claim for whoever leads next: `{term, slug, milestone, phase, life, claim, generation, holder, priority, claimedMs, attempts}`; `term` |
| `stored` | voter to primary | the proposal of `claim` in `term` is on its disk (`accepted`), or is not for a `reason` |
| `leases` | primary that decides to holder | the answer to heartbeat `beat`: claims that are `valid` from the moment it was sent, and those that are `lost: {claim: reason}`; `term` |
| `compared` | either, at the end of an exchange | all was sent that the other side lacked; `term`, `proposals` (what it has stored of claims in doubt) |
| `refuse` | either, last | the `code` and `reason` of the close that follows |

Close codes: 1001 going away, 1002 protocol error, 1009 too big, 4403 not allowed, 4406 another protocol or mesh, 4408
too slow, 4409 duplicate instanceId, 4410 superseded by a newer link, 4420 clock skew.

# The modules

`node` routes an input to the one module that decides about it: `handshake` (who may stay on a link), `membership` (who
is there), `election` (who leads, with `dialling` for the way to the primary, `candidacy` and `canvass` for a try to be
elected, `voting` for what binds a voter, `authority` for when a primary may decide, `standing` for the words and the
transition table, `ballot` for what is on disk, `takeover` for what a new primary learns of claims, `partition` for the
time without one, `history` for what was), `succession` (planned hand-over), `explanation` (all of that in words),
`replication` (what the documents are, with `documents` for how they merge, `claim` for who holds a phase, `clock` for
their stamps, `news` for what a step changed and `originals` for what original peers send), `settings` (what all hosts
share, with `settings_schema` for what may be shared and `credentials` for what never is), and `work` (who works on
what).

`work` puts together five: `intake` looks for work and asks, `claims` decides on a primary and stores for it on a voter,
`leases` renews and takes back, `holding` works, settles and gives up, `audit` finds what was done twice. They see the
phases through the `ledger` (claims as they stand) and the `board` (all phases in order, with `projects` and `phases`);
`claimability` says of a phase whether it can be had, by whom and why not, with `affinity` for what suits whom,
`blockage` and `cycles` for what never can. A claim that was granted becomes a `feature`, with its `feature_text`.

`categories` is a document with the reserved slug `@categories`; `events` numbers and keeps what applications are told;
`complaints` counts what peers sent in vain, and says it once.
`upkeep` puts together what keeps an instance right: `convergence` (who holds what we
hold), `compaction` (sizes, and the end of tombstones), `watch` (links, queue, clock) and the `alerts` that they raise.
`inputs` and `effects` are all that goes in and comes out, `messages` all that is said, `snapshot` all that may be
looked at, `stored` all that is remembered, and `kept` what is left of all that was ever to be persisted.
"""  # noqa: E501  the table's rows are one line each
