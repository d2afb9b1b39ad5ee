//! Every bound in one place, with what keeps them consistent with each other. Nothing in Gramme grows
//! without one of these above it; full means refuse or shed with a clear error.

/// A key's bytes, without its bucket.
pub const KEY_BYTES_MAX: usize = 1024;
/// A bucket's name.
pub const BUCKET_NAME_BYTES_MAX: usize = 64;
/// A value in a bucket that sets no limit of its own.
pub const VALUE_BYTES_DEFAULT_MAX: usize = 1 << 20;
/// A value in any bucket.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// A content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Names and values of a record's metadata, together.
pub const META_BYTES_MAX: usize = 8 << 10;
/// Metadata entries of one sibling.
pub const META_ENTRIES_MAX: usize = 64;

/// Siblings from which on a put is counted and warned of.
pub const SIBLINGS_SOFT_MAX: usize = 16;
/// Siblings at which a coordinator refuses puts that do not shrink the set.
pub const SIBLINGS_MAX: usize = 100;
/// Bytes of all siblings at which a coordinator refuses puts that do not shrink the set, as a multiple
/// of the bucket's value limit.
pub const SIBLING_BYTES_VALUES_MAX: usize = 4;
/// Request ids of overwritten siblings that a record remembers, so that a late retry of one is known; 34 bytes
/// each. Of more those stay that are among so many newest by stamp or by turn, twice as many at most; a retry of
/// another one leaves a false sibling.
pub const SPENT_MAX: usize = 16;
/// The most that a record bears: the newest by stamp and the newest by turn may be others.
pub const SPENT_KEPT_MAX: usize = 2 * SPENT_MAX;
/// How long a record remembers them, in milliseconds: the five minutes in which a retry may come (correctness.md 3.4), and
/// as much as clocks may differ that are wrong by ten minutes either way.
pub const SPENT_MS_MAX: u64 = 30 * 60 * 1000;
/// Intervals of one record's clock that a decoder accepts.
pub const CLOCK_INTERVALS_MAX: usize = 1 << 16;
/// Runs of one row of a seen clock. A row is written with every record that adds to it, so it stays small;
/// of a replica that missed more, the oldest exceptions are forgotten, which claims less than is true.
pub const SEEN_RUNS_MAX: usize = 512;
/// Incarnations that one frontier names: one for each life of a home or hint store that wrote in the partition.
/// At half of them somebody is told; beyond all of them new ones are left out.
pub const FRONTIER_ENTRIES_MAX: usize = 4096;
/// Intervals that a context may carry; headers of a few KiB pass every proxy.
pub const CONTEXT_INTERVALS_MAX: usize = 128;

/// One frame between peers. Larger than any record a coordinator accepts plus one more value of the
/// largest size, which a concurrent put may add before either sees the other.
pub const FRAME_BYTES_MAX: usize = 96 << 20;
const _: () = assert!(
    FRAME_BYTES_MAX
        > (SIBLING_BYTES_VALUES_MAX + 1) * VALUE_BYTES_MAX
            + SIBLINGS_MAX * (META_BYTES_MAX + 1024)
            + (1 << 20),
    "a record that coordinators accept must fit a peer frame, or replicas could never converge"
);
/// Bytes waiting for one peer; beyond it messages to that peer are dropped and counted.
pub const PEER_QUEUE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Messages waiting for one peer.
pub const PEER_QUEUE_MESSAGES_MAX: usize = 16 << 10;

/// Lines of an explained answer that peers pass on.
pub const EXPLAIN_LINES_MAX: usize = 1024;

/// Arguments of one command at the Redis door.
pub const RESP_ARGS_MAX: usize = 64 << 10;
/// One argument there: the largest value and a little, so that a value just too large is refused by name.
pub const RESP_BULK_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);
/// One inline command, and any line that announces a count or a length.
pub const RESP_INLINE_BYTES_MAX: usize = 64 << 10;
/// All bytes of one command there.
pub const RESP_COMMAND_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(
    RESP_COMMAND_BYTES_MAX > RESP_BULK_BYTES_MAX + (1 << 20),
    "a command with the largest value must fit, or SET would be refused by length"
);

/// Partitions of a ring: a power of two.
pub const PARTITIONS_MAX: usize = 4096;
/// Partitions when nothing else is said.
pub const PARTITIONS_DEFAULT: usize = 256;
/// Members of a cluster (the paper, 6.6: a couple of hundred, full membership everywhere).
pub const MEMBERS_MAX: usize = 256;
/// An encoded layout: its slots take at most two bytes each, its members some hundred.
pub const LAYOUT_BYTES_MAX: usize = 256 << 10;
/// Layouts that a node remembers, the latest ones: the history of a ring.
pub const CHAIN_MAX: usize = 256;
/// Staged changes of the ring, those that were taken back and those that are done included: three of each member, and
/// some.
pub const STAGED_MAX: usize = 4 * MEMBERS_MAX;
/// The name of one.
pub const STAGED_KEY_BYTES_MAX: usize = 64;
/// What one says.
pub const STAGED_BYTES_MAX: usize = 1024;
/// What a node says of itself.
pub const FACT_BYTES_MAX: usize = 1536;
/// Entries in one message of gossip, in bytes; one always goes.
pub const GOSSIP_BYTES_MAX: usize = 256 << 10;
/// Entries that a node can know: layouts, staged changes, and nodes that are, were or want to be members, with how far each
/// has come.
pub const GOSSIP_ENTRIES_MAX: usize = CHAIN_MAX + STAGED_MAX + 4 * MEMBERS_MAX;
/// Entries that have arrived and wait for those before them to be durable, in bytes; what exceeds it is dropped, and
/// comes again with a later exchange.
pub const GOSSIP_WAITING_BYTES_MAX: usize = 4 * GOSSIP_BYTES_MAX;
/// What a node says of itself is refused if it is stamped further ahead than this. Only its own later words are measured
/// against it, so a clock that is wrong by a time zone does no harm; one that is not set at all must not use stamps up.
pub const FACT_AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// The time that an attempt to commit a layout may take, in milliseconds; whoever is silent is asked again until then.
pub const COMMIT_MS: u64 = 8000;
/// After how long members that have not answered a question of it are asked again.
pub const COMMIT_ASK_MS: u64 = 1000;
/// How long a change of the ring may take to be durable at the node that was asked for it.
pub const STAGE_MS: u64 = 5000;
/// For so many later versions something is known of a removed node.
pub const REMOVED_KNOWN_VERSIONS: u64 = 32;
/// Peers that are told at once what was news.
pub const GOSSIP_PUSHES: usize = 3;
/// Copies of a partition.
pub const N_MAX: usize = 7;
/// Removed nodes that a layout remembers, so that none comes back with what it held: one a day for 22 years. The
/// layout takes 8 bytes for each.
pub const REMOVED_MAX: usize = 8 << 10;
const _: () = assert!(
    LAYOUT_BYTES_MAX > 2 * N_MAX * PARTITIONS_MAX + 8 * REMOVED_MAX + 256 * MEMBERS_MAX,
    "the largest ring must fit a layout, with a good 256 bytes for each member"
);
/// A staged member's name, zone, or one of its addresses.
pub const MEMBER_TEXT_BYTES_MAX: usize = 240;
const _: () = assert!(
    STAGED_BYTES_MAX > 4 * (MEMBER_TEXT_BYTES_MAX + 2) + 32,
    "a join must fit what gossip carries of a staged change"
);
const _: () = assert!(
    FACT_BYTES_MAX > 5 * (MEMBER_TEXT_BYTES_MAX + 2) + 32,
    "what a member says of itself must fit what gossip carries of a node"
);
/// Buckets with settings of their own.
pub const BUCKETS_MAX: usize = 1024;

/// Keys of one page of a list.
pub const LIST_PAGE_KEYS_MAX: usize = 512;
/// Bytes of one page of a list, after which it ends with the row that passed it.
pub const LIST_PAGE_BYTES_MAX: usize = 1 << 20;
/// How often a home looks again at what it is asked for because its reclaim frontier advanced meanwhile, before it
/// refuses. Frontiers advance every few seconds, and what was looked at is cached.
pub const LOOKS_MAX: usize = 4;

/// A request's time from its arrival at a door to its answer.
pub const REQUEST_MS: u64 = 1000;
/// The longest deadline that a client may ask for.
pub const REQUEST_MS_MAX: u64 = 30_000;
/// A client's wait for one attempt, after which it tries another node.
pub const CLIENT_ATTEMPT_MS: u64 = 300;
/// A fallback is asked for a silent home after that peer's p99, but never earlier than this.
pub const FALLBACK_AFTER_MS_MIN: u64 = 20;
/// ... and never later than this.
pub const FALLBACK_AFTER_MS_MAX: u64 = 150;
/// A read is hedged after the peer's p95, but never earlier than this.
pub const HEDGE_AFTER_MS_MIN: u64 = 2;
/// ... and never later than this.
pub const HEDGE_AFTER_MS_MAX: u64 = 100;
/// Hedged reads per hundred reads.
pub const HEDGE_PERCENT_MAX: u64 = 5;
/// Between two pings of a peer from which nothing else was heard.
pub const PING_MS: u64 = 250;
/// A gap in a node's own event loop after which it refuses the writes that were waiting in its sockets.
pub const FREEZE_MS: u64 = 500;
/// How long after such a gap writes are refused: what waited in the sockets arrives within it.
pub const THAW_MS: u64 = 100;
/// ... and how often the loop's own timer must have come round since, for a busy machine comes to them later.
pub const THAW_ROUNDS: u32 = 4;
/// Between two exchanges with one random peer: of bucket settings, and of what the cluster knows.
pub const GOSSIP_MS: u64 = 1000;
/// A remote stamp further ahead than this never moves a node's clock.
pub const CLOCK_AHEAD_MS_MAX: u64 = 500;

/// Hints that one node keeps for others when settings say nothing, in MiB; beyond it new ones are refused, and the
/// next fallback is asked.
pub const HINTS_MB: u32 = 1024;
/// The most that settings may allow, in MiB.
pub const HINTS_MB_MAX: u32 = 1 << 20;
/// Bytes of one partition's hint store.
pub const HINT_STORE_BYTES_MAX: u64 = 256 << 20;
/// Runs of one hint store's seen clock. It lives in memory alone and never forgets, so it is bounded by refusal.
pub const HINT_RUNS_MAX: usize = 1 << 16;
/// Between two rounds in which hints are offered to their homes.
pub const HANDOFF_MS: u64 = 1000;
/// A home's time to pull what it was offered; after it, it is offered again, and a pull that has begun goes on.
pub const OFFER_MS: u64 = 5000;
/// Offers of one shard that are under way.
pub const OFFERS_MAX: usize = 8;
/// Pull sessions from hint stores that one shard runs at a time.
pub const HINT_PULLS_MAX: usize = 32;
/// Per cent of a node's hint bytes from which on somebody should look.
pub const HINTS_ALARM_PERCENT: u64 = 80;
/// What a hint takes beyond its key and its value, at a guess.
pub const HINT_OVERHEAD_BYTES: usize = 256;

/// Client operations in flight in one shard; beyond it new ones are refused before work is started.
pub const IN_FLIGHT_MAX: usize = 4096;
/// Bytes of the values of those operations.
pub const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;
/// Requests of peers that wait for one shard's disk, and acknowledgements that do; beyond it requests are
/// refused before work is started.
pub const SERVED_MAX: usize = 16 << 10;
/// Bytes of one batch of a shard, after which the next one is begun; a single record may be larger.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes that one shard keeps waiting for its disk; beyond it puts and merges are refused before anything of
/// them is done.
pub const UNSYNCED_BYTES_MAX: usize = 128 << 20;
/// Between two offers of a batch to an engine that had no room for it.
pub const BATCH_RETRY_MS: u64 = 5;
/// Decoded records that one shard keeps at hand, in bytes, when settings say nothing.
pub const RECORD_CACHE_BYTES: usize = 16 << 20;

/// What merging one record costs in background work besides its bytes, in bytes: small records keep a processor
/// busy long before they fill a disk or a network.
pub const RECORD_COST_BYTES: u64 = 4 << 10;
/// What reading or removing one row costs besides its bytes, in bytes.
pub const ROW_COST_BYTES: u64 = 1 << 10;
/// Bytes per second of background work that one shard always lets through, however busy it is.
pub const BACKGROUND_BYTES_MIN: u64 = 2 << 20;
/// ... when nothing is known yet.
pub const BACKGROUND_BYTES_START: u64 = 16 << 20;
/// ... when nothing else goes on.
pub const BACKGROUND_BYTES_MAX: u64 = 256 << 20;
/// Slices that wait at once in one shard; every background flow waits for one at a time.
pub const SLICES_WAITING_MAX: usize = 4096;
/// Between two offers of a batch to a disk that had no room for it.
pub const FULL_RETRY_MS: u64 = 200;
/// Rows whose stored bytes cannot be read that one shard remembers in order to mend them; more are mended once
/// somebody asks for them again.
pub const DAMAGED_ROWS_MAX: usize = 4096;
/// Between two looks for partitions with rows that cannot be read and that nobody can name; jittered by a quarter
/// either way.
pub const NAMES_MS: u64 = 20_000;
/// After how long such a partition is compared again with the keys of its other homes, if it is damaged still.
pub const NAMES_AGAIN_MS: u64 = 30 * 60 * 1000;
/// Between two attempts to mend one damaged row.
pub const MEND_RETRY_MS: u64 = 500;
/// Between two rounds in which a home finds out what everyone has seen and lets go of it; jittered by a quarter
/// either way.
pub const RECLAIM_MS: u64 = 2000;
/// Bytes that one slice of such a round reads.
pub const RECLAIM_SLICE_BYTES: u64 = 256 << 10;
/// Between two rounds in which a home looks for incarnations that have ended with a hole; jittered by a quarter either
/// way. A hole is looked into only if it is still the same a round later.
pub const CLOSING_MS: u64 = 4000;
/// Incarnations that one round asks about.
pub const SURVEY_MAX: usize = 256;
/// The time that a question about ended incarnations may take, in milliseconds.
pub const SURVEY_MS: u64 = 3000;
/// Between two comparisons of seen clocks with every peer; jittered by a quarter either way.
pub const EXCHANGE_MS: u64 = 2500;
/// How long after a start a home waits for its co-homes to say what they remember of it, before it is
/// trusted without their word.
pub const CHECK_MS: u64 = 2000;
/// Between two writes of what a home remembers of its co-homes.
pub const REMEMBER_MS: u64 = 10_000;
/// Records of one page of a pull session: few, since whoever makes a page or merges it does little else meanwhile.
pub const PULL_PAGE_RECORDS_MAX: usize = 128;
/// Bytes of one page of a pull session, after which it ends with the record that passed it.
pub const PULL_PAGE_BYTES_MAX: usize = 256 << 10;
/// Bytes that the sender of a page reads at most to fill it; what is left is the next page's.
pub const PULL_SCAN_BYTES_MAX: usize = 1 << 20;
/// How long the asker of a pull session waits for one page.
pub const PULL_PAGE_MS: u64 = 5000;
/// How long a pull session is kept for an asker that does not go on.
pub const PULL_LEASE_MS: u64 = 3 * PULL_PAGE_MS;
/// Pull sessions that one shard serves at a time; beyond it new ones are refused.
pub const PULLS_SERVED_MAX: usize = 32;
/// Pull sessions that one shard asks for at a time.
pub const PULLS_ASKED_MAX: usize = 4;
/// Dots of recent writes of one shard whose keys are remembered, so that a session that lacks only those
/// reads their keys and not the partition.
pub const RECENT_DOTS_MAX: usize = 32 << 10;
/// Missing dots up to which a session looks for their keys instead of reading the partition.
pub const PULL_KEYS_MAX: usize = 4096;

/// Read repairs on their way at once in one shard; those that are left out are seen again by the next read.
pub const READ_REPAIRS_MAX: usize = 256;
/// ... and the bytes that they carry; one always may.
pub const READ_REPAIRS_BYTES_MAX: usize = 32 << 20;
/// Reads per second of one shard that found nothing and ask the remaining homes behind their answer.
pub const ASIDE_READS_PER_S: u64 = 1000;
/// Between two audits of a partition with another home of it, when settings say nothing.
pub const AUDIT_MS: u64 = 5 * 60 * 1000;
/// Between the two comparisons of an audit: what was on its way at the first is no difference at the second.
pub const AUDIT_PAUSE_MS: u64 = 1500;
/// Leaves that one audit of a partition looks into; what differs beyond them is found by the next.
pub const AUDIT_LEAVES_MAX: usize = 1024;
/// Nodes of a hash tree in one question.
pub const TREE_NODES_MAX: usize = 64;
/// Keys in one answer that lists leaves.
pub const TREE_KEYS_MAX: usize = 1024;
/// Rows that are read at once to build a hash tree or to list its leaves.
pub const TREE_PAGE_ROWS: usize = 128;
/// Bytes of such a page, after which it ends with the row that passed it.
pub const TREE_PAGE_BYTES: usize = 1 << 20;
/// Bytes of one shard's hash trees. An idle cluster's take none, a partition's with up to 16,384 keys 4 KiB: one
/// MiB for 256 partitions.
pub const TREE_SHARD_BYTES_MAX: usize = 64 << 20;
/// Between two looks for partitions that were quiet since the last and whose tree can be stored.
pub const TREE_CHECKPOINT_MS: u64 = 60 * 1000;
/// In which all home partitions are reread once, when settings say nothing: a week.
pub const SCRUB_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// After its expiry, and before up to six times as long, a value is replaced by a tombstone.
pub const EXPIRY_AFTER_MS: u64 = 10 * 1000;
/// Keys whose expiry one shard has in mind, the soonest first; a scan finds the others again once there is room.
pub const EXPIRING_MAX: usize = 32 << 10;
