//! Who keeps what: Figure 2 of the paper, and the laws of placement over random clusters.

#[path = "common/rings.rs"]
mod rings;

use gramme_core::codec::BadBytes;
use gramme_core::layout::BadLayout;
use gramme_core::limits::{MEMBERS_MAX, N_MAX, PARTITIONS_MAX};
use gramme_core::ring::{Position, partition_at, partition_of, position};
use gramme_core::{Key, Layout, Member, NodeId, PartitionId};
use proptest::prelude::*;
use rings::{assert_laws, clusters, letters, member};

#[test]
fn figure_2_a_key_between_a_and_b_lives_on_b_c_and_d() {
    for zones in [["z"; 7], ["1", "2", "3", "4", "5", "6", "7"]] {
        let ring = (1..=7).map(|id| member(id, zones[id as usize - 1], 1)).collect();
        let layout = Layout::first(ring, 3, 8).expect("seven members keep three copies");
        // Partition 0 belongs to A, so the keys of (A, B] are those of partition 1.
        assert_eq!(letters(layout.homes(PartitionId(1))), "BCD");
        let d_stores: Vec<u16> = (0..7).filter(|&p| layout.is_home(PartitionId(p), NodeId(4))).collect();
        assert_eq!(d_stores, [1, 2, 3], "D stores (A,B], (B,C] and (C,D]");
        let around: Vec<String> = (0..8).map(|p| letters(layout.homes(PartitionId(p)))).collect();
        assert_eq!(around, ["ABC", "BCD", "CDE", "DEF", "EFG", "FGA", "GAB", "ABC"]);
    }
}

#[test]
fn a_key_stands_at_its_md5_and_its_top_bits_are_its_partition() {
    let key = Key::new("b", b"key").expect("valid");
    assert_eq!(key.as_bytes(), b"\x01bkey");
    // md5 of 01 62 6b 65 79, by another tool.
    assert_eq!(position(&key), Position(MD5_OF_01_B_KEY));
    assert_eq!(partition_of(&key, 256), PartitionId((MD5_OF_01_B_KEY >> 120) as u16));
    assert_eq!(partition_of(&key, 1), PartitionId(0));
    assert_eq!(partition_at(Position(u128::MAX), 4096), PartitionId(4095));
    assert_eq!(partition_at(Position(1 << 127), 2), PartitionId(1));
}

#[test]
fn members_that_cannot_form_a_ring_are_refused_by_name() {
    let five = || (1..=5).map(|id| member(id, "z", 1)).collect::<Vec<_>>();
    let refused = |members, n, q| Layout::first(members, n, q).expect_err("must be refused");
    assert_eq!(refused(vec![], 1, 8), BadLayout::TooFewMembers { members: 0, n: 1 });
    assert_eq!(refused(five(), 6, 8), BadLayout::TooFewMembers { members: 5, n: 6 });
    assert_eq!(refused(five(), 0, 8), BadLayout::Copies(0));
    assert_eq!(refused(five(), N_MAX + 1, 8), BadLayout::Copies(N_MAX + 1));
    for q in [0, 3, 257, PARTITIONS_MAX * 2] {
        assert_eq!(refused(five(), 3, q), BadLayout::Partitions(q));
    }
    let mut same = five();
    same[4].id = NodeId(1);
    assert_eq!(refused(same, 3, 8), BadLayout::Twice("id".into()));
    let mut same = five();
    same[4].address = same[0].address.clone();
    assert_eq!(refused(same, 3, 8), BadLayout::Twice("address".into()));
    let mut weightless = five();
    weightless[2].weight = 0;
    assert_eq!(refused(weightless, 3, 8), BadLayout::NoWeight("node3".into()));
    let crowd = (1..=MEMBERS_MAX as u64 + 1).map(|id| member(id, "z", 1)).collect();
    assert_eq!(refused(crowd, 3, 8), BadLayout::TooManyMembers(MEMBERS_MAX + 1));
}

#[test]
fn the_largest_cluster_is_laid_out() {
    let members: Vec<Member> = (1..=MEMBERS_MAX as u64)
        .map(|id| member(id, &format!("zone{}", id % 5), 1 + id as u32 % 3))
        .collect();
    let layout = Layout::first(members, N_MAX, PARTITIONS_MAX).expect("within every limit");
    assert_laws(&layout);
}

#[test]
fn weights_beyond_what_a_member_can_take_spill_to_the_others() {
    // One member has nearly all the weight, but never two copies of one partition.
    let layout = Layout::first(
        vec![member(1, "a", 1_000_000), member(2, "b", 1), member(3, "c", 1), member(4, "d", 1)],
        2,
        64,
    )
    .expect("valid");
    let slots: Vec<usize> = (1..=4).map(|id| layout.slots_of(NodeId(id))).collect();
    assert_eq!(slots[0], 64);
    assert_eq!(slots.iter().sum::<usize>(), 128);
    assert!(slots[1..].iter().all(|s| (21..=22).contains(s)), "{slots:?}");
    assert_laws(&layout);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn laws_of_placement(cluster in clusters()) {
        let (members, n, q) = cluster;
        let layout = Layout::first(members.clone(), n, q).expect("a valid cluster");
        assert_laws(&layout);
        let backwards = Layout::first(members.into_iter().rev().collect(), n, q).expect("the same cluster");
        prop_assert_eq!(layout.encode(), backwards.encode(), "the order of the list says nothing");
        prop_assert_eq!(layout.hash(), backwards.hash());
    }

    #[test]
    fn a_layout_survives_its_bytes(cluster in clusters()) {
        let (members, n, q) = cluster;
        let layout = Layout::first(members, n, q).expect("a valid cluster");
        let bytes = layout.encode();
        let back = Layout::decode(&bytes).expect("its own bytes");
        prop_assert_eq!(&back, &layout);
        prop_assert_eq!(back.encode(), bytes);
    }

    #[test]
    fn arbitrary_bytes_are_no_layout_and_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), format in 0u8..4) {
        if let Some(first) = bytes.first_mut() {
            *first = format;
        }
        let sum = gramme_core::codec::checksum32(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        // The checksum is right, so that the decoder's own checks are what refuses them.
        prop_assert!(Layout::decode(&bytes).is_err());
    }
}

#[test]
fn a_layout_cut_short_or_altered_is_refused() {
    let layout = Layout::first((1..=4).map(|id| member(id, "z", 1)).collect(), 3, 16).expect("valid");
    let bytes = layout.encode();
    for len in 0..bytes.len() {
        assert!(Layout::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Layout::decode(&altered), Err(BadBytes::Checksum), "bit {bit}");
    }
}

#[test]
fn a_layout_of_a_newer_format_is_refused_as_such() {
    let layout = Layout::first((1..=4).map(|id| member(id, "z", 1)).collect(), 3, 16).expect("valid");
    let mut bytes = layout.encode();
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 4;
    let sum = gramme_core::codec::checksum32(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    assert_eq!(Layout::decode(&bytes), Err(BadBytes::Version(4)));
}

const MD5_OF_01_B_KEY: u128 = 0x91f0_318d_2677_cd7e_cae4_e402_eb4c_2c7e;
