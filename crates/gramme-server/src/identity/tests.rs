use super::*;
use gramme_storage::memory::MemoryEngine;

const ME: NodeId = NodeId(0xa1);
const B: NodeId = NodeId(0xb2);
const C: NodeId = NodeId(0xc3);
const D: NodeId = NodeId(0xd4);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn disk() -> Store {
    Store::Memory(MemoryEngine::new())
}

async fn open(disk: &Store, node: NodeId) -> Identity {
    Identity::open(disk.clone(), node, [ME, B, C]).await.unwrap()
}

#[test]
fn a_new_store_is_proven_once_every_other_member_has_met_it_and_stays_so() {
    run(async {
        let disk = disk();
        let mut me = open(&disk, ME).await;
        assert_eq!(me.trust(), Trust::Proving);
        assert_eq!(me.told(B, None).await, Ok(None), "one of two is not enough");
        assert_eq!(me.told(B, Some(me.store())).await, Ok(None), "nor is one of them twice");
        assert_eq!(me.told(C, None).await, Ok(Some(Trust::Continuous)));

        let again = open(&disk, ME).await;
        assert_eq!((again.trust(), again.store()), (Trust::Continuous, me.store()));
    });
}

#[test]
fn a_crash_before_the_proof_is_complete_starts_it_again() {
    run(async {
        let disk = disk();
        let store = open(&disk, ME).await.store();
        let mut again = open(&disk, ME).await;
        assert_eq!((again.store(), again.trust()), (store, Trust::Proving));
        again.told(B, Some(store)).await.unwrap();
        assert_eq!(again.told(C, Some(store)).await, Ok(Some(Trust::Continuous)));
    });
}

#[test]
fn an_emptied_disk_is_recognised_and_not_trusted_by_being_forgotten() {
    run(async {
        let old = open(&disk(), ME).await.store();
        let emptied = disk();
        let mut me = open(&emptied, ME).await;
        assert_ne!(me.store(), old);
        me.told(C, None).await.unwrap();
        assert_eq!(me.told(B, Some(old)).await, Ok(Some(Trust::Lost)));
        let mut again = open(&emptied, ME).await;
        for peer in [B, C] {
            again.told(peer, None).await.unwrap();
        }
        assert_eq!(again.trust(), Trust::Lost, "whatever is said later, until it is refilled");
    });
}

#[test]
fn a_lost_store_is_trusted_again_once_every_shard_is_refilled_and_hearing_of_the_old_one_changes_nothing() {
    run(async {
        let disk = disk();
        let mut me = open(&disk, ME).await;
        me.told(B, Some(StoreId(7))).await.unwrap();
        assert_eq!(me.shard_is_whole(0, 2).await, Ok(None));
        assert_eq!(me.shard_is_whole(0, 2).await, Ok(None), "twice the same is still one");
        let mut me = open(&disk, ME).await;
        assert_eq!(me.trust(), Trust::Lost, "a crash before the last of them");
        assert_eq!(me.shard_is_whole(1, 2).await, Ok(None));
        assert_eq!(me.shard_is_whole(0, 2).await, Ok(Some(Trust::Continuous)));
        let mut me = open(&disk, ME).await;
        assert_eq!((me.trust(), me.told(B, Some(StoreId(7))).await), (Trust::Continuous, Ok(None)));
        assert_eq!(me.told(B, Some(StoreId(8))).await, Ok(Some(Trust::Lost)), "one that it never heard of");
        assert_eq!(me.shard_is_whole(1, 2).await, Ok(None), "and all begins anew");
    });
}

#[test]
fn whoever_was_removed_is_waited_for_no_more() {
    run(async {
        let disk = disk();
        let mut me = open(&disk, ME).await;
        me.told(B, None).await.unwrap();
        assert_eq!(me.members_are([ME, B, C, D]).await, Ok(None));
        assert_eq!(me.members_are([ME, B, D]).await, Ok(None), "D has not met it");
        assert_eq!(me.members_are([ME, B]).await, Ok(Some(Trust::Continuous)));
        assert_eq!(open(&disk, ME).await.trust(), Trust::Continuous);
        assert_eq!(
            me.members_are([ME, B, D]).await,
            Ok(None),
            "whoever comes later has known no other store"
        );
        assert_eq!(me.trust(), Trust::Continuous);
    });
}

#[test]
fn a_node_that_asks_to_join_is_proven_by_the_members() {
    run(async {
        let mut joiner = open(&disk(), D).await;
        assert_eq!(joiner.told(B, None).await, Ok(None));
        assert_eq!(joiner.members_are([B, C, D]).await, Ok(None));
        assert_eq!(joiner.told(C, None).await, Ok(Some(Trust::Continuous)));
    });
}

#[test]
fn a_lost_store_is_not_trusted_because_members_went() {
    run(async {
        let mut me = open(&disk(), ME).await;
        me.told(B, Some(StoreId(7))).await.unwrap();
        assert_eq!((me.members_are([ME]).await, me.trust()), (Ok(None), Trust::Lost));
    });
}

#[test]
fn whether_a_store_has_an_owner_is_seen_without_giving_it_one() {
    run(async {
        let disk = disk();
        for _ in 0..2 {
            assert_eq!(Identity::exists(&disk).await, Ok(false));
        }
        open(&disk, ME).await;
        assert_eq!(Identity::exists(&disk).await, Ok(true));
    });
}

#[test]
fn a_member_alone_has_nobody_to_ask() {
    run(async {
        let me = Identity::open(disk(), ME, [ME]).await.unwrap();
        assert_eq!(me.trust(), Trust::Continuous);
    });
}

#[test]
fn a_peer_is_remembered_across_restarts_and_told_of_any_other_store() {
    run(async {
        let disk = disk();
        let mut me = open(&disk, ME).await;
        assert_eq!(me.meet(B, StoreId(1)).await, Ok(None), "never met");
        assert_eq!(me.meet(B, StoreId(1)).await, Ok(Some(StoreId(1))));
        let mut me = open(&disk, ME).await;
        assert_eq!(me.meet(B, StoreId(1)).await, Ok(Some(StoreId(1))));
        assert_eq!(me.meet(B, StoreId(2)).await, Ok(Some(StoreId(1))), "its disk was replaced");
        assert_eq!(me.meet(B, StoreId(2)).await, Ok(Some(StoreId(1))), "and it hears so each time");
    });
}

#[test]
fn the_old_disk_that_returns_lacks_what_the_new_one_acknowledged_and_is_told() {
    run(async {
        let disk = disk();
        let mut me = open(&disk, ME).await;
        me.meet(B, StoreId(1)).await.unwrap();
        me.meet(B, StoreId(2)).await.unwrap();
        assert_eq!(me.meet(B, StoreId(1)).await, Ok(Some(StoreId(2))));

        let mut b = open(&self::disk(), B).await;
        let store = b.store();
        b.told(ME, Some(store)).await.unwrap();
        b.told(C, None).await.unwrap();
        assert_eq!(b.trust(), Trust::Continuous);
        assert_eq!(b.told(ME, Some(StoreId(2))).await, Ok(Some(Trust::Lost)), "even a proven store");
    });
}

#[test]
fn another_members_directory_is_refused_and_untouched() {
    run(async {
        let disk = disk();
        let theirs = open(&disk, B).await.store();
        let refused = Identity::open(disk.clone(), ME, [ME, B, C]).await.err().unwrap();
        assert_eq!(refused, IdentityError::OtherMember { found: B, expected: ME });
        assert_eq!(open(&disk, B).await.store(), theirs);
    });
}

#[test]
fn a_garbled_identity_makes_a_new_store_that_is_not_trusted() {
    run(async {
        let disk = disk();
        let before = open(&disk, ME).await.store();
        let mut batch = Batch::new();
        batch.set(node_row(KIND_IDENTITY, &[]), &b"garbled"[..]);
        disk.commit(batch).await.unwrap();
        let after = open(&disk, ME).await;
        assert_ne!(after.store(), before);
        assert_eq!(after.trust(), Trust::Lost);
        assert_eq!(open(&disk, ME).await.store(), after.store(), "it is whole again");
    });
}

#[test]
fn a_garbled_memory_of_a_peer_never_vouches_for_it() {
    run(async {
        let disk = disk();
        open(&disk, ME).await.meet(B, StoreId(1)).await.unwrap();
        let mut batch = Batch::new();
        batch.set(node_row(KIND_PEER, &B.0.to_be_bytes()), &b"garbled"[..]);
        disk.commit(batch).await.unwrap();
        let told = open(&disk, ME).await.meet(B, StoreId(1)).await.unwrap();
        assert!(told.is_some_and(|store| store != StoreId(1)));
    });
}

#[test]
fn the_golden_rows_are_read_and_written() {
    let elsewhere = vec![StoreId(7), StoreId(9)];
    let identity = encode_identity(NodeId(0xa1), StoreId(0x0102_0304), Trust::Continuous, &elsewhere);
    let memory = encode_memory(Memory { first: StoreId(1), other: Some(StoreId(2)) });
    assert_eq!(hex(&identity), include_str!("../../tests/golden/identity-2.hex").trim());
    assert_eq!(hex(&memory), include_str!("../../tests/golden/peer-1.hex").trim());
    assert_eq!(
        decode_identity(&identity),
        Ok((NodeId(0xa1), StoreId(0x0102_0304), Trust::Continuous, elsewhere))
    );
    assert_eq!(decode_memory(&memory), Ok(Memory { first: StoreId(1), other: Some(StoreId(2)) }));
    for bit in 0..identity.len() * 8 {
        let mut bad = identity.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_identity(&bad).is_err(), "bit {bit}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
